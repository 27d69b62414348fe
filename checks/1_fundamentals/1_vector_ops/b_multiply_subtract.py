import torch
from workbook.exercise import Bug, Exercise, Moves, Speed, Variant, by_rows, case, normal

OPS = {"multiply": torch.mul, "subtract": torch.sub, "squared_difference": lambda x, y: (x - y) * (x - y)}
EXTREMES = [1e4, -1e4, float("inf"), float("-inf"), float("nan"), 0.0]


def inputs(op, n, dtype=torch.float32, mean=0.0, extremes=False):
    x, y = normal(n, dtype=dtype, mean=mean), normal(n, dtype=dtype, mean=mean)
    if extremes:  # every one beside every one
        values = torch.tensor(EXTREMES, dtype=dtype)
        x[: len(values) ** 2], y[: len(values) ** 2] = values.repeat(len(values)), values.repeat_interleave(len(values))
    return x, y, op


def three_vectors(x, y, op):
    return 3 * x.nbytes


def reference(x, y, op):
    return OPS[op](x, y)


exercise = Exercise(
    entry="combine",
    inputs=inputs,
    reference=reference,
    cases=[
        case(op="multiply", n=1025), case(op="subtract", n=1025), case(op="squared_difference", n=1025),
        case(op="subtract", n=1), case(op="multiply", n=0), case(op="subtract", n=1023), case(op="multiply", n=1024),
        case(op="squared_difference", n=8191), case(op="multiply", n=3001, dtype=torch.float16),
        case(op="subtract", n=3001, dtype=torch.bfloat16),
        case(op="squared_difference", n=20011, dtype=torch.bfloat16),
        case(op="squared_difference", n=1025, mean=100.0),
        *(case(op=op, n=65, extremes=True) for op in OPS),
        case(op="subtract", n=2**31 + 1, dtype=torch.float16, needs_gb=40, slices=by_rows(2**27)),
    ],
    moves=[Moves(case(op="squared_difference", n=2**15, dtype=torch.bfloat16), bytes=three_vectors)],
    speed=[
        Speed(
            case(op="squared_difference", n=2**27, dtype=torch.bfloat16), bytes=three_vectors,
            flops=lambda x, y, op: 2 * x.numel(), target=0.90,
            peers={"torch": reference, "torch.compile": reference},
        ),
    ],
    bugs=[
        Bug("one operation a launch", ("""
        combine_kernel[grid](x, y, out, n, OP=op, BLOCK=BLOCK)""", """
        if op == "squared_difference":
            difference = torch.empty_like(x, dtype=torch.float32)
            combine_kernel[grid](x, y, difference, n, OP="subtract", BLOCK=BLOCK)
            x, y, op = difference, difference, "multiply"
        combine_kernel[grid](x, y, out, n, OP=op, BLOCK=BLOCK)"""), rung="moves"),
        Bug("subtracts the wrong way round", ("out = x - y", "out = y - x"), caught="op=subtract,n=1025"),
        Bug("one operation for all", ("OP=op", 'OP="multiply"'), caught="op=subtract,n=1025"),
        Bug("loads y without the mask", ("tl.load(y_ptr + offsets, mask=mask)", "tl.load(y_ptr + offsets)"),
            caught="op=multiply,n=1025"),
        Bug("rounds the difference to 16 bits",
            ("difference = x - y", "difference = (x - y).to(x_ptr.dtype.element_ty).to(tl.float32)"),
            caught="op=squared_difference,n=20011,bf16"),
        Bug("expands the square", ("out = difference * difference", "out = x * x - 2 * x * y + y * y"),
            caught="op=squared_difference,n=1025,mean=100.0"),
        Bug("writes over x", ("out = torch.empty_like(x)", "out = x"), caught="op=subtract,n=1"),
        Bug("drops the ragged tail", ("triton.cdiv(n, BLOCK)", "max(1, n // BLOCK)"), caught="op=multiply,n=1025"),
        Bug("blocks of 32: too little to do", ("n, BLOCK = x.numel(), 1024", "n, BLOCK = x.numel(), 32"), rung="fast"),
    ],
    variants=[
        Variant("larger blocks", ("n, BLOCK = x.numel(), 1024", "n, BLOCK = x.numel(), 4096")),
        Variant("the last block overlaps the one before", fill={1: """
            offsets = tl.minimum(offsets, tl.maximum(n - BLOCK, 0) + tl.arange(0, BLOCK))
            mask = offsets < n
            x = tl.load(x_ptr + offsets, mask=mask).to(tl.float32)
            y = tl.load(y_ptr + offsets, mask=mask).to(tl.float32)
        """}),
        Variant("one expression", fill={2: """
            out = x * y if OP == "multiply" else x - y
            if OP == "squared_difference":
                out *= out
        """}),
        Variant("chooses when it runs", ("OP: tl.constexpr", "OP"), fill={2: """
            difference = x - y
            out = tl.where(OP == 0, x * y, tl.where(OP == 1, difference, difference * difference))
        """, 3: """
            names = ["multiply", "subtract", "squared_difference"]
            combine_kernel[(triton.cdiv(n, BLOCK),)](x, y, out, n, names.index(op), BLOCK)
        """}),
        Variant("the operation is a function", ("@triton.jit\ndef combine_kernel", """
@triton.jit
def multiply(x, y):
    return x * y


@triton.jit
def subtract(x, y):
    return x - y


@triton.jit
def squared_difference(x, y):
    return (x - y) * (x - y)


@triton.jit
def combine_kernel"""), fill={2: "out = OP(x, y)", 3: """
            functions = dict(multiply=multiply, subtract=subtract, squared_difference=squared_difference)
            combine_kernel[(triton.cdiv(n, BLOCK),)](x, y, out, n, OP=functions[op], BLOCK=BLOCK)
        """}),
    ],
)
