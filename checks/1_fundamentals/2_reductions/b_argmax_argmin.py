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


UPDATE = """        better = (x > best) | ((x != x) & (best == best))
        best = tl.where(better, x, best)
        index = tl.where(better, columns, index)
"""
FIRST_PASS = "        best = tl.maximum(best, x, propagate_nan=tl.PropagateNan.ALL)\n"
MERGE = "    best, index = tl.reduce((best, index), 0, first_largest)\n"
SECOND_PASS = """    largest, nan = tl.max(best, 0), tl.max((best != best).to(tl.int32), 0) == 1
    for start in range(0, n, BLOCK):
        columns = start + lanes
        x = SIGN * tl.load(x_ptr + row * stride_row + columns, mask=columns < n).to(tl.float32)
        found = (columns < n) & tl.where(nan, x != x, x == largest)
        index = tl.maximum(index, tl.where(found, n - columns, 0))  # of the first found, the largest
    index = n - tl.max(index, 0)
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
    moves=Moves(case(m=4, n=2**13), bytes=one_read),
    speed=[
        Speed(case(m=2**14, n=2**13),
            bytes=one_read, target=0.88, peers={"torch": reference, "torch.compile": reference, "flag_gems": gems}),
    ],
    bugs=[
        Bug("two passes over memory", (UPDATE, FIRST_PASS), (MERGE, SECOND_PASS), rung="moves"),
        Bug("the rule for lanes in every step of the loop",
            (UPDATE, "        best, index = first_largest(best, index, x, columns)\n"), rung="fast"),
        Bug("within a lane the last of equals", ("(x > best)", "(x >= best)"), caught="m=2,n=2500,op=max,values=ties"),
        Bug("within a lane the last NaN",
            ("((x != x) & (best == best))", "(x != x)"), caught="m=3,n=2500,op=max,values=nan"),
        Bug("within a lane a NaN loses", (" | ((x != x) & (best == best))", ""), caught="m=3,n=2500,op=max,values=nan"),
        Bug("across lanes the last of equals", ("j < i", "j > i"), caught="m=2,n=2500,op=max,values=ties"),
        Bug("across lanes the first of equals in lane order",
            ("equal, j < i,", "equal, False,"), caught="m=2,n=2500,op=max,values=ties"),
        Bug("across lanes a NaN loses", ("(w > v) | (w != w)", "w > v"), caught="m=3,n=2500,op=max,values=nan"),
        Bug("across lanes two NaNs are no equals",
            ("(v == w) | ((v != v) & (w != w))", "v == w"), caught="m=3,n=2500,op=max,values=nan"),
        Bug("the index within the block",
            ("better, columns, index", "better, lanes, index"), caught="m=2,n=4999,op=max,values=last"),
        Bug("starts from 0",
            ('tl.full((BLOCK,), float("-inf")', "tl.full((BLOCK,), 0.0"), caught="m=2,n=4999,op=max,values=last"),
        Bug("starts from index -1",
            ("tl.zeros((BLOCK,), tl.int32)", "tl.full((BLOCK,), -1, tl.int32)"),
            caught="m=2,n=600,op=max,values=all lose"),
        Bug("pads before the sign is turned",
            ("mask=mask).to", 'mask=mask, other=float("-inf")).to'),
            ('tl.where(mask, SIGN * x, float("-inf"))', "SIGN * x"), caught="m=3,n=513,op=min"),
        Bug("takes the rows to be adjacent", ("out, n, x.stride(0),", "out, n, n,"), caught="m=4,n=300,op=max,apart=7"),
        Bug("returns int32", ("dtype=torch.int64", "dtype=torch.int32"), caught="m=3,n=513"),
    ],
    variants=[
        Variant("larger blocks", ("BLOCK=512", "BLOCK=1024")),
        Variant("the rule as one formula", fill={1: """
            both_nan = (v != v) & (w != w)
            takes_w = (w > v) | ((w != w) & (v == v)) | (((w == v) | both_nan) & (j < i))
        """}),
        Variant("the sign in the load, the better in one step", fill={2: """
            columns = start + lanes
            worst = -SIGN * float("inf")
            x = SIGN * tl.load(x_ptr + row * stride_row + columns, mask=columns < n, other=worst).to(tl.float32)
            index = tl.where(x > best, columns, tl.where((x != x) & (best == best), columns, index))
            best = tl.maximum(best, x, propagate_nan=tl.PropagateNan.ALL)
        """}),
        Variant("the largest, then the lowest index that has it", fill={3: """
            largest = tl.max(best, 0)
            nan = tl.max((best != best).to(tl.int32), 0) == 1
            holds = tl.where(nan, best != best, best == largest)
            tl.store(out_ptr + row, tl.min(tl.where(holds, index, n), 0))
        """}),
    ],
)
