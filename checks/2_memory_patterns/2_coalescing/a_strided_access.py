import torch
from workbook.exercise import Bug, Exercise, Moves, Prediction, Speed, Variant, case, normal

SECTOR = 32  # bytes
# what bugs and variants change
OFFSETS = "tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)"
SIZE, SHARE = "triton.cdiv(x.numel(), stride), 512", "itemsize / min(stride * itemsize, SECTOR)"


def inputs(n, stride, dtype=torch.float32, scale=20.0):
    return normal(n, dtype=dtype, scale=scale), stride


def laid_out_anew(x, stride):
    return x[::stride].clone(memory_format=torch.contiguous_format)


def in_and_out(x, stride):
    """Each element that has to be touched, once."""
    return 2 * len(range(0, x.numel(), stride)) * x.itemsize


def sectors_and_out(x, stride):
    """What has to be moved where elements are no further apart than a sector: all of x, and out."""
    return x.nbytes + in_and_out(x, stride) // 2


def counted(x, stride):
    """The share in use of the sectors that x[::stride] touches, where x begins with a sector."""
    addresses = range(0, x.nbytes, stride * x.itemsize)
    return len(addresses) * x.itemsize / (SECTOR * len({address // SECTOR for address in addresses}))


STRIDES = {  # below, at and above a sector, powers of two or not
    torch.float32: (1, 2, 3, 5, 7, 8, 9, 16, 64),
    torch.bfloat16: (1, 3, 8, 13, 16, 17, 64),
    torch.int8: (1, 24, 31, 32, 33),
    torch.int64: (1, 2, 3, 4, 5),
}
peers = {"torch": laid_out_anew, "torch.compile": laid_out_anew}

exercise = Exercise(
    entry="strided_copy",
    outputs=("copy",),
    inputs=inputs,
    reference=laid_out_anew,
    cases=[
        case(n=4099, stride=3), case(n=1, stride=1), case(n=0, stride=1), case(n=0, stride=4), case(n=1, stride=7),
        case(n=5, stride=7), case(n=7, stride=7), case(n=8, stride=7), case(n=5, stride=2**31),
        case(n=1023, stride=1), case(n=1024, stride=1), case(n=1025, stride=1),
        case(n=2047, stride=2), case(n=2048, stride=2), case(n=2049, stride=2), case(n=8191, stride=5),
        case(n=3000, stride=4, dtype=torch.float16), case(n=9973, stride=33, dtype=torch.bfloat16),
        case(n=8000, stride=64, dtype=torch.int8), case(n=700, stride=2, dtype=torch.int64),
        case(n=300, stride=3, scale=float("inf")),
        # few elements, the last of them past 2**31
        case(n=2**31 + 33, stride=1024, dtype=torch.int8, needs_gb=24),
    ],
    # a third of what is loaded is of use, and all of what is stored: half
    moves=[Moves(case(n=3 * 2**11, stride=3), bytes=in_and_out, sectors=0.5)],
    prediction=Prediction(
        function="predicted_share",
        arguments=lambda x, stride: {"stride": stride, "itemsize": x.itemsize},
        share=counted,
        # as many elements of out as fill whole sectors of x, for then the count is that of a vector without end
        cases=[case(n=1024 * stride, stride=stride, dtype=dtype) for dtype in STRIDES for stride in STRIDES[dtype]],
    ),
    # no rate above the prediction is possible: these are the sectors, not the elements
    speed=[
        Speed(case(n=2**27, stride=1), bytes=sectors_and_out, target=0.90, peers=peers),
        Speed(case(n=2**27, stride=8), bytes=sectors_and_out, target=0.85, peers=peers),
    ],
    bugs=[
        Bug("one element a program", (SIZE, "triton.cdiv(x.numel(), stride), 1"), rung="moves"),
        Bug("neighbouring lanes far apart",
            (OFFSETS, "tl.program_id(0).to(tl.int64) + tl.arange(0, BLOCK) * tl.num_programs(0)"), rung="moves"),
        Bug("asks torch to copy x[::stride]",
            (SIZE, SIZE + "\n    x, stride = x[::stride].contiguous(), 1"), rung="moves"),
        Bug("stores with zeros in front",
            ("out = torch.empty(n,", "out = torch.zeros(n,"), rung="moves"),
        Bug("predicts 1 / stride, however large", (SHARE, "1 / stride"), rung="moves"),
        Bug("predicts a sector for each element", (SHARE, "1 if stride == 1 else itemsize / SECTOR"), rung="moves"),
        Bug("predicts for fp32 only", (SHARE, "1 / min(stride, 8)"), rung="moves"),
        Bug("predicts by lines of 128 bytes", (SHARE, "itemsize / min(stride * itemsize, 128)"), rung="moves"),
        Bug("predicts by whole elements a sector",
            (SHARE, "-(-SECTOR // (stride * itemsize)) * itemsize / SECTOR"), rung="moves"),
        Bug("rounds its prediction", (SHARE, "round(itemsize / min(stride * itemsize, SECTOR), 3)"), rung="moves"),
        Bug("predicts the bytes moved for one in use",
            (SHARE, "min(stride * itemsize, SECTOR) / itemsize"), rung="moves"),
        Bug("rounds the size down", (SIZE, "x.numel() // stride, 512"), caught="n=4099,stride=3"),
        Bug("masks with x's size", ("(x, out, n, stride,", "(x, out, x.numel(), stride,"), caught="n=4099,stride=3"),
        Bug("takes neighbours", ("x_ptr + offsets * stride", "x_ptr + offsets"), caught="n=8191,stride=5"),
        Bug("begins a stride late", ("x_ptr + offsets * stride", "x_ptr + offsets * stride + stride - 1"),
            caught="n=7,stride=7"),
        Bug("leaves gaps in out", ("out_ptr + offsets", "out_ptr + offsets * stride"), caught="n=8,stride=7"),
        Bug("every program strides from the start of its block of x",
            ("x_ptr + offsets * stride", "x_ptr + tl.program_id(0) * BLOCK + tl.arange(0, BLOCK) * stride"),
            caught="n=4099,stride=3"),
        Bug("drops the ragged tail", ("(triton.cdiv(n, BLOCK),)", "(max(1, n // BLOCK),)"), caught="n=2049,stride=2"),
        Bug("returns a view", ("    return out\n", "    return x[::stride]\n"), caught="n=4099,stride=3"),
    ],
    variants=[
        Variant("larger blocks", (SIZE, "triton.cdiv(x.numel(), stride), 4096")),
        Variant("as few lanes as fill a sector of int8", (SIZE, "triton.cdiv(x.numel(), stride), 32")),
        Variant("thinks in addresses of x, and masks there", fill={1: """
            sources = (tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)) * stride
            tl.store(out_ptr + sources // stride, tl.load(x_ptr + sources, sources < n), sources < n)
        """, 2: """
            BLOCK = 256
            out = x.new_empty((x.numel() + stride - 1) // stride)
            if len(out):
                strided_copy_kernel[(triton.cdiv(len(out), BLOCK),)](x, out, x.numel(), stride, BLOCK=BLOCK)
            return out
        """}),
        Variant("predicts by the larger of two bounds", fill={3: "return max(1 / stride, itemsize / SECTOR)"}),
        Variant("predicts case by case", fill={3: """
            if stride * itemsize <= SECTOR:
                return 1 / stride
            return itemsize / SECTOR
        """}),
        Variant("counts one period of the pattern", fill={3: """
            addresses = range(0, SECTOR * stride * itemsize, stride * itemsize)
            return len(addresses) * itemsize / (SECTOR * len({address // SECTOR for address in addresses}))
        """}),
    ],
)
