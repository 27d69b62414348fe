import torch
import torch.nn.functional as F
from workbook.exercise import Bug, Exercise, Moves, Speed, Variant, by_rows, case, normal
from workbook.layouts import MATRIX

OPS = {
    "relu": F.relu, "silu": F.silu, "gelu": F.gelu, "gelu_tanh": lambda y: F.gelu(y, approximate="tanh"),
}


def matrix(m, n, layout, dtype, scale=1.0, mean=0.0):
    return normal(m, n, dtype=dtype, scale=scale, mean=mean, strides=MATRIX[layout](m, n))


def inputs(op, m, n, k, dtype=torch.bfloat16, x="rows", w="rows", mean=0.0, bias=0.0, values="normal"):
    """mean: of x and of w. bias: its mean. Without them a sum has about the spread of one number."""
    x, w = matrix(m, k, x, dtype, mean=mean), matrix(n, k, w, dtype, scale=max(k, 1) ** -0.5, mean=mean)
    bias = normal(n, dtype=dtype, mean=bias)
    if values == "overflow":  # half of the sums are below what fp16 holds
        x += 16
        w[::2] -= 100
    elif values == "infinite":
        x[0, 0], x[1, -1], x[2, 0] = torch.nan, torch.inf, -torch.inf
    elif values == "mismatched w":
        w = w.t()
    elif values == "bias for rows":
        bias = normal(m, dtype=dtype)
    elif values == "bias in fp32":
        bias = bias.float()
    return x, w, bias, op


def linear(x, w, bias, op):
    return OPS[op](F.linear(x, w, bias))


def cublaslt(x, w, bias, op):
    assert op == "gelu_tanh", "cuBLASLt's epilogue has GELU by tanh"
    return torch._addmm_activation(bias, x, w.t(), use_gelu=True)


def necessary(x, w, bias, op):
    return (x.numel() + w.numel() + bias.numel() + x.shape[0] * w.shape[0]) * x.itemsize


def products(x, w, bias, op):
    return 2 * x.shape[0] * w.shape[0] * x.shape[1]


# what bugs and variants change
TILES, STAGES = "TILE_M, TILE_N, TILE_K = 128, 128, 64", "num_warps=4, num_stages=3"
GRID = "triton.cdiv(m, TILE_M) * triton.cdiv(n, TILE_N)"
KERNEL = "@triton.jit\ndef linear_kernel("
BIAS = "    bias = tl.load(bias_ptr + columns, mask=columns < n).to(tl.float32)\n"
ACTIVATE = "activate(acc + bias[None, :], OP)"
OUT = "    out = torch.empty((m, n), dtype=x.dtype, device=x.device)\n"
LAUNCH = "            x, w, bias, out, m, n, k, *x.stride(), *w.stride(), OP=op,\n"
SECOND_PASS = """@triton.jit
def activation_kernel(sums_ptr, out_ptr, size, OP: tl.constexpr, BLOCK: tl.constexpr):
    offsets = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    sums = tl.load(sums_ptr + offsets, mask=offsets < size).to(tl.float32)
    tl.store(out_ptr + offsets, activate(sums, OP), mask=offsets < size)


"""
# in 16 bits where they hold every sum
SUMS = "    sums = torch.empty((m, n), dtype=torch.float32 if x.dtype == torch.float16 else x.dtype, device=x.device)\n"
RETURN = "        ### END SOLUTION\n    return out\n"
SECOND_LAUNCH = """        grid = (triton.cdiv(out.numel(), 2048),)
        activation_kernel[grid](sums, out, out.numel(), OP=op, BLOCK=2048)
"""

