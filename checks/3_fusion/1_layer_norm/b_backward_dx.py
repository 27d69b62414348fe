import torch
from workbook.exercise import Bug, Exercise, Moves, Speed, Variant, by_rows, case, gradients, normal
from workbook.layouts import MATRIX

EPS = 1e-5
WRONG = {  # calls that make no sense
    "dy": lambda dy, x, w, mean, rstd: (dy[:, 1:], x, w, mean, rstd),
    "w": lambda dy, x, w, mean, rstd: (dy, x, w[1:], mean, rstd),
    "mean": lambda dy, x, w, mean, rstd: (dy, x, w, mean[:, None], rstd),
    "rstd": lambda dy, x, w, mean, rstd: (dy, x, w, mean, rstd[1:]),
    "one row": lambda dy, x, w, mean, rstd: (dy[0], x[0], w, mean, rstd),
    "turned": lambda dy, x, w, mean, rstd: (dy, x.new_empty(x.shape[::-1]).t(), w, mean, rstd),
}
# what bugs and variants change
KERNEL = """
    dy_ptr, x_ptr, w_ptr, mean_ptr, rstd_ptr, dx_ptr, n, stride_dy_m, stride_dy_n, stride_x, BLOCK: tl.constexpr
"""
SEVERAL = KERNEL.replace(" n,", " m, n,").replace(" BLOCK:", " ROWS: tl.constexpr, BLOCK:")
G, SUM, PRODUCTS = "    g = dy * w\n", "tl.sum(g, 0) / n", "tl.sum(g * normalised, 0) / n"
FORMULA = f"rstd * (g - {SUM} - normalised * ({PRODUCTS}))"
DX = "    dx = torch.empty("
LAUNCH = "        layer_norm_backward_dx_kernel[(m,)](\n"
STATISTICS_KERNEL = """@triton.jit
def statistics_kernel(x_ptr, mean_ptr, rstd_ptr, n, stride_x, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * stride_x + columns, mask=columns < n, other=0.0).to(tl.float32)
    mean = tl.sum(x, 0) / n
    centred = tl.where(columns < n, x - mean, 0.0)
    tl.store(mean_ptr + row, mean)
    tl.store(rstd_ptr + row, tl.rsqrt(tl.sum(centred * centred, 0) / n + 1e-5))


@triton.jit
"""
STATISTICS = """        mean, rstd = torch.empty_like(mean), torch.empty_like(rstd)
        statistics_kernel[(m,)](x, mean, rstd, n, x.stride(0), BLOCK=BLOCK, num_warps=num_warps)
"""


def statistics(x):
    """What 3.1a returns beside y."""
    if x.is_meta:
        return normal(len(x)), normal(len(x))
    mean = x.double().mean(1, keepdim=True)
    variance = (x.double() - mean).square().mean(1)
    return mean[:, 0].float(), (variance + EPS).rsqrt().float()


