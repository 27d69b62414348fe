import torch
from workbook.exercise import Bug, Exercise, Moves, Speed, Variant, by_rows, case, normal


def inputs(m, n, correction=1, dtype=torch.float32, apart=0, mean=0.0, scale=1.0, first=None, last=None):
    """apart: elements between a row's end and the next row. first, last: the value of that element of the last row."""
    x = normal(m, n + apart, dtype=dtype, mean=mean, scale=scale)[:, :n]
    if first is not None:
        x[-1, 0] = first
    if last is not None:
        x[-1, -1] = last
    return x, correction


def reference(x, correction):
    wide = x.double()  # the yardstick too: in fp32 a large mean would cost it the digits that are graded
    return ((wide - wide.mean(1, keepdim=True)).norm(dim=1).square() / (x.shape[1] - correction)).to(x.dtype)


def torch_var(x, correction):
    return torch.var(x, 1, correction=correction)


def gems(x, correction):
    import flag_gems

    return flag_gems.var_mean(x, [1], correction=correction)[0]


def one_read(x, correction):
    return x.nbytes + x.shape[0] * x.itemsize


def mean_and_squares(x, correction):
    return 4 * x.numel()  # an addition for the mean; a subtraction, a product and an addition for the square


UPDATE = """        delta = tl.where(mask, x - mean, 0.0)
        mean += delta * (1 / step)
        m2 += delta * (x - mean)
"""
COUNT_AND_MERGE = """    count = ((n - lanes + BLOCK - 1) // BLOCK).to(tl.float32)
    mean, m2, count = tl.reduce((mean, m2, count), 0, merge)
"""
SUM = "        mean += tl.where(mask, x, 0.0)\n"
SECOND_PASS = """    mean += tl.sum(mean, 0) / n - mean
    for start in range(0, n, BLOCK):
        mask = start + lanes < n
        x = tl.load(x_ptr + row * stride_row + start + lanes, mask=mask, other=0.0).to(tl.float32) - origin
        m2 += tl.where(mask, (x - mean) * (x - mean), 0.0)
    m2 = tl.sum(m2, 0)
"""
SUM_OF_SQUARES = SUM + "        m2 += tl.where(mask, x * x, 0.0)\n"
DIFFERENCE = """    mean = tl.sum(mean, 0) / n
    m2 = tl.sum(m2, 0) - n * mean * mean
"""

exercise = Exercise(
    entry="welford",
    outputs=("variance",),
    inputs=inputs,
    reference=reference,
    cases=[
        case(m=3, n=5000), case(m=3, n=1), case(m=3, n=1, correction=0), case(m=3, n=2), case(m=0, n=5),
        case(m=1, n=2047), case(m=2, n=2048), case(m=2, n=2049), case(m=1, n=8209),
        case(m=2, n=9001, dtype=torch.float16), case(m=2, n=8192, dtype=torch.bfloat16),
        case(m=2, n=300, dtype=torch.bfloat16, mean=100.0),
        case(m=3, n=10, correction=0), case(m=3, n=10, correction=2.5), case(m=3, n=10, correction=10),
        case(m=3, n=4500, correction=1, apart=7),
        case(m=2, n=9001, mean=1e4), case(m=2, n=9001, mean=1e4, scale=0.01), case(m=1, n=9001, mean=1e4, first=0.0),
        case(m=2, n=5000, last=torch.nan), case(m=2, n=5000, last=torch.inf), case(m=2, n=5000, first=torch.inf),
        case(m=2**11 + 1, n=2**20, dtype=torch.float16, needs_gb=40, slices=by_rows(2**7)),
    ],
    moves=[Moves(case(m=4, n=2**14), bytes=one_read)],
    speed=[
        Speed(case(m=512, n=2**20),
            bytes=one_read, flops=mean_and_squares, target=0.90,
            peers={"torch": torch_var, "torch.compile": torch_var, "flag_gems": gems}),
    ],
    bugs=[
        Bug("two passes over memory", (UPDATE, SUM), (COUNT_AND_MERGE, SECOND_PASS), rung="moves"),
        Bug("mean of the squares less square of the mean",
            (UPDATE, SUM_OF_SQUARES), (COUNT_AND_MERGE, DIFFERENCE), caught="m=1,n=9001,mean=10000.0,first=0.0"),
        Bug("forgets the origin",
            (".to(tl.float32) - origin", ".to(tl.float32)"), caught="m=2,n=9001,mean=10000.0,scale=0.01"),
        Bug("squares the old distance", ("delta * (x - mean)", "delta * delta"), caught="m=3,n=5000"),
        Bug("lanes past the end see zeros", ("tl.where(mask, x - mean, 0.0)", "x - mean"), caught="m=3,n=5000"),
        Bug("every lane has seen as many",
            ("((n - lanes + BLOCK - 1) // BLOCK).to(tl.float32)", "tl.zeros_like(mean) + step"), caught="m=3,n=5000"),
        Bug("merges as if both groups were as large", ("count_b / tl.maximum(count, 1.0)", "0.5"), caught="m=3,n=5000"),
        Bug("merges without the distance of the means",
            (" + delta * delta * count_a * share", ""), caught="m=3,n=5000"),
        Bug("two empty groups", ("tl.maximum(count, 1.0)", "count"), caught="m=3,n=2"),
        Bug("forgets the correction", ("(n - correction)", "n"), caught="m=3,n=2"),
        Bug("takes the rows to be adjacent",
            ("out, n, x.stride(0),", "out, n, n,"), caught="m=3,n=4500,correction=1,apart=7"),
    ],
    variants=[
        Variant("smaller blocks", ("BLOCK=2048, num_warps=16", "BLOCK=1024, num_warps=4")),
        Variant("the merge as it stands in the paper", fill={1: """
            count = count_a + count_b
            some = tl.where(count > 0, count, 1.0)
            mean = (count_a * mean_a + count_b * mean_b) / some
            m2 = m2_a + m2_b + (mean_b - mean_a) * (mean_b - mean_a) * (count_a * count_b / some)
        """}),
        Variant("a lane past the end sees its own mean", fill={2: """
            x = tl.where(mask, x, mean)
            old = mean
            mean = old + (x - old) / step
            m2 = m2 + (x - old) * (x - mean)
        """}),
        Variant("lanes merged in two sums", fill={3: """
            count = tl.where(lanes < n % BLOCK, n // BLOCK + 1, n // BLOCK).to(tl.float32)
            total = tl.sum(count * mean, 0) / n
            m2 = tl.sum(m2 + count * (mean - total) * (mean - total), 0)
        """}),
    ],
)