exercise = Exercise(
    entry="linear_activation",
    outputs=("out",),
    inputs=inputs,
    reference=linear,
    # in bf16 only what is right even where a second pass rounds the sum once more: GELU, 44 columns or more
    cases=[
        case(op="gelu_tanh", m=130, n=300, k=80), case(op="gelu", m=130, n=300, k=70),
        case(op="silu", m=130, n=300, k=70, dtype=torch.float16), case(op="relu", m=130, n=300, k=70),
        case(op="relu", m=1, n=1, k=1), case(op="gelu", m=128, n=256, k=64), case(op="relu", m=127, n=257, k=65),
        case(op="gelu_tanh", m=67, n=61, k=193), case(op="relu", m=1, n=600, k=100), case(op="relu", m=600, n=1, k=100),
        case(op="gelu", m=0, n=5, k=7), case(op="gelu", m=5, n=0, k=7), case(op="silu", m=5, n=64, k=0),
        case(op="relu", m=2200, n=530, k=16),
        *(case(op=op, m=70, n=90, k=130, dtype=torch.float16) for op in OPS),
        # where GELU is a hundredth of what goes in, and its two forms differ by as much
        *(case(op=op, m=40, n=70, k=50, dtype=torch.float16, bias=-3.0) for op in ("gelu", "gelu_tanh")),
        case(op="silu", m=64, n=64, k=1000, mean=4.0), case(op="gelu", m=64, n=64, k=1000, mean=4.0),
        *(case(op=op, m=40, n=70, k=50, dtype=torch.float16, values="overflow") for op in OPS if op != "relu"),
        *(case(op=op, m=40, n=70, k=50, dtype=torch.float16, values="infinite") for op in OPS),
        case(op="gelu", m=70, n=120, k=130, x="columns", w="columns"),
        case(op="gelu", m=70, n=120, k=130, x="padded", w="every_other"),
        case(op="silu", m=70, n=90, k=130, x="every_other", w="padded", dtype=torch.float16),
        case(op="gelu", m=70, n=120, k=130, x="same_rows"),
        case(op="relu", m=2**16 + 1, n=2**15, k=16, needs_gb=24, slices=by_rows(2**12)),
    ],
    refuses=[
        case(op="relu", m=3, n=4, k=5, values="mismatched w"), case(op="relu", m=3, n=4, k=5, values="bias for rows"),
        case(op="relu", m=3, n=4, k=5, values="bias in fp32"), case(op="relu", m=3, n=4, k=5, dtype=torch.float32),
        case(op="tanh", m=3, n=4, k=5),
    ],
    # tiles of 64 x 128 ask for 1.8 times what is necessary
    moves=[Moves(case(op="gelu_tanh", m=256, n=512, k=64), bytes=necessary, slack=2.0)],
    speed=[
        Speed(
            case(op="gelu_tanh", m=8192, n=14336, k=4096), bytes=necessary, flops=products, target=0.72,
            peers={"torch": linear, "torch.compile": linear, "cublaslt": cublaslt},
        ),
    ],
    bugs=[
        Bug("activates in a second pass", (KERNEL, SECOND_PASS + KERNEL), (ACTIVATE, "acc + bias[None, :]"),
            (OUT, OUT + SUMS), (LAUNCH, LAUNCH.replace("out", "sums")),
            (RETURN, SECOND_LAUNCH + RETURN), rung="moves"),
        Bug("asks torch for a bias as large as out", (BIAS, """
    bias = tl.load(bias_ptr + rows[:, None] * n + columns[None, :],
                   mask=(rows < m)[:, None] & (columns < n)[None, :]).to(tl.float32)
"""), (ACTIVATE, "activate(acc + bias, OP)"), (OUT, OUT + "    bias = bias.expand(m, n).contiguous()\n"),
            rung="moves"),
        Bug("asks torch to transpose w first", (OUT, OUT + "    w = w.t().contiguous().t()\n"), rung="moves"),
        Bug("tiles of 32 x 32", (TILES, "TILE_M, TILE_N, TILE_K = 32, 32, 64"), rung="moves"),
        Bug("rounds the sum before it is activated",
            (ACTIVATE, "activate((acc + bias[None, :]).to(out_ptr.dtype.element_ty).to(tl.float32), OP)"),
            caught="op=gelu,m=40,n=70,k=50,fp16,values=overflow"),
        Bug("adds the bias to what is activated", (ACTIVATE, "activate(acc, OP) + bias[None, :]"),
            caught="op=gelu_tanh,m=130,n=300,k=80"),
        Bug("a bias for each row", (BIAS, BIAS.replace("columns", "rows").replace("< n", "< m")),
            (ACTIVATE, "activate(acc + bias[:, None], OP)"), caught="op=relu,m=1,n=600,k=100"),
        Bug("forgets the bias", (ACTIVATE, "activate(acc, OP)"), caught="op=gelu_tanh,m=130,n=300,k=80"),
        Bug("loads the bias without a mask", (BIAS, BIAS.replace(", mask=columns < n", "")),
            caught="op=gelu_tanh,m=130,n=300,k=80"),
        Bug("GELU by tanh, whatever is asked", ("return x * tl.where(x < 0, tail, 1 - tail)",
            "return libdevice.fast_dividef(x, 1 + tl.exp2(x * (-2.302208198 - 0.1029432397 * x * x)))"),
            caught="op=gelu,m=40,n=70,k=50,fp16,bias=-3.0"),
        Bug("GELU by a sigmoid of 1.702 x", ("x * (-2.302208198 - 0.1029432397 * x * x)", "-2.4554669596 * x"),
            caught="op=gelu_tanh,m=40,n=70,k=50,fp16,bias=-3.0"),
        Bug("silu by e^x above and below the line",
            ("libdevice.fast_dividef(x, 1 + tl.exp2(-1.4426950408889634 * x))", "x * tl.exp(x) / (1 + tl.exp(x))"),
            caught="op=silu,m=64,n=64,k=1000,mean=4.0"),
        Bug("relu as a maximum, which loses NaN", ("tl.where(x < 0, 0.0, x)", "tl.maximum(x, 0.0)"),
            caught="op=relu,m=40,n=70,k=50,fp16,values=infinite"),
        Bug("the sum is kept in bf16", ("tl.dot(x, w, acc)", "tl.dot(x, w, acc).to(tl.bfloat16).to(tl.float32)"),
            caught="op=silu,m=64,n=64,k=1000,mean=4.0"),
        Bug("takes w for [k, n]", ("*w.stride(), OP=op", "*w.stride()[::-1], OP=op"),
            caught="op=gelu_tanh,m=130,n=300,k=80"),
        Bug("takes w for contiguous", ("*w.stride(), OP=op", "k, 1, OP=op"),
            caught="op=gelu,m=70,n=120,k=130,x=columns,w=columns"),
        Bug("no mask along k",
            ("mask=(inner < k - start)[:, None] & (columns < n)[None, :]", "mask=(columns < n)[None, :]"),
            ("mask=(rows < m)[:, None] & (inner < k - start)[None, :]", "mask=(rows < m)[:, None]"),
            caught="op=gelu_tanh,m=130,n=300,k=80"),
        Bug("the last group is as high as the others", ("min(tiles_m - first, GROUP_M)", "GROUP_M"),
            caught="op=gelu_tanh,m=130,n=300,k=80"),
        Bug("drops the ragged tiles", (GRID, "max(1, m // TILE_M) * max(1, n // TILE_N)"),
            caught="op=gelu_tanh,m=130,n=300,k=80"),
    ],
    variants=[
        Variant("tiles of 64 x 128", (TILES, "TILE_M, TILE_N, TILE_K = 64, 128, 64"),
            (STAGES, "num_warps=4, num_stages=4")),
        Variant("tiles of 128 x 256, one program a multiprocessor", (TILES, "TILE_M, TILE_N, TILE_K = 128, 256, 64"),
            (STAGES, "num_warps=8, num_stages=3")),
        Variant("activations as the formulas stand", fill={1: """
            if OP == "relu":
                return tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL)
            elif OP == "silu":
                return x * tl.sigmoid(x)
            elif OP == "gelu":
                return 0.5 * x * (1 + tl.erf(x * 0.7071067811865476))
            else:
                return x * tl.sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))
        """}),
        Variant("a tile of w as it lies, then turned",
            ("w_ptr + inner[:, None] * stride_wk + columns[None, :] * stride_wn",
             "w_ptr + columns[:, None] * stride_wn + inner[None, :] * stride_wk"),
            ("mask=(inner < k - start)[:, None] & (columns < n)[None, :]",
             "mask=(columns < n)[:, None] & (inner < k - start)[None, :]"),
            ("tl.dot(x, w, acc)", "tl.dot(x, w.T, acc)")),
        Variant("the sum begins with the bias", ("    acc = tl.zeros((TILE_M, TILE_N), tl.float32)\n",
            BIAS + "    acc = tl.zeros((TILE_M, TILE_N), tl.float32) + bias[None, :]\n"),
            ("    # after the loop, in which it would hold registers\n" + BIAS, ""), (ACTIVATE, "activate(acc, OP)")),
        Variant("the order of tiles by Triton, a grid of two axes", fill={2: """
            tiles_m, tiles_n = tl.num_programs(1), tl.num_programs(0)
            tile_m, tile_n = tl.swizzle2d(tl.program_id(1), tl.program_id(0), tiles_m, tiles_n, GROUP_M)
            rows = tile_m.to(tl.int64) * TILE_M + tl.arange(0, TILE_M)
            columns = tile_n.to(tl.int64) * TILE_N + tl.arange(0, TILE_N)
            in_rows, in_columns = (rows < m)[:, None], (columns < n)[None, :]
            acc = tl.zeros((TILE_M, TILE_N), tl.float32)
            for start in range(0, k, TILE_K):
                inner = start + tl.arange(0, TILE_K)
                x = tl.load(x_ptr + rows[:, None] * stride_xm + inner[None, :] * stride_xk,
                            mask=in_rows & (inner < k)[None, :], other=0.0)
                w = tl.load(w_ptr + columns[None, :] * stride_wn + inner[:, None] * stride_wk,
                            mask=in_columns & (inner < k)[:, None], other=0.0)
                acc += tl.dot(x, w)
            acc += tl.load(bias_ptr + columns, mask=columns < n, other=0.0)[None, :]
            tl.store(out_ptr + rows[:, None] * n + columns[None, :], activate(acc, OP), mask=in_rows & in_columns)
        """, 3: """
            TILE_M, TILE_N, TILE_K = 128, 128, 64
            grid = (triton.cdiv(n, TILE_N), triton.cdiv(m, TILE_M))
            linear_kernel[grid](
                x, w, bias, out, m, n, k, *x.stride(), *w.stride(), OP=op,
                TILE_M=TILE_M, TILE_N=TILE_N, TILE_K=TILE_K, GROUP_M=8, num_warps=8, num_stages=3,
            )
        """}),
    ],
)
