import torch
from workbook.exercise import Bug, Exercise, Moves, Speed, Variant, by_rows, case, normal


def inputs(m, n, op="max", dtype=torch.float32, apart=0, values="normal"):
    """apart: elements between a row's end and the next row."""
    x = normal(m, n + apart, dtype=dtype)[:, :n]
    sign = 1 if op == "max" else -1
    if values == "last":  # and all of one sign
        x -= sign * 1000
        x[:, -1] = sign * -100
    elif values == "ties":  # the second in a lower lane of a later block, the third in the same lane
        x[:, [5, 2050, 2053]] = sign * 100.0
    elif values == "all equal":
        x.fill_(3)
    elif values == "all lose":
        x.fill_(sign * -torch.inf)
    elif values == "nan":  # alone; as the last; behind an infinity, and others in lower, the same and higher lanes
        x[0, n // 2] = torch.nan
        x[1, -1] = torch.nan
        x[2, [7, 2050, 2055, 2060]] = torch.nan
        x[2, 0] = sign * torch.inf
    return x, op


def reference(x, op):
    return x.argmax(1) if op == "max" else x.argmin(1)


def gems(x, op):
    import flag_gems

    return flag_gems.argmax(x, 1) if op == "max" else flag_gems.argmin(x, 1)


def one_read(x, op):
    return x.nbytes + 8 * x.shape[0]


KERNEL = "@triton.jit\ndef argreduce_kernel"
UPDATE = """        better = (x > best) | ((x != x) & (best == best))
        best = tl.where(better, x, best)
        index = tl.where(better, start, index)
"""
FIRST_PASS = "        best = larger(best, x)\n"
LAST = """    is_top = (best == top) | (best != best)
    tl.store(out_ptr + row, tl.min(tl.where(is_top, index, n), 0))
"""
SECOND_PASS = """    index = tl.full((BLOCK,), n, tl.int32)
    for start in range(0, n, BLOCK):
        columns = start + lanes
        x = SIGN * tl.load(x_ptr + row * stride_row + columns, mask=columns < n).to(tl.float32)
        is_top = (columns < n) & tl.where(top == top, x == top, x != x)
        index = tl.minimum(index, tl.where(is_top, columns, n))
    tl.store(out_ptr + row, tl.min(index, 0))
"""
PAIRS = """@triton.jit
def first_largest(v, i, w, j):
    equal = (v == w) | ((v != v) & (w != w))
    takes_w = tl.where(equal, j < i, (w > v) | (w != w))
    return tl.where(takes_w, w, v), tl.where(takes_w, j, i)


"""
LOWEST_LANE = """    is_top = (best == top) | (best != best)
    lane = tl.min(tl.where(is_top, lanes, BLOCK), 0)
    tl.store(out_ptr + row, tl.sum(tl.where(lanes == lane, index, 0), 0))
"""

exercise = Exercise(
    entry="argreduce",
    outputs=("index",),
    inputs=inputs,
    reference=reference,
    cases=[
        case(m=3, n=513), case(m=3, n=513, op="min"), case(m=2, n=1), case(m=0, n=5),
        case(m=3, n=511, op="min"), case(m=2, n=512),
        case(m=2, n=4999, op="max", values="last"), case(m=2, n=4999, op="min", values="last"),
        case(m=3, n=3001, dtype=torch.float16), case(m=3, n=2051, op="min", dtype=torch.bfloat16),
        case(m=4, n=300, op="max", apart=7),
        case(m=2, n=2500, op="max", values="ties"), case(m=2, n=2500, op="min", values="ties"),
        case(m=1, n=1030, op="max", values="all equal"),
        case(m=2, n=600, op="max", values="all lose"), case(m=2, n=600, op="min", values="all lose"),
        case(m=3, n=2500, op="max", values="nan"), case(m=3, n=2500, op="min", values="nan"),
        case(m=3, n=2500, op="max", dtype=torch.float16, values="nan"),
        case(m=2**16, n=2**15 + 1, dtype=torch.bfloat16, needs_gb=40, slices=by_rows(2**11)),
    ],
    moves=[Moves(case(m=4, n=2**13), bytes=one_read)],
    speed=[
        Speed(case(m=2**14, n=2**13),
            bytes=one_read, flops=lambda x, op: x.numel(), target=0.88,
            peers={"torch": reference, "torch.compile": reference, "flag_gems": gems}),
    ],
    bugs=[
        Bug("two passes over memory", (UPDATE, FIRST_PASS), (LAST, SECOND_PASS), rung="moves"),
        Bug("the pair rule in every step", (KERNEL, PAIRS + KERNEL),
            (UPDATE, "        best, index = first_largest(best, index, x, columns)\n"),
            ("    index += lanes\n", ""), rung="fast"),
        Bug("within a lane the last of equals", ("(x > best)", "(x >= best)"), caught="m=2,n=2500,op=max,values=ties"),
        Bug("within a lane the last NaN",
            ("((x != x) & (best == best))", "(x != x)"), caught="m=3,n=2500,op=max,values=nan"),
        Bug("within a lane a NaN loses", (" | ((x != x) & (best == best))", ""), caught="m=3,n=2500,op=max,values=nan"),
        Bug("across lanes the last of equals",
            ("tl.min(tl.where(is_top, index, n), 0)", "tl.max(tl.where(is_top, index, -1), 0)"),
            caught="m=2,n=2500,op=max,values=ties"),
        Bug("across lanes the first of equals in lane order",
            (LAST, LOWEST_LANE), caught="m=2,n=2500,op=max,values=ties"),
        Bug("across lanes a NaN loses",
            (", propagate_nan=tl.PropagateNan.ALL", ""), caught="m=3,n=2500,op=max,values=nan"),
        Bug("no lane equals a NaN", (" | (best != best)", ""), caught="m=3,n=2500,op=max,values=nan"),
        Bug("the other lanes say 0", ("is_top, index, n", "is_top, index, 0"), caught="m=3,n=513"),
        Bug("the other lanes say BLOCK",
            ("is_top, index, n", "is_top, index, BLOCK"), caught="m=2,n=4999,op=max,values=last"),
        Bug("the index within the block",
            ("better, start, index", "better, 0, index"), caught="m=2,n=4999,op=max,values=last"),
        Bug("the start of the block alone", ("    index += lanes\n", ""), caught="m=3,n=513"),
        Bug("adds the lanes twice", ("better, start, index", "better, columns, index"), caught="m=3,n=513"),
        Bug("starts from 0",
            ('tl.full((BLOCK,), float("-inf")', "tl.full((BLOCK,), 0.0"), caught="m=2,n=4999,op=max,values=last"),
        Bug("starts from index -1",
            ("tl.zeros((BLOCK,), tl.int32)", "tl.full((BLOCK,), -1, tl.int32)"),
            caught="m=2,n=600,op=max,values=all lose"),
        Bug("pads with what wins a minimum",
            ('-SIGN * float("inf")', 'float("-inf")'), caught="m=3,n=513,op=min"),
        Bug("pads with 0", (", other=worst", ", other=0.0"), caught="m=2,n=4999,op=max,values=last"),
        Bug("takes the rows to be adjacent", ("out, n, x.stride(0),", "out, n, n,"), caught="m=4,n=300,op=max,apart=7"),
        Bug("returns int32", ("dtype=torch.int64", "dtype=torch.int32"), caught="m=3,n=513"),
    ],
    variants=[
        Variant("larger blocks", ("BLOCK=512", "BLOCK=1024")),
        Variant("NaN asked for by hand", fill={1: "return tl.where((a > b) | (a != a), a, b)"}),
        Variant("the sign before the padding, the better in one step", fill={2: """
            columns = start + lanes
            mask = columns < n
            x = tl.load(x_ptr + row * stride_row + columns, mask=mask).to(tl.float32)
            x = tl.where(mask, SIGN * x, float("-inf"))
            index = tl.where(x > best, start, tl.where((x != x) & (best == best), start, index))
            best = larger(best, x)
        """}),
        Variant("pairs reduced at the end", (KERNEL, PAIRS + KERNEL), fill={3: """
            best, index = tl.reduce((best, index + lanes), 0, first_largest)
            tl.store(out_ptr + row, index)
        """}),
        Variant("the NaNs counted apart", fill={3: """
            nans = tl.max((best != best).to(tl.int32), 0)
            is_top = tl.where(nans == 1, best != best, best == tl.max(best, 0))
            tl.store(out_ptr + row, tl.min(tl.where(is_top, index + lanes, n), 0))
        """}),
    ],
)
