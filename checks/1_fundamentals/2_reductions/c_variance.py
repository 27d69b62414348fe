import torch
from workbook.exercise import Bug, Exercise, Moves, Speed, Variant, by_rows, case, normal


def inputs(m, n, correction=1, dtype=torch.float32, apart=0, mean=0.0, last=None):
    """apart: elements between a row's end and the next row. last: the value of the last element of row 1."""
    x = normal(m, n + apart, dtype=dtype, mean=mean)[:, :n]
    if last is not None:
        x[1, -1] = last
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


LOAD = "    x = tl.load(x_ptr + row * stride_row + columns, mask=mask, other=0.0).to(tl.float32)\n"
PASSES = (
    "    mean = tl.sum(x, 0) / n\n    centred = tl.where(mask, x - mean, 0.0)\n"
    "    squares = tl.sum(centred * centred, 0)\n"
)
AGAIN = """    total = tl.zeros((1024,), tl.float32)
    for start in range(0, n, 1024):
        some = start + tl.arange(0, 1024)
        total += tl.load(x_ptr + row * stride_row + some, mask=some < n, other=0.0).to(tl.float32)
    mean = tl.sum(total, 0) / n
    total = tl.zeros((1024,), tl.float32)
    for start in range(0, n, 1024):
        some = start + tl.arange(0, 1024)
        x = tl.load(x_ptr + row * stride_row + some, mask=some < n, other=0.0).to(tl.float32)
        total += tl.where(some < n, (x - mean) * (x - mean), 0.0)
    squares = tl.sum(total, 0)
"""
CENTRE = "    x = x.float() - x.float().mean(1, keepdim=True)\n"

exercise = Exercise(
    entry="variance",
    outputs=("variance",),
    inputs=inputs,
    reference=reference,
    cases=[
        case(m=5, n=1000), case(m=3, n=1), case(m=3, n=1, correction=0), case(m=3, n=2), case(m=0, n=5),
        case(m=3, n=1023), case(m=3, n=1024), case(m=3, n=1025), case(m=2, n=8191), case(m=1, n=32768),
        case(m=5, n=777, dtype=torch.float16), case(m=5, n=2048, dtype=torch.bfloat16),
        case(m=4, n=300, dtype=torch.bfloat16, mean=100.0),
        case(m=5, n=10, correction=0), case(m=5, n=10, correction=2.5), case(m=5, n=10, correction=10),
        case(m=5, n=300, correction=1, apart=7), case(m=5, n=1000, mean=1000.0),
        case(m=3, n=1000, last=torch.nan), case(m=3, n=1000, last=torch.inf),
        case(m=2**18 + 1, n=2**13, dtype=torch.float16, needs_gb=40, slices=by_rows(2**14)),
    ],
    moves=[Moves(case(m=8, n=2**12), bytes=one_read)],
    speed=[
        Speed(case(m=2**14, n=2**13),
            bytes=one_read, flops=mean_and_squares, target=0.95,
            peers={"torch": torch_var, "torch.compile": torch_var, "flag_gems": gems}),
    ],
    bugs=[
        Bug("the second pass reads memory again", (LOAD, ""), (PASSES, AGAIN), rung="moves"),
        Bug("torch finds the mean", ("    if m > 0:\n", CENTRE + "    if m > 0:\n"), rung="moves"),
        Bug("lanes past the end count", ("tl.where(mask, x - mean, 0.0)", "x - mean"), caught="m=5,n=1000,mean=1000.0"),
        Bug("divides by BLOCK", ("tl.sum(x, 0) / n", "tl.sum(x, 0) / BLOCK"), caught="m=5,n=1000,mean=1000.0"),
        Bug("forgets the correction", ("(n - correction)", "n"), caught="m=3,n=2"),
        Bug("never divides by zero", ("(n - correction)", "tl.maximum(n - correction, 1)"), caught="m=3,n=1"),
        Bug("mean of the squares less square of the mean",
            ("tl.sum(centred * centred, 0)", "tl.sum(x * x, 0) - n * mean * mean"), caught="m=5,n=1000,mean=1000.0"),
        Bug("takes the rows to be adjacent",
            ("out, n, x.stride(0),", "out, n, n,"), caught="m=5,n=300,correction=1,apart=7"),
        Bug("returns the standard deviation",
            ("squares / (n - correction))", "tl.sqrt(squares / (n - correction)))"), caught="m=3,n=2"),
    ],
    variants=[
        Variant("a factor in place of where", fill={1: """
            mean = tl.sum(x) / n
            centred = (x - mean) * mask
            squares = tl.sum(centred * centred)
        """}),
        Variant("the mean is corrected once more (Chan, Golub, LeVeque 1983)", fill={1: """
            mean = tl.sum(x, 0) / n
            centred = tl.where(mask, x - mean, 0.0)
            rest = tl.sum(centred, 0)
            squares = tl.sum(centred * centred, 0) - rest * rest / n
        """}),
        Variant("centred by the first element, then in one go", fill={1: """
            x = tl.where(mask, x - tl.load(x_ptr + row * stride_row).to(tl.float32), 0.0)
            mean = tl.sum(x, 0) / n
            squares = tl.sum(tl.where(mask, (x - mean) * (x - mean), 0.0), 0)
        """}),
        Variant("counts up to the power of two", fill={2: """
            BLOCK = 16
            while BLOCK < n:
                BLOCK *= 2
        """}),
    ],
)
