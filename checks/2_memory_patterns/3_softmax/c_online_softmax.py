import torch
from workbook.exercise import Bug, Exercise, Moves, Speed, Variant, by_rows, case, normal


def inputs(m, n, dtype=torch.float32, stride=None, scale=1.0, mean=0.0, values="normal"):
    """stride: elements from one row to the next; None: the rows are adjacent."""
    x = normal(m, n, dtype=dtype, scale=scale, mean=mean, strides=(n if stride is None else stride, 1))
    if values == "begins with -inf":  # for more than a block; but for one element; all
        x[0, : n // 2] = x[1, :-1] = x[2] = -torch.inf
    elif values == "ends with -inf":
        x[0, n // 2 :] = x[1, 1:] = -torch.inf
    elif values == "nan":
        x[0, n // 2] = x[1, -1] = x[2, 0] = torch.nan
        x[2, 1:] = -torch.inf
    elif values == "inf":
        x[0, 0] = x[1, -1] = torch.inf
        x[1, 0] = -torch.inf
    elif values == "rising":
        x += torch.linspace(0, 500, n)
    return (x,)


def softmax(x):
    return torch.softmax(x, 1)


def gems(x):
    import flag_gems

    return flag_gems.softmax(x, 1)


def in_and_out(x):
    return 2 * x.nbytes


# what bugs and variants change
KERNEL = "@triton.jit\ndef online_softmax_kernel"
BEGIN = "tl.full((BLOCK,), LOWEST, tl.float32)"
UPDATE = """        higher = tl.maximum(tops, x)
        totals = totals * exp(tops - higher) + exp(x - higher)
        tops = higher
    top = tl.max(tops, 0)
    total = tl.sum(totals * exp(tops - top), 0)
"""
RESCALED = "totals * exp(tops - higher) + exp(x - higher)"
MERGED = "tl.sum(totals * exp(tops - top), 0)"
SECOND_READ = """        tops = tl.maximum(tops, x)
    top = tl.max(tops, 0)
    for start in range(0, n, BLOCK):
        columns = start + lanes
        x = tl.load(x_ptr + row * stride_row + columns, mask=columns < n, other=float("-inf")).to(tl.float32)
        totals += tl.where(columns < n, exp(x - top), 0.0)
    total = tl.sum(totals, 0)
"""
LAUNCH = "BLOCK=16384, num_warps=32"

exercise = Exercise(
    entry="online_softmax",
    outputs=("softmax",),
    inputs=inputs,
    reference=softmax,
    cases=[
        case(m=3, n=40000), case(m=1, n=1), case(m=3, n=2), case(m=0, n=5), case(m=5, n=0), case(m=2, n=1000),
        case(m=2, n=16383), case(m=2, n=16384), case(m=2, n=16385), case(m=1, n=65537),
        case(m=2, n=33000, dtype=torch.float16), case(m=2, n=32768, dtype=torch.bfloat16),
        case(m=3, n=20000, stride=20007), case(m=3, n=20000, stride=0, dtype=torch.bfloat16),
        case(m=3, n=20000, scale=1e4), case(m=3, n=20000, scale=1e4, dtype=torch.float16),
        case(m=3, n=20000, scale=20.0, mean=1e4, dtype=torch.float16),
        case(m=3, n=20000, scale=100.0, mean=-1e4, dtype=torch.bfloat16),
        case(m=2, n=50000, values="rising"),
        case(m=3, n=50000, values="begins with -inf"), case(m=2, n=50000, values="ends with -inf"),
        case(m=3, n=40000, dtype=torch.bfloat16, values="begins with -inf"),
        case(m=3, n=17000, values="nan"), case(m=3, n=17000, values="inf"),
        case(m=2**13 + 1, n=2**18, dtype=torch.bfloat16, needs_gb=28, slices=by_rows(2**8)),
    ],
    # three passes of x: two reads and a write; the second read, which a cache may serve, is asked for all the same
    moves=[Moves(case(m=2, n=2**16, dtype=torch.bfloat16), bytes=lambda x: 3 * x.nbytes)],
    speed=[
        Speed(
            case(m=4096, n=131072, dtype=torch.bfloat16), bytes=in_and_out, target=0.60,
            peers={"torch": softmax, "torch.compile": softmax, "flag_gems": gems},
        ),
    ],
    bugs=[
        Bug("three reads", (UPDATE, SECOND_READ), (LAUNCH, "BLOCK=1024, num_warps=4"), rung="moves"),
        Bug("asks torch for the maximum",
            ("    if x.numel() > 0:\n", "    if x.numel() > 0:\n        x = x.float() - x.amax(1, keepdim=True)\n"),
            rung="moves"),
        Bug("begins with a maximum of -inf",
            (BEGIN, 'tl.full((BLOCK,), float("-inf"), tl.float32)'), caught="m=3,n=50000,values=begins with -inf"),
        Bug("begins with a maximum of 0",
            (BEGIN, "tl.zeros((BLOCK,), tl.float32)"), caught="m=3,n=20000,scale=100.0,mean=-10000.0,bf16"),
        Bug("begins with a maximum of -1000",
            (BEGIN, "tl.full((BLOCK,), -1000.0, tl.float32)"), caught="m=3,n=20000,scale=100.0,mean=-10000.0,bf16"),
        Bug("no maximum is subtracted",
            (UPDATE, "        totals += exp(x)\n    top = 0.0\n    total = tl.sum(totals, 0)\n"),
            caught="m=3,n=20000,scale=10000.0"),
        Bug("the sum is never rescaled", (RESCALED, "totals + exp(x - higher)"), caught="m=2,n=50000,values=rising"),
        Bug("the sum is rescaled the wrong way",
            ("totals * exp(tops - higher)", "totals * exp(higher - tops)"), caught="m=3,n=40000"),
        Bug("the new element is rescaled, not the sum",
            (RESCALED, "totals + exp(x - tops)"), caught="m=3,n=40000"),
        Bug("the maximum is the last block's", ("tl.maximum(tops, x)", "x"), caught="m=3,n=40000"),
        Bug("the lanes are added as if all had one maximum", (MERGED, "tl.sum(totals, 0)"), caught="m=3,n=40000"),
        Bug("lanes past the end hold 0", ('other=float("-inf")', "other=0.0"), caught="m=3,n=2"),
        Bug("2**x for e**x", ("a * 1.4426950408889634", "a"), caught="m=3,n=40000"),
        Bug("stores what is not divided", ("exp(x - top) * scale", "exp(x - top)"), caught="m=3,n=40000"),
        Bug("a row of -inf gives zeros",
            ("1 / total", "1 / tl.maximum(total, 1e-30)"), caught="m=3,n=50000,values=begins with -inf"),
        Bug("a NaN counts as -inf",
            ("        higher =", '        x = tl.where(x == x, x, float("-inf"))\n        higher ='),
            ("exp(x - top) * scale", "tl.where(x == x, exp(x - top), 0.0) * scale"), caught="m=3,n=17000,values=nan"),
        Bug("takes the rows to be adjacent", ("out, n, x.stride(0),", "out, n, n,"), caught="m=3,n=20000,stride=20007"),
        Bug("the second pass takes whole blocks only",
            ("    scale = 1 / total\n", "    scale = 1 / total\n    n = n // BLOCK * BLOCK\n"), caught="m=3,n=40000"),
    ],
    variants=[
        Variant("small blocks", (LAUNCH, "BLOCK=2048, num_warps=8")),
        Variant("one exponential an element", fill={1: """
            tops = tl.full((BLOCK,), LOWEST, tl.float32)
            totals = tl.zeros((BLOCK,), tl.float32)
            for start in range(0, n, BLOCK):
                mask = start + lanes < n
                x = tl.load(x_ptr + row * stride_row + start + lanes, mask=mask, other=float("-inf")).to(tl.float32)
                less = exp(-tl.abs(x - tops))
                totals = tl.where(x > tops, totals * less + 1, totals + less)
                tops = tl.maximum(tops, x)
            top = tl.max(tops, 0)
            total = tl.sum(totals * exp(tops - top), 0)
        """}),
        Variant("a maximum and a sum of the whole row", fill={1: """
            top = float("-inf")
            total = 0.0
            for start in range(0, n, BLOCK):
                columns = start + lanes
                x = tl.load(x_ptr + row * stride_row + columns, mask=columns < n, other=float("-inf")).to(tl.float32)
                higher = tl.maximum(top, tl.max(x, 0))
                safe = tl.where(higher == float("-inf"), 0.0, higher)
                total = total * tl.exp(top - safe) + tl.sum(tl.exp(x - safe), 0)
                top = higher
        """}),
        Variant("the lanes are merged by tl.reduce", (KERNEL, '''@triton.jit
def merge(top_a, total_a, top_b, total_b):
    top = tl.maximum(top_a, top_b)
    return top, total_a * exp(top_a - top) + total_b * exp(top_b - top)


''' + KERNEL), ("    top = tl.max(tops, 0)\n", ""),
            (f"    total = {MERGED}\n", "    top, total = tl.reduce((tops, totals), 0, merge)\n")),
        Variant("the second pass goes back", fill={2: """
            for start in range((n - 1) // BLOCK * BLOCK, -1, -BLOCK):
                mask = start + lanes < n
                x = tl.load(x_ptr + row * stride_row + start + lanes, mask=mask).to(tl.float32)
                tl.store(out_ptr + row * n + start + lanes, exp(x - top) * scale, mask=mask)
        """}),
        Variant("by the log of the sum", fill={2: """
            shift = tl.log(total)
            for start in range(0, n, BLOCK):
                mask = start + lanes < n
                x = tl.load(x_ptr + row * stride_row + start + lanes, mask=mask).to(tl.float32)
                out = tl.exp(x - top - shift)
                tl.store(out_ptr + row * n + start + lanes, out.to(out_ptr.dtype.element_ty), mask=mask)
        """}),
    ],
)
