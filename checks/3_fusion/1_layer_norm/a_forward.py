import torch
from workbook.exercise import Bug, Exercise, Moves, Speed, Variant, by_rows, case, normal

EPS = 1e-5
WRONG = {  # calls that make no sense
    "w": lambda x, w, b: (x, w[1:], b),
    "b": lambda x, w, b: (x, w, b[None, :]),
    "one row": lambda x, w, b: (x[0], w, b),
    "turned": lambda x, w, b: (x.new_empty(x.shape[::-1]).t(), w, b),
}
# what bugs and variants change
KERNEL = "(x_ptr, w_ptr, b_ptr, y_ptr, mean_ptr, rstd_ptr, n, stride_row, eps, BLOCK: tl.constexpr):"
MEAN, CENTRED = "tl.sum(x, 0) / n", "tl.where(mask, x - mean, 0.0)"
VARIANCE = "tl.sum(centred * centred, 0) / n"
STORE = "    tl.store(y_ptr + row * n + columns, centred * rstd * w + b, mask=mask)\n"
STATISTICS = "    tl.store(mean_ptr + row, mean)\n    tl.store(rstd_ptr + row, rstd)\n"
LAUNCH = (
    "        layer_norm_kernel[(m,)](x, w, b, y, mean, rstd, n, x.stride(0), eps, BLOCK=BLOCK, num_warps=num_warps)\n"
)
A_PASS = """    if PASS == 1:
        tl.store(mean_ptr + row, mean)
        tl.store(rstd_ptr + row, rstd)
    else:
        y = (x - tl.load(mean_ptr + row)) * tl.load(rstd_ptr + row) * w + b
        tl.store(y_ptr + row * n + columns, y, mask=mask)
"""
TWO_LAUNCHES = """        for PASS in (1, 2):
            layer_norm_kernel[(m,)](
                x, w, b, y, mean, rstd, n, x.stride(0), eps, PASS=PASS, BLOCK=BLOCK, num_warps=num_warps
            )
"""
OWN_STATISTICS = """        wide = x.float()
        mean.copy_(wide.mean(1))
        rstd.copy_((wide.var(1, correction=0) + eps).rsqrt())
"""
NARROW = "(centred * centred).to(x_ptr.dtype.element_ty).to(tl.float32)"
SEVERAL = KERNEL.replace("n, stride", "m, n, stride")


