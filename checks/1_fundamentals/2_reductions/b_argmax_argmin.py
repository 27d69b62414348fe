import torch
from workbook.exercise import Bug, Exercise, Moves, Speed, Variant, by_rows, case, normal


def inputs(m, n, op="max", dtype=torch.float32, apart=0, values="normal"):
    """apart: elements between a row's end and the next row."""
    x = normal(m, n + apart, dtype=dtype)[:, :n]
    if values == "last":
        x[:, -1] = 100 if op == "max" else -100
    elif values == "ties":  # the second lies in a lower lane of the next block, the third in the same lane
        x[:, [5, 2050, 2053]] = 100.0 if op == "max" else -100.0
    elif values == "all equal":
        x.fill_(3)
    elif values == "all lose":  # each is what a kernel might start from
        x.fill_(-torch.inf if op == "max" else torch.inf)
    elif values == "nan":  # one, then two, the second in a lower lane; and an infinity before them
        x[0, n // 2] = torch.nan
        x[1, 0], x[1, 7], x[1, 2050] = torch.inf if op == "max" else -torch.inf, torch.nan, torch.nan
    return x, op


def reference(x, op):
    return x.argmax(1) if op == "max" else x.argmin(1)


def gems(x, op):
    import flag_gems

    return flag_gems.argmax(x, 1) if op == "max" else flag_gems.argmin(x, 1)


def one_read(x, op):
    return x.nbytes + 8 * x.shape[0]


SEARCH_AFTERWARDS = """        x = tl.load(x_ptr + row * stride_row + columns, mask=mask).to(tl.float32)
        x = tl.where(mask, SIGN * x, float("-inf"))
        best = tl.maximum(best, x, propagate_nan=tl.PropagateNan.ALL)
    best = tl.min(tl.where(best != best, float("inf"), best), 0) if False else best
"""

exercise = Exercise(
    entry="argreduce",
    outputs=("index",),
    inputs=inputs,
    reference=reference,
    cases=[
        case(m=3, n=2049), case(m=3, n=2049, op="min"), case(m=2, n=1), case(m=0, n=5), case(m=3, n=2047, op="min"), case(m=2, n=2048),
        case(m=2, n=4999, op="max", values="last"), case(m=2, n=4999, op="min", values="last"),
        case(m=3, n=3001, dtype=torch.float16), case(m=3, n=4099, op="min", dtype=torch.bfloat16),
        case(m=4, n=300, op="max", apart=7),
        case(m=2, n=2500, op="max", values="ties"), case(m=2, n=2500, op="min", values="ties"),
        case(m=1, n=4099, op="max", values="all equal"), case(m=2, n=2049, op="max", values="all lose"), case(m=2, n=2049, op="min", values="all lose"),
        case(m=2, n=2500, op="max", values="nan"), case(m=2, n=2500, op="min", values="nan"), case(m=2, n=2500, op="max", dtype=torch.float16, values="nan"),
        case(m=2**16, n=2**15 + 1, dtype=torch.bfloat16, needs_gb=40, slices=by_rows(2**11)),
    ],
    moves=Moves(case(m=4, n=2**13), bytes=one_read),
    speed=[Speed(case(m=2**14, n=2**13), bytes=one_read, target=0.90, peers={"torch": reference, "torch.compile": reference, "flag_gems": gems})],
    bugs=[],
    variants=[],
)
