import torch
from workbook.exercise import Bug, Exercise, Moves, Speed, Variant, by_rows, case, normal


def inputs(m, n, correction=1, dtype=torch.float32, apart=0, mean=0.0, scale=1.0, last=None):
    """apart: elements between a row's end and the next row. last: the value of the last element of row 1."""
    x = normal(m, n + apart, dtype=dtype, mean=mean, scale=scale)[:, :n]
    if last is not None:
        x[1, -1] = last
    return x, correction


def reference(x, correction):
    return torch.var(x, 1, correction=correction)


def gems(x, correction):
    import flag_gems

    return flag_gems.var_mean(x, [1], correction=correction)[0]


def one_read(x, correction):
    return x.nbytes + x.shape[0] * x.itemsize


TWO_PASSES = """        mean += tl.where(mask, x, 0.0)
    mean = tl.sum(mean, 0) / n
    for start in range(0, n, BLOCK):
        mask = start + lanes < n
        x = tl.load(x_ptr + row * stride_row + start + lanes, mask=mask, other=0.0).to(tl.float32) - origin
        m2 += tl.where(mask, (x - mean) * (x - mean), 0.0)
    m2 = tl.sum(m2, 0)
"""

exercise = Exercise(
    entry="welford",
    outputs=("variance",),
    inputs=inputs,
    reference=reference,
    cases=[
        case(m=3, n=5000), case(m=3, n=1), case(m=3, n=1, correction=0), case(m=3, n=2), case(m=0, n=5),
        case(m=2, n=4095), case(m=2, n=4096), case(m=2, n=4097), case(m=1, n=65537),
        case(m=3, n=9001, dtype=torch.float16), case(m=3, n=8192, dtype=torch.bfloat16), case(m=3, n=300, dtype=torch.bfloat16, mean=100.0),
        case(m=5, n=10, correction=0), case(m=5, n=10, correction=2.5), case(m=5, n=10, correction=10),
        case(m=3, n=4500, correction=1, apart=7),
        case(m=3, n=9001, mean=1e4), case(m=3, n=9001, mean=1e4, scale=0.01), case(m=3, n=5000, last=1e4),
        case(m=3, n=9001, last=torch.nan), case(m=3, n=9001, last=torch.inf),
        case(m=2**11 + 1, n=2**20, dtype=torch.float16, needs_gb=40, slices=by_rows(2**7)),
    ],
    moves=Moves(case(m=4, n=2**14), bytes=one_read),
    speed=[Speed(case(m=512, n=2**20), bytes=one_read, target=0.90, peers={"torch": reference, "torch.compile": reference, "flag_gems": gems})],
    bugs=[],
    variants=[],
)