def inputs(
    m, n, dtype=torch.float32, weights=None, stride=None, scale=1.0, mean=1.0, eps=EPS, values="normal", wrong=None
):
    """weights: dtype of w and b; None: that of x. stride: elements from one row to the next; None: n."""
    stride, weights = n if stride is None else stride, weights or dtype
    x = normal(m, n, dtype=dtype, scale=scale, mean=mean, strides=(stride, 1))
    w, b = normal(n, dtype=weights, mean=1.0), normal(n, dtype=weights)
    if values == "nan":
        x[0, n // 2] = x[2, -1] = torch.nan
    elif values == "inf":
        x[0, n // 2] = x[1, -1] = torch.inf
        x[1, 0] = -torch.inf
    if wrong:
        x, w, b = WRONG[wrong](x, w, b)
    return x, w, b, eps


def normalised(x, w, b, eps):
    mean = x.mean(1, keepdim=True)
    rstd = ((x - mean).square().mean(1, keepdim=True) + eps).rsqrt()
    statistics = torch.promote_types(x.dtype, torch.float32)
    return ((x - mean) * rstd * w + b).to(x.dtype), mean[:, 0].to(statistics), rstd[:, 0].to(statistics)


def torch_norm(x, w, b, eps):
    return torch.nn.functional.layer_norm(x, w.shape, w, b, eps)


def gems(x, w, b, eps):
    import flag_gems

    return flag_gems.layer_norm(x, w.shape, w, b, eps)


def liger(x, w, b, eps):
    from liger_kernel.ops.layer_norm import layer_norm_forward

    return layer_norm_forward(x, w, b, eps)[0]


def in_and_out(x, w, b, eps):
    return 2 * x.nbytes + w.nbytes + b.nbytes + 8 * x.shape[0]


def with_weights(x, w, b, eps):
    # a program has to ask for w and b anew; they come from a cache
    return 2 * x.nbytes + x.shape[0] * (w.nbytes + b.nbytes + 8)


exercise = Exercise(
    entry="layer_norm",
    outputs=("y", "mean", "rstd"),
    inputs=inputs,
    reference=normalised,
    provisional=True,
    cases=[
        case(m=5, n=1000), case(m=1, n=1), case(m=3, n=2), case(m=0, n=5),
        case(m=3, n=1023), case(m=3, n=1024), case(m=3, n=1025), case(m=2, n=8191), case(m=1, n=32768),
        case(m=5, n=777, dtype=torch.float16), case(m=5, n=2048, dtype=torch.bfloat16),
        case(m=1, n=32749, dtype=torch.bfloat16), case(m=5, n=300, dtype=torch.bfloat16, weights=torch.float32),
        case(m=5, n=300, stride=307), case(m=4, n=300, stride=0, dtype=torch.bfloat16),
        # mean**2 is a million times the variance; the square of a number, and the sum of the row, are inf in fp16
        case(m=8, n=1000, dtype=torch.float16, mean=1000.0),
        case(m=4, n=1000, dtype=torch.bfloat16, mean=-1000.0, scale=20.0),
        case(m=4, n=1000, dtype=torch.float16, mean=1000.0, scale=1000.0),
        # eps is most of the variance; all of it
        case(m=4, n=100, scale=1e-3, mean=0.0), case(m=4, n=100, scale=0.0, mean=3.0), case(m=4, n=100, eps=2.0),
        case(m=4, n=300, values="nan"), case(m=4, n=300, values="inf"),
        case(m=2**16 + 1, n=2**15, dtype=torch.bfloat16, needs_gb=28, slices=by_rows(2**11)),
    ],
    refuses=[
        case(m=1, n=32769), case(m=2, n=0), case(m=3, n=4, wrong="w"), case(m=3, n=4, wrong="b"),
        case(m=3, n=4, wrong="one row"), case(m=3, n=4, wrong="turned"),
    ],
    # rows that lie apart, so that making them contiguous first is a copy
    moves=[Moves(case(m=8, n=2**12, dtype=torch.bfloat16, stride=2**12 + 64), bytes=with_weights)],
    speed=[
        Speed(
            case(m=16384, n=4096, dtype=torch.bfloat16), bytes=in_and_out, target=0.86,
            peers={"torch": torch_norm, "torch.compile": torch_norm, "liger": liger, "flag_gems": gems},
        ),
        Speed(
            case(m=16384, n=8192, dtype=torch.bfloat16), bytes=in_and_out, target=0.85,
            peers={"torch": torch_norm, "torch.compile": torch_norm, "liger": liger, "flag_gems": gems},
        ),
    ],
    bugs=[
        Bug("two reads: the statistics in a launch of their own",
            (KERNEL, KERNEL.replace("BLOCK:", "PASS: tl.constexpr, BLOCK:")),
            (STORE, A_PASS), (STATISTICS, ""), (LAUNCH, TWO_LAUNCHES), rung="moves"),
        Bug("torch finds the statistics",
            (STORE, A_PASS.replace("PASS == 1", "False")), (STATISTICS, ""),
            (LAUNCH, OWN_STATISTICS + LAUNCH), rung="moves"),
        Bug("asks torch to copy x first",
            ("    y = torch.empty(", "    x = x.contiguous()\n    y = torch.empty("), rung="moves"),
        Bug("lanes past the end count", (CENTRED, "x - mean"), caught="m=5,n=1000"),
        Bug("divides by BLOCK", (MEAN, "tl.sum(x, 0) / BLOCK"), caught="m=5,n=1000"),
        Bug("the variance of a sample", (VARIANCE, "tl.sum(centred * centred, 0) / (n - 1)"), caught="m=5,n=1000"),
        Bug("mean of the squares less square of the mean",
            (VARIANCE, "(tl.sum(x * x, 0) / n - mean * mean)"), caught="m=8,n=1000,fp16,mean=1000.0"),
        Bug("squares in x's dtype",
            (VARIANCE, f"tl.sum({NARROW}, 0) / n"), caught="m=4,n=1000,fp16,mean=1000.0,scale=1000.0"),
        Bug("keeps mean and rstd in x's dtype",
            ("torch.empty(m, dtype=torch.float32,", "torch.empty(m, dtype=x.dtype,"), caught="m=5,n=777,fp16"),
        Bug("adds eps to the deviation",
            (f"tl.rsqrt({VARIANCE} + eps)", f"1 / (tl.sqrt({VARIANCE}) + eps)"),
            caught="m=4,n=100,scale=0.0,mean=3.0"),
        Bug("forgets eps", (" / n + eps)", " / n + 1e-12)"), caught="m=4,n=100,scale=0.001,mean=0.0"),
        Bug("1e-5 whatever eps is", (" / n + eps)", " / n + 1e-5)"), caught="m=4,n=100,eps=2.0"),
        Bug("returns the deviation", ("rstd_ptr + row, rstd", "rstd_ptr + row, 1 / rstd"), caught="m=5,n=1000"),
        Bug("normalises and forgets the mean", ("centred * rstd * w", "x * rstd * w"), caught="m=5,n=1000"),
        Bug("takes the rows to be adjacent", ("rstd, n, x.stride(0),", "rstd, n, n,"), caught="m=5,n=300,stride=307"),
        Bug("stores rows as far apart as it loads them",
            ("y_ptr + row * n", "y_ptr + row * stride_row"), caught="m=5,n=300,stride=307"),
        Bug("stores past the row's end", ("* w + b, mask=mask)", "* w + b)"), caught="m=5,n=1000"),
        Bug("blocks of 1024, however long the row", ("triton.next_power_of_2(n)", "1024"), caught="m=3,n=1025"),
        Bug("takes any width", ("not 1 <= x.shape[1] <= 32768", "x.shape[1] < 1"), caught="m=1,n=32769"),
    ],
    variants=[
        Variant("centred twice, which makes up for the rounding of the mean",
            ("    rstd = tl", "    centred = tl.where(mask, centred - tl.sum(centred, 0) / n, 0.0)\n    rstd = tl")),
        Variant("one pass, in distances from the first element", fill={1: """
            row = tl.program_id(0).to(tl.int64)
            columns = tl.arange(0, BLOCK)
            mask = columns < n
            first = tl.load(x_ptr + row * stride_row).to(tl.float32)
            x = tl.load(x_ptr + row * stride_row + columns, mask=mask).to(tl.float32)
            x = tl.where(mask, x - first, 0.0)
            shift = tl.sum(x) / n
            rstd = 1 / tl.sqrt(tl.sum(x * x) / n - shift * shift + eps)
            scale = rstd * tl.load(w_ptr + columns, mask=mask, other=0.0).to(tl.float32)
            y = (x - shift) * scale + tl.load(b_ptr + columns, mask=mask, other=0.0).to(tl.float32)
            tl.store(y_ptr + row * n + columns, y.to(y_ptr.dtype.element_ty), mask=mask)
            tl.store(mean_ptr + row, first + shift)
            tl.store(rstd_ptr + row, rstd)
        """}),
        Variant("several rows a program, side by side",
            (KERNEL, SEVERAL.replace("BLOCK:", "ROWS: tl.constexpr, BLOCK:")), fill={1: """
            rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
            columns = tl.arange(0, BLOCK)
            mask = (rows < m)[:, None] & (columns < n)[None, :]
            x = tl.load(x_ptr + rows[:, None] * stride_row + columns[None, :], mask=mask, other=0.0).to(tl.float32)
            w = tl.load(w_ptr + columns, mask=columns < n).to(tl.float32)
            b = tl.load(b_ptr + columns, mask=columns < n).to(tl.float32)
            mean = tl.sum(x, 1) / n
            centred = tl.where(mask, x - mean[:, None], 0.0)
            rstd = tl.rsqrt(tl.sum(centred * centred, 1) / n + eps)
            y = centred * rstd[:, None] * w[None, :] + b[None, :]
            tl.store(y_ptr + rows[:, None] * n + columns[None, :], y, mask=mask)
            tl.store(mean_ptr + rows, mean, mask=rows < m)
            tl.store(rstd_ptr + rows, rstd, mask=rows < m)
        """, 2: """
            y = torch.empty_like(x, memory_format=torch.contiguous_format)
            mean, rstd = (torch.empty(m, dtype=torch.float32, device=x.device) for _ in range(2))
            BLOCK = triton.next_power_of_2(n)
            ROWS = max(4096 // BLOCK, 1)
            if m:
                layer_norm_kernel[(triton.cdiv(m, ROWS),)](
                    x, w, b, y, mean, rstd, m, n, x.stride(0), eps, ROWS=ROWS, BLOCK=BLOCK, num_warps=8
                )
            return y, mean, rstd
        """}),
        Variant("a row after the other, with w and b kept", (KERNEL, SEVERAL), fill={1: """
            columns = tl.arange(0, BLOCK)
            mask = columns < n
            w = tl.load(w_ptr + columns, mask=mask, other=0.0).to(tl.float32)
            b = tl.load(b_ptr + columns, mask=mask, other=0.0).to(tl.float32)
            for row in range(tl.program_id(0).to(tl.int64), m, tl.num_programs(0)):
                x = tl.load(x_ptr + row * stride_row + columns, mask=mask, other=0.0).to(tl.float32)
                mean = tl.sum(x, 0) / n
                x = (x - mean) * mask
                rstd = tl.rsqrt(tl.sum(x * x, 0) / n + eps)
                tl.store(y_ptr + row * n + columns, x * (rstd * w) + b, mask=mask)
                tl.store(mean_ptr + row, mean)
                tl.store(rstd_ptr + row, rstd)
        """, 2: """
            y = torch.empty(m, n, dtype=x.dtype, device=x.device)
            mean, rstd = torch.empty(2, m, dtype=torch.float32, device=x.device)
            if m == 0:
                return y, mean, rstd
            BLOCK = max(128, triton.next_power_of_2(n))
            layer_norm_kernel[(min(m, 512),)](
                x, w, b, y, mean, rstd, m, n, x.stride(0), eps, BLOCK=BLOCK, num_warps=8 if n > 1024 else 4
            )
            return y, mean, rstd
        """}),
    ],
)
