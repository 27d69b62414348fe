import torch
from workbook.exercise import Bug, Exercise, Moves, Speed, Variant, by_rows, case, normal


def inputs(m, n, dtype=torch.float32, stride=None, scale=1.0, mean=0.0, values="normal"):
    """stride: elements from one row to the next; None: the rows are adjacent."""
    x = normal(m, n, dtype=dtype, scale=scale, mean=mean, strides=(n if stride is None else stride, 1))
    if values == "masked":  # some; all but the last; all
        x[0, ::2] = x[1, :-1] = x[2] = -torch.inf
    elif values == "nan":
        x[0, n // 2] = x[1, -1] = x[2, 0] = torch.nan
        x[2, 1:] = -torch.inf
    elif values == "inf":
        x[0, 0] = x[1, -1] = torch.inf
        x[1, 0] = -torch.inf
    return (x,)


def softmax(x):
    return torch.softmax(x, 1)


def gems(x):
    import flag_gems

    return flag_gems.softmax(x, 1)


def liger(x):
    from liger_kernel.ops.softmax import LigerSoftmaxFunction

    return LigerSoftmaxFunction.apply(x)


def in_and_out(x):
    return 2 * x.nbytes


# what bugs and variants change
KERNEL = "(x_ptr, out_ptr, n, stride_row, BLOCK: tl.constexpr):"
ROW = """    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    mask = columns < n
    x = tl.load(x_ptr + row * stride_row + columns, mask=mask, other=float("-inf")).to(tl.float32)
"""
EXPS = "    exps = exp(x - tl.max(x, 0))\n"
STORE = "    tl.store(out_ptr + row * n + columns, exps * (1 / tl.sum(exps, 0)), mask=mask)\n"
LAUNCH = "        row_softmax_kernel[(m,)](x, out, n, x.stride(0), BLOCK=BLOCK, num_warps=num_warps)\n"
THREE_LAUNCHES = """        top = torch.empty(m, dtype=torch.float32, device=x.device)
        total = torch.empty_like(top)
        for PASS in (1, 2, 3):
            row_softmax_kernel[(m,)](
                x, top, total, out, n, x.stride(0), PASS=PASS, BLOCK=BLOCK, num_warps=num_warps
            )
"""
A_PASS = """    if PASS == 1:
        tl.store(top_ptr + row, tl.max(x, 0))
    else:
        exps = exp(x - tl.load(top_ptr + row))
        if PASS == 2:
            tl.store(total_ptr + row, tl.sum(exps, 0))
        else:
            tl.store(out_ptr + row * n + columns, exps / tl.load(total_ptr + row), mask=mask)
"""
THREE_LOOPS = """    row = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, 1024)
    tops = tl.full((1024,), float("-inf"), tl.float32)
    for start in range(0, n, 1024):
        mask = start + lanes < n
        x = tl.load(x_ptr + row * stride_row + start + lanes, mask=mask, other=float("-inf")).to(tl.float32)
        tops = tl.maximum(tops, x)
    top = tl.max(tops, 0)
    exps = tl.zeros((1024,), tl.float32)
    for start in range(0, n, 1024):
        mask = start + lanes < n
        x = tl.load(x_ptr + row * stride_row + start + lanes, mask=mask, other=float("-inf")).to(tl.float32)
        exps += tl.where(mask, tl.exp(x - top), 0.0)
    total = tl.sum(exps, 0)
    for start in range(0, n, 1024):
        mask = start + lanes < n
        x = tl.load(x_ptr + row * stride_row + start + lanes, mask=mask).to(tl.float32)
        tl.store(out_ptr + row * n + start + lanes, tl.exp(x - top) / total, mask=mask)
"""

exercise = Exercise(
    entry="row_softmax",
    outputs=("softmax",),
    inputs=inputs,
    reference=softmax,
    cases=[
        case(m=5, n=1000), case(m=1, n=1), case(m=3, n=2), case(m=0, n=5), case(m=5, n=0),
        case(m=3, n=1023), case(m=3, n=1024), case(m=3, n=1025), case(m=2, n=8191), case(m=1, n=32768),
        case(m=5, n=777, dtype=torch.float16), case(m=5, n=2048, dtype=torch.bfloat16),
        case(m=1, n=32767, dtype=torch.bfloat16),
        case(m=5, n=300, stride=307), case(m=4, n=300, stride=0, dtype=torch.bfloat16),
        case(m=4, n=100, scale=1e4), case(m=4, n=100, scale=1e4, dtype=torch.float16),
        # in 16 bits: x * log2(e) - top is one instruction on a GPU; the interpreter rounds twice, which fp32 would show
        case(m=4, n=1000, scale=20.0, mean=1e4, dtype=torch.float16),
        case(m=4, n=1000, scale=100.0, mean=-1e4, dtype=torch.bfloat16),
        case(m=4, n=300, values="masked"), case(m=4, n=256, dtype=torch.float16, values="masked"),
        case(m=4, n=300, values="nan"), case(m=3, n=300, values="inf"),
        case(m=2**16 + 1, n=2**15, dtype=torch.bfloat16, needs_gb=28, slices=by_rows(2**11)),
    ],
    # rows that lie apart, so that making them contiguous first is a copy
    moves=[Moves(case(m=8, n=2**12, dtype=torch.bfloat16, stride=2**12 + 64), bytes=in_and_out)],
    speed=[
        Speed(
            case(m=16384, n=8192, dtype=torch.bfloat16), bytes=in_and_out, target=0.88,
            peers={"torch": softmax, "torch.compile": softmax, "flag_gems": gems, "liger": liger},
        ),
    ],
    bugs=[
        Bug("three passes over memory",
            (KERNEL, "(x_ptr, top_ptr, total_ptr, out_ptr, n, stride_row, PASS: tl.constexpr, BLOCK: tl.constexpr):"),
            (EXPS, ""), (STORE, A_PASS), (LAUNCH, THREE_LAUNCHES), rung="moves"),
        Bug("three passes in one launch", (ROW, THREE_LOOPS), (EXPS, ""), (STORE, ""), rung="moves"),
        Bug("torch subtracts the maximum",
            ("    if x.numel() > 0:\n", "    if x.numel() > 0:\n        x = x.float() - x.amax(1, keepdim=True)\n"),
            rung="moves"),
        Bug("asks torch to copy x first", ("m, n = x.shape", "m, n, x = *x.shape, x.contiguous()"), rung="moves"),
        Bug("no maximum is subtracted", ("x - tl.max(x, 0)", "x"), caught="m=4,n=100,scale=10000.0"),
        Bug("subtracts no maximum below 0",
            ("tl.max(x, 0)", "tl.maximum(tl.max(x, 0), 0.0)"), caught="m=4,n=1000,scale=100.0,mean=-10000.0,bf16"),
        Bug("lanes past the end hold 0", ('other=float("-inf")', "other=0.0"), caught="m=5,n=1000"),
        Bug("2**x for e**x", ("a * 1.4426950408889634", "a"), caught="m=5,n=1000"),
        Bug("a row of -inf gives zeros",
            ("x - tl.max(x, 0)", "x - tl.maximum(tl.max(x, 0), -1e30)"),
            ("tl.sum(exps, 0)", "tl.maximum(tl.sum(exps, 0), 1e-30)"), caught="m=4,n=300,values=masked"),
        Bug("a NaN counts as -inf", ("    exps =", '    x = tl.where(x == x, x, float("-inf"))\n    exps ='),
            caught="m=4,n=300,values=nan"),
        Bug("takes the rows to be adjacent", ("out, n, x.stride(0),", "out, n, n,"), caught="m=5,n=300,stride=307"),
        Bug("stores rows as far apart as it loads them",
            ("out_ptr + row * n", "out_ptr + row * stride_row"), caught="m=5,n=300,stride=307"),
        Bug("blocks of 1024, however long the row",
            ("triton.next_power_of_2(n)", "1024"), caught="m=3,n=1025"),
        Bug("leaves out the last row", ("[(m,)]", "[(max(1, m - 1),)]"), caught="m=5,n=1000"),
        Bug("stores without a mask", ("(1 / tl.sum(exps, 0)), mask=mask)", "(1 / tl.sum(exps, 0)))"),
            caught="m=5,n=1000"),
    ],
    variants=[
        Variant("one multiply-add an exponent", (EXPS, """
    exps = tl.exp2(tl.fma(x, 1.4426950408889634, -1.4426950408889634 * tl.max(x, 0)))
""")),
        Variant("in base 2 from the start", (EXPS, """
    x *= 1.4426950408889634
    exps = tl.exp2(x - tl.max(x, 0))
""")),
        Variant("log-sum-exp in place of the division", fill={1: """
            row = tl.program_id(0).to(tl.int64)
            columns = tl.arange(0, BLOCK)
            x = tl.load(x_ptr + row * stride_row + columns, mask=columns < n).to(tl.float32)
            x = tl.where(columns < n, x, float("-inf"))
            x -= tl.max(x)
            out = tl.exp(x - tl.log(tl.sum(tl.exp(x))))
            tl.store(out_ptr + row * n + columns, out.to(out_ptr.dtype.element_ty), mask=columns < n)
        """}),
        Variant("several short rows a program",
            (KERNEL, "(x_ptr, out_ptr, m, n, stride_row, ROWS: tl.constexpr, BLOCK: tl.constexpr):"), fill={1: """
            rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
            columns = tl.arange(0, BLOCK)[None, :]
            mask = (rows < m) & (columns < n)
            x = tl.load(x_ptr + rows * stride_row + columns, mask=mask, other=float("-inf")).to(tl.float32)
            exps = tl.exp(x - tl.max(x, 1, keep_dims=True))
            tl.store(out_ptr + rows * n + columns, exps / tl.sum(exps, 1, keep_dims=True), mask=mask)
        """, 2: """
            BLOCK = triton.next_power_of_2(n)
            ROWS = max(4096 // BLOCK, 1)
            grid = (triton.cdiv(m, ROWS),)
            row_softmax_kernel[grid](x, out, m, n, x.stride(0), ROWS=ROWS, BLOCK=BLOCK, num_warps=8)
        """}),
        Variant("a row after the other, four a program", (KERNEL, KERNEL.replace("n,", "m, n,")), fill={1: """
            columns = tl.arange(0, BLOCK)
            mask = columns < n
            for i in range(4):
                row = tl.program_id(0).to(tl.int64) * 4 + i
                here = mask & (row < m)
                x = tl.load(x_ptr + row * stride_row + columns, mask=here, other=float("-inf")).to(tl.float32)
                exps = exp(x - tl.max(x, 0))
                tl.store(out_ptr + row * n + columns, exps / tl.sum(exps, 0), mask=here)
        """, 2: """
            BLOCK = max(128, triton.next_power_of_2(n))
            row_softmax_kernel[(triton.cdiv(m, 4),)](x, out, m, n, x.stride(0), BLOCK=BLOCK)
        """}),
    ],
)
