import torch
import torch.nn.functional as F
from workbook.exercise import Bug, Exercise, Moves, Speed, Variant, by_rows, case, normal
from workbook.layouts import MATRIX


def inputs(m, n, k, dtype=torch.bfloat16, x="rows", w="rows", mean=0.0, values="normal"):
    """mean: of x and of w. Without it a sum has about the spread of one number."""
    x = normal(m, k, dtype=dtype, mean=mean, strides=MATRIX[x](m, k))
    w = normal(2 * n, k, dtype=dtype, scale=max(k, 1) ** -0.5, mean=mean, strides=MATRIX[w](2 * n, k))
    if values == "overflow":  # up is beyond what fp16 holds, the gate nearly closed, and their product in between
        x += 16
        w[:n] = (w[:n] - 10 * k**-1) / 16
        w[n:] -= 100
    elif values == "infinite":
        x[0, 0], x[1, -1], x[2, 0] = torch.nan, torch.inf, -torch.inf
    elif values == "odd w":
        w = w[1:]
    elif values == "mismatched w":
        w = w.t()
    elif values == "w in fp32":
        w = w.float()
    return x, w


def gated(x, w):
    gate, up = F.linear(x, w).chunk(2, 1)
    return F.silu(gate) * up


def liger(x, w):
    from liger_kernel.ops.mlp import gemm_swiglu

    return gemm_swiglu(x[None], *w.chunk(2, 0), 1.0, store_preact=False)[0]


def two_products(x, w):
    gate, up = w.chunk(2, 0)
    return F.silu(F.linear(x, gate)) * F.linear(x, up)