def inputs(
    m, n, dy="rows", dtype=torch.float32, weights=None, stride=None,
    scale=1.0, mean=1.0, loss=1.0, values="normal", wrong=None,
):
    """dy: where it lies. weights: dtype of w. stride: elements from one row of x to the next. loss: scale of dy."""
    upstream = normal(m, n, dtype=dtype, scale=loss, strides=MATRIX[dy](m, n))
    x = normal(m, n, dtype=dtype, scale=scale, mean=mean, strides=(n if stride is None else stride, 1))
    w = normal(n, dtype=weights or dtype, mean=1.0)
    if values == "nan":
        upstream[0, n // 2] = x[1, -1] = torch.nan
    made = upstream, x, w, *statistics(x)
    return WRONG[wrong](*made) if wrong else made


def normalised(x, w):
    centred = x - x.mean(1, keepdim=True)
    return (centred * (centred.square().mean(1, keepdim=True) + EPS).rsqrt() * w).to(x.dtype)


def backward(dy, x, w, mean, rstd):
    return gradients(lambda x: normalised(x, w), [x], dy)[0]


def torch_backward(dy, x, w, mean, rstd):
    dx_alone = [True, False, False]
    return torch.ops.aten.native_layer_norm_backward(
        dy, x, w.shape, mean[:, None], rstd[:, None], w, None, dx_alone
    )[0]


def gems(dy, x, w, mean, rstd):
    import flag_gems

    return flag_gems.layer_norm_backward(dy, x, w.shape, mean, rstd, w, None, [True, False, False])[0]


def liger(dy, x, w, mean, rstd):
    from liger_kernel.ops.layer_norm import layer_norm_backward

    return layer_norm_backward(dy, x, w, w, mean, rstd, needs_dw=False, needs_db=False)[0]


def in_and_out(dy, x, w, mean, rstd):
    return 3 * x.nbytes + w.nbytes + mean.nbytes + rstd.nbytes


def with_weights(dy, x, w, mean, rstd):
    # a program has to ask for w anew; it comes from a cache
    return 3 * x.nbytes + x.shape[0] * (w.nbytes + 8)


exercise = Exercise(
    entry="layer_norm_backward_dx",
    outputs=("dx",),
    inputs=inputs,
    reference=backward,
    deterministic=True,
    provisional=True,
    cases=[
        case(m=5, n=1000), case(m=1, n=1, loss=0.0), case(m=7, n=13), case(m=3, n=17), case(m=0, n=5),
        case(m=3, n=1023), case(m=3, n=1024), case(m=3, n=1025), case(m=2, n=8191), case(m=1, n=32768),
        case(m=5, n=777, dtype=torch.float16), case(m=5, n=2048, dtype=torch.bfloat16),
        case(m=1, n=32749, dtype=torch.bfloat16), case(m=5, n=300, dtype=torch.bfloat16, weights=torch.float32),
        case(m=5, n=300, stride=307), case(m=4, n=300, stride=0, dtype=torch.bfloat16),
        case(m=5, n=300, dy="padded"), case(m=5, n=300, dy="columns"), case(m=5, n=300, dy="every_other"),
        case(m=5, n=300, dy="same"), case(m=5, n=300, dy="same_columns"),
        case(m=5, n=300, dy="same_rows", dtype=torch.bfloat16),
        # mean**2 is a million times the variance; a loss that was scaled up: dy * w is inf in fp16
        case(m=8, n=1000, dtype=torch.float16, mean=1000.0),
        case(m=4, n=1000, dtype=torch.bfloat16, mean=-1000.0, scale=20.0),
        case(m=4, n=1000, dtype=torch.float16, scale=100.0, loss=1e4),
        # eps is most of the variance; all of it
        case(m=4, n=100, scale=1e-3), case(m=4, n=100, scale=0.0, mean=3.0),
        case(m=4, n=300, values="nan"),
        case(m=2**16 + 1, n=2**15, dy="columns", dtype=torch.bfloat16, needs_gb=44, slices=by_rows(2**11)),
    ],
    refuses=[
        case(m=1, n=32769), case(m=3, n=4, wrong="dy"), case(m=3, n=4, wrong="w"), case(m=3, n=4, wrong="mean"),
        case(m=3, n=4, wrong="rstd"), case(m=3, n=4, wrong="one row"), case(m=3, n=4, wrong="turned"),
    ],
    # rows that lie apart, so that making them contiguous first is a copy
    moves=[Moves(case(m=8, n=2**12, dy="padded", dtype=torch.bfloat16, stride=2**12 + 64), bytes=with_weights)],
    speed=[
        Speed(
            case(m=16384, n=4096, dtype=torch.bfloat16), bytes=in_and_out, target=0.80,
            peers={"torch": torch_backward, "torch.compile": torch_backward, "liger": liger, "flag_gems": gems},
        ),
        Speed(
            case(m=16384, n=8192, dtype=torch.bfloat16), bytes=in_and_out, target=0.80,
            peers={"torch": torch_backward, "torch.compile": torch_backward, "liger": liger, "flag_gems": gems},
        ),
    ],
    bugs=[
        Bug("finds the statistics anew, from memory",
            ("@triton.jit\n", STATISTICS_KERNEL), (LAUNCH, STATISTICS + LAUNCH), rung="moves"),
        Bug("asks torch to copy dy first", (DX, f"    dy = dy.contiguous()\n{DX}"), rung="moves"),
        Bug("asks torch for dy in fp32", (DX, f"    dy = dy.float()\n{DX}"), rung="moves"),
        Bug("mean and variance taken for constants", (FORMULA, "rstd * g"), caught="m=5,n=1000"),
        Bug("the mean taken for a constant", (f"g - {SUM} - ", "g - "), caught="m=5,n=1000"),
        Bug("the variance taken for a constant", (f" - normalised * ({PRODUCTS})", ""), caught="m=5,n=1000"),
        Bug("forgets rstd", ("dx = rstd * (", "dx = ("), caught="m=4,n=1000,fp16,scale=100.0,loss=10000.0"),
        Bug("divides by BLOCK", (SUM, "tl.sum(g, 0) / BLOCK"), caught="m=5,n=1000"),
        Bug("forgets w", (G, "    g = dy\n"), caught="m=5,n=1000"),
        Bug("multiplies by w once more", (f"rstd * (g - {SUM}", f"rstd * (g * w - {SUM}"), caught="m=5,n=1000"),
        Bug("x in place of the normalised row", (PRODUCTS, "tl.sum(g * x, 0) / n"), caught="m=5,n=1000"),
        Bug("takes the statistics of row 0", ("mean_ptr + row", "mean_ptr"), caught="m=5,n=1000"),
        Bug("multiplies in dy's dtype",
            (G, "    g = (dy.to(x_ptr.dtype.element_ty) * w.to(x_ptr.dtype.element_ty)).to(tl.float32)\n"),
            caught="m=4,n=1000,fp16,scale=100.0,loss=10000.0"),
        Bug("lanes past the end hold anything",
            ("dy_ptrs, mask=mask, other=0.0", "dy_ptrs, mask=mask"), caught="m=5,n=1000"),
        Bug("takes dy to be contiguous", ("n, *dy.stride(),", "n, n, 1,"), caught="m=5,n=300,dy=same"),
        Bug("takes the elements of a row of dy to be adjacent",
            ("n, *dy.stride(),", "n, dy.stride(0), 1,"), caught="m=5,n=300,dy=columns"),
        Bug("takes the rows of x to be adjacent", ("x.stride(0), BLOCK", "n, BLOCK"), caught="m=5,n=300,stride=307"),
        Bug("stores rows as far apart as those of x",
            ("dx_ptr + row * n", "dx_ptr + row * stride_x"), caught="m=5,n=300,stride=307"),
        Bug("stores past the row's end", ("columns, dx, mask=mask", "columns, dx"), caught="m=5,n=1000"),
        Bug("takes a dy of another shape", ("dy.shape != x.shape", "False"), caught="m=3,n=4,wrong=dy"),
    ],
    variants=[
        Variant("the sums first, then one multiply-add after the other", fill={1: """
            row = tl.program_id(0).to(tl.int64)
            columns = tl.arange(0, BLOCK)
            inside = columns < n
            mean, rstd = tl.load(mean_ptr + row), tl.load(rstd_ptr + row)
            at = row * stride_dy_m + columns.to(tl.int64) * stride_dy_n
            g = tl.load(dy_ptr + at, mask=inside, other=0.0).to(tl.float32)
            g *= tl.load(w_ptr + columns, mask=inside, other=0.0).to(tl.float32)
            centred = tl.load(x_ptr + row * stride_x + columns, mask=inside, other=0.0).to(tl.float32) - mean
            slope = tl.sum(g * centred) * rstd * rstd / n
            dx = (g - slope * centred - tl.sum(g) / n) * rstd
            tl.store(dx_ptr + row * n + columns, dx.to(dx_ptr.dtype.element_ty), mask=inside)
        """}),
        Variant("two projections, one after the other", (f"    dx = {FORMULA}\n", """
    g = tl.where(mask, g - tl.sum(g, 0) / n, 0.0)
    dx = rstd * (g - normalised * (tl.sum(g * normalised, 0) / n))
""")),
        Variant("several rows a program, side by side", (KERNEL, SEVERAL), fill={1: """
            rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
            columns = tl.arange(0, BLOCK)[None, :]
            mask = (rows < m) & (columns < n)
            x = tl.load(x_ptr + rows * stride_x + columns, mask=mask, other=0.0).to(tl.float32)
            dy = tl.load(dy_ptr + rows * stride_dy_m + columns.to(tl.int64) * stride_dy_n, mask=mask, other=0.0)
            w = tl.load(w_ptr + columns, mask=columns < n, other=0.0).to(tl.float32)
            mean = tl.load(mean_ptr + rows, mask=rows < m, other=0.0)
            rstd = tl.load(rstd_ptr + rows, mask=rows < m, other=0.0)
            normalised = (x - mean) * rstd
            g = dy.to(tl.float32) * w
            means = tl.sum(g, 1, keep_dims=True) / n, tl.sum(g * normalised, 1, keep_dims=True) / n
            tl.store(dx_ptr + rows * n + columns, rstd * (g - means[0] - normalised * means[1]), mask=mask)
        """, 2: """
            dx = torch.empty_like(x, memory_format=torch.contiguous_format)
            BLOCK = triton.next_power_of_2(n)
            ROWS = max(2048 // BLOCK, 1)
            if m:
                layer_norm_backward_dx_kernel[(triton.cdiv(m, ROWS),)](
                    dy, x, w, mean, rstd, dx, m, n, dy.stride(0), dy.stride(1), x.stride(0),
                    ROWS=ROWS, BLOCK=BLOCK, num_warps=8,
                )
            return dx
        """}),
    ],
)