def necessary(x, w):
    return (x.numel() + w.numel() + x.shape[0] * w.shape[0] // 2) * x.itemsize


def products(x, w):
    return 2 * x.shape[0] * w.shape[0] * x.shape[1]


# what bugs and variants change
TILES, GRID = "TILE_M, TILE_N, TILE_K = 128, 128, 64", "triton.cdiv(m, TILE_M) * triton.cdiv(n, TILE_N)"
X_MASK = "mask=(rows < m)[:, None] & (inner < k - start)[None, :]"
W_MASK = "mask=(inner < k - start)[:, None] & (weights < n)[None, :]"
KERNEL = "@triton.jit\ndef gated_kernel("
ONE_TILE = """    lanes = tl.arange(0, 2 * TILE_N)
    weights = column + lanes // 2
"""
W_PTRS = "    w_ptrs = w_ptr + inner[:, None] * stride_wk + (weights + lanes % 2 * n)[None, :] * stride_wn\n"
ACC = "    acc = tl.zeros((TILE_M, 2 * TILE_N), tl.float32)\n"
LOOP = """    for start in range(0, k, TILE_K):
        x = tl.load(x_ptrs, mask=(rows < m)[:, None] & (inner < k - start)[None, :], other=0.0)
        w = tl.load(w_ptrs, mask=(inner < k - start)[:, None] & (weights < n)[None, :], other=0.0)
        acc = tl.dot(x, w, acc)
        x_ptrs += TILE_K * stride_xk
        w_ptrs += TILE_K * stride_wk
"""
SPLIT = "    gate, up = tl.split(tl.reshape(acc, (TILE_M, TILE_N, 2)))\n"
SWIGLU = "libdevice.fast_dividef(gate, 1 + tl.exp2(-1.4426950408889634 * gate)) * up"
STORE = """    out_ptrs = out_ptr + rows[:, None] * n + columns[None, :]
    tl.store(out_ptrs, out, mask=(rows < m)[:, None] & (columns < n)[None, :])
"""
STORE_SUMS = """    sums_ptrs = out_ptr + rows[:, None] * (2 * n) + columns[None, :]
    tl.store(sums_ptrs, gate, mask=(rows < m)[:, None] & (columns < n)[None, :])
    tl.store(sums_ptrs + n, up, mask=(rows < m)[:, None] & (columns < n)[None, :])
"""
SECOND_PASS = """@triton.jit
def swiglu_kernel(sums_ptr, out_ptr, n, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    gate = tl.load(sums_ptr + row * 2 * n + columns, mask=columns < n).to(tl.float32)
    up = tl.load(sums_ptr + row * 2 * n + n + columns, mask=columns < n).to(tl.float32)
    tl.store(out_ptr + row * n + columns, gate * tl.sigmoid(gate) * up, mask=columns < n)


"""
OUT = "    out = torch.empty((m, n), dtype=x.dtype, device=x.device)\n"
# in bf16 they would be too coarse, in fp16 too large
SUMS = "    sums = torch.empty((m, 2 * n), dtype=torch.float32, device=x.device)\n"
LAUNCH = "            x, w, out, m, n, k, *x.stride(), *w.stride(),\n"
RETURN = "        ### END SOLUTION\n    return out\n"
SECOND_LAUNCH = """        swiglu_kernel[(m, triton.cdiv(n, 1024))](sums, out, n, BLOCK=1024)
"""
TWO_TILES = """    columns = column + tl.arange(0, TILE_N)
    gate_ptrs = w_ptr + inner[:, None] * stride_wk + columns[None, :] * stride_wn
    up_ptrs = w_ptr + inner[:, None] * stride_wk + (columns + n)[None, :] * stride_wn
"""
TWO_SUMS = """    gate = tl.zeros((TILE_M, TILE_N), tl.float32)
    up = tl.zeros((TILE_M, TILE_N), tl.float32)
"""
TWO_DOTS = """    for start in range(0, k, TILE_K):
        x = tl.load(x_ptrs, mask=(rows < m)[:, None] & (inner < k - start)[None, :], other=0.0)
        mask = (inner < k - start)[:, None] & (columns < n)[None, :]
        gate = tl.dot(x, tl.load(gate_ptrs, mask=mask, other=0.0), gate)
        up = tl.dot(x, tl.load(up_ptrs, mask=mask, other=0.0), up)
        x_ptrs += TILE_K * stride_xk
        gate_ptrs += TILE_K * stride_wk
        up_ptrs += TILE_K * stride_wk
"""
TWO_LOOPS = """    for start in range(0, k, TILE_K):
        x = tl.load(x_ptrs + start * stride_xk, mask=(rows < m)[:, None] & (inner < k - start)[None, :], other=0.0)
        mask = (inner < k - start)[:, None] & (columns < n)[None, :]
        gate = tl.dot(x, tl.load(gate_ptrs + start * stride_wk, mask=mask, other=0.0), gate)
    for start in range(0, k, TILE_K):
        x = tl.load(x_ptrs + start * stride_xk, mask=(rows < m)[:, None] & (inner < k - start)[None, :], other=0.0)
        mask = (inner < k - start)[:, None] & (columns < n)[None, :]
        up = tl.dot(x, tl.load(up_ptrs + start * stride_wk, mask=mask, other=0.0), up)
"""

exercise = Exercise(
    entry="gated",
    outputs=("out",),
    inputs=inputs,
    reference=gated,
    cases=[
        case(m=130, n=144, k=80), case(m=1, n=1, k=1), case(m=128, n=128, k=64), case(m=127, n=129, k=65),
        case(m=129, n=127, k=63), case(m=67, n=61, k=193), case(m=1, n=300, k=100), case(m=300, n=1, k=100),
        case(m=0, n=5, k=7), case(m=5, n=0, k=7), case(m=5, n=7, k=0), case(m=2200, n=270, k=16),
        case(m=70, n=90, k=130, dtype=torch.float16), case(m=64, n=64, k=1000, mean=4.0),
        case(m=40, n=70, k=50, dtype=torch.float16, values="overflow"), case(m=40, n=70, k=50, values="infinite"),
        case(m=70, n=90, k=130, x="columns", w="columns"), case(m=70, n=90, k=130, x="padded", w="every_other"),
        case(m=70, n=90, k=130, x="every_other", w="padded", dtype=torch.float16),
        case(m=70, n=90, k=130, x="same_rows"),
        case(m=2**16 + 1, n=2**15, k=16, needs_gb=24, slices=by_rows(2**12)),
    ],
    refuses=[
        case(m=3, n=4, k=5, values="odd w"), case(m=3, n=4, k=5, values="mismatched w"),
        case(m=3, n=4, k=5, values="w in fp32"), case(m=3, n=4, k=5, dtype=torch.float32),
    ],
    # tiles of 128 x 128 ask for 1.3 times what is necessary, and where both products load x for 1.7 times
    moves=[Moves(case(m=256, n=128, k=128), bytes=necessary, slack=1.5)],
    speed=[
        Speed(
            case(m=8192, n=14336, k=4096), bytes=necessary, flops=products, target=0.75,
            peers={
                "torch": gated, "torch.compile": gated,
                "two products": two_products, "two products, torch.compile": two_products, "liger": liger,
            },
        ),
    ],
    bugs=[
        Bug("two products and a pass", (KERNEL, SECOND_PASS + KERNEL), (f"    out = {SWIGLU}\n", ""),
            (STORE, STORE_SUMS), (OUT, OUT + SUMS), (LAUNCH, LAUNCH.replace("out", "sums")),
            (RETURN, SECOND_LAUNCH + RETURN), rung="moves"),
        Bug("one product after the other, each with x of its own", (ONE_TILE, ""), (W_PTRS, TWO_TILES),
            (ACC + LOOP, TWO_SUMS + TWO_LOOPS), (SPLIT, ""), rung="moves"),
        Bug("tiles of 32 x 32", (TILES, "TILE_M, TILE_N, TILE_K = 32, 32, 64"), rung="moves"),
        Bug("asks torch to make gate and up take turns first",
            (OUT, OUT + "    w = w.reshape(2, n, k).transpose(0, 1).reshape(2 * n, k).contiguous()\n"),
            ("(weights + lanes % 2 * n)", "(2 * column + lanes)"), rung="moves"),
        Bug("gate and up exchanged", ("gate, up = tl.split", "up, gate = tl.split"), caught="m=130,n=144,k=80"),
        Bug("sigmoid for silu", (SWIGLU, "tl.sigmoid(gate) * up"), caught="m=130,n=144,k=80"),
        Bug("silu of both", (SWIGLU, "gate * tl.sigmoid(gate) * up * tl.sigmoid(up)"), caught="m=130,n=144,k=80"),
        Bug("silu by e^x above and below the line", (SWIGLU, "gate * tl.exp(gate) / (1 + tl.exp(gate)) * up"),
            caught="m=64,n=64,k=1000,mean=4.0"),
        Bug("rounds both sums before they are multiplied", (SPLIT, SPLIT + """
    gate = gate.to(out_ptr.dtype.element_ty).to(tl.float32)
    up = up.to(out_ptr.dtype.element_ty).to(tl.float32)
"""), caught="m=40,n=70,k=50,fp16,values=overflow"),
        Bug("up begins where the tile of gate ends", ("lanes % 2 * n", "lanes % 2 * TILE_N"),
            caught="m=130,n=144,k=80"),
        Bug("takes gate and up for interleaved", ("(weights + lanes % 2 * n)", "(2 * column + lanes)"),
            caught="m=130,n=144,k=80"),
        Bug("splits halves that take turns", (SPLIT,
            "    gate, up = tl.split(tl.permute(tl.reshape(acc, (TILE_M, 2, TILE_N)), (0, 2, 1)))\n"),
            caught="m=130,n=144,k=80"),
        Bug("masks the rows of both weights as one", ("(weights < n)[None, :]", "(weights < 2 * n)[None, :]"),
            caught="m=130,n=144,k=80"),
        Bug("no mask along k", (X_MASK, "mask=(rows < m)[:, None]"), (W_MASK, "mask=(weights < n)[None, :]"),
            caught="m=130,n=144,k=80"),
        Bug("the sums are kept in bf16", ("tl.dot(x, w, acc)", "tl.dot(x, w, acc).to(tl.bfloat16).to(tl.float32)"),
            caught="m=64,n=64,k=1000,mean=4.0"),
        Bug("takes w for contiguous", ("*x.stride(), *w.stride()", "*x.stride(), k, 1"),
            caught="m=70,n=90,k=130,x=columns,w=columns"),
        Bug("out has rows of 2 n", ("rows[:, None] * n + columns", "rows[:, None] * 2 * n + columns"),
            caught="m=130,n=144,k=80"),
        Bug("the last group is as high as the others", ("min(tiles_m - first, GROUP_M)", "GROUP_M"),
            caught="m=130,n=144,k=80"),
        Bug("a grid for tiles as wide as the product's", (GRID, "triton.cdiv(m, TILE_M) * triton.cdiv(n, 2 * TILE_N)"),
            caught="m=130,n=144,k=80"),
    ],
    variants=[
        Variant("two sums, two products a step", (ONE_TILE, ""), (W_PTRS, TWO_TILES),
            (ACC + LOOP, TWO_SUMS + TWO_DOTS), (SPLIT, "")),
        Variant("gate in the first half of the tile, up in the second", ("lanes // 2", "lanes % TILE_N"),
            ("lanes % 2 * n", "lanes // TILE_N * n"),
            (SPLIT, "    gate, up = tl.split(tl.permute(tl.reshape(acc, (TILE_M, 2, TILE_N)), (0, 2, 1)))\n")),
        Variant("tall tiles, silu as it stands", (TILES, "TILE_M, TILE_N, TILE_K = 256, 64, 64"),
            (SWIGLU, "gate * tl.sigmoid(gate) * up")),
        Variant("two weights chosen by address, rows that wrap around", fill={1: """
            tile_m, tile_n = tl.program_id(1), tl.program_id(0)
            rows = tile_m.to(tl.int64) * TILE_M + tl.arange(0, TILE_M)
            columns = tile_n.to(tl.int64) * TILE_N + tl.arange(0, TILE_N)
            gate = tl.zeros((TILE_M, TILE_N), tl.float32)
            up = tl.zeros((TILE_M, TILE_N), tl.float32)
            for start in range(0, k, TILE_K):
                inner = start + tl.arange(0, TILE_K)
                x = tl.load(x_ptr + (rows % m)[:, None] * stride_xm + inner[None, :] * stride_xk,
                            mask=inner[None, :] < k, other=0.0)
                w_ptrs = w_ptr + (columns % n)[:, None] * stride_wn + inner[None, :] * stride_wk
                gate += tl.dot(x, tl.load(w_ptrs, mask=inner[None, :] < k, other=0.0).T)
                up += tl.dot(x, tl.load(w_ptrs + n * stride_wn, mask=inner[None, :] < k, other=0.0).T)
            tl.store(out_ptr + rows[:, None] * n + columns[None, :], gate / (1 + tl.exp(-gate)) * up,
                     mask=(rows < m)[:, None] & (columns < n)[None, :])
        """, 2: """
            TILE_M, TILE_N, TILE_K = 128, 128, 64
            gated_kernel[triton.cdiv(n, TILE_N), triton.cdiv(m, TILE_M)](
                x, w, out, m, n, k, *x.stride(), *w.stride(),
                TILE_M=TILE_M, TILE_N=TILE_N, TILE_K=TILE_K, GROUP_M=1, num_warps=8, num_stages=3,
            )
        """}),
    ],
)
