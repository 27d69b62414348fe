import torch
import torch.nn.functional as F
from workbook.exercise import Bug, Exercise, Moves, Speed, Variant, by_rows, case, normal

OPS = {
    "relu": F.relu, "leaky_relu": F.leaky_relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "silu": F.silu,
    "gelu": F.gelu, "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
}
EXTREMES = [1e4, -1e4, 100.0, -100.0, float("inf"), float("-inf"), float("nan"), 0.0]


def inputs(op, n, dtype=torch.float32, scale=1.0, slope=0.01, extremes=False):
    x = normal(n, dtype=dtype, scale=scale)
    if extremes:
        x[: len(EXTREMES)] = torch.tensor(EXTREMES, dtype=dtype)
    return x, op, slope


def reference(x, op, slope):
    return F.leaky_relu(x, slope) if op == "leaky_relu" else OPS[op](x)


def two_vectors(x, op, slope):
    return 2 * x.nbytes


def gelu_operations(x, op, slope):
    return 5 * x.numel()  # x · 0.5 · (1 + erf(x · √0.5))


def gems(x, op, slope):
    import flag_gems

    return flag_gems.gelu(x)


exercise = Exercise(
    entry="activation",
    inputs=inputs,
    reference=reference,
    cases=[
        *(case(op=op, n=2049) for op in OPS),
        *(case(op=op, n=72, extremes=True) for op in OPS),
        case(op="relu", n=1), case(op="gelu", n=0), case(op="silu", n=2047),
        case(op="sigmoid", n=2048, dtype=torch.bfloat16), case(op="gelu", n=8191, dtype=torch.bfloat16),
        case(op="gelu_tanh", n=3001, dtype=torch.float16), case(op="tanh", n=300, scale=1e-4),
        case(op="leaky_relu", n=300, slope=1.5),
        case(op="silu", n=2**31 + 1, dtype=torch.float16, needs_gb=40, slices=by_rows(2**27)),
    ],
    moves=[Moves(case(op="gelu", n=2**15, dtype=torch.bfloat16), bytes=two_vectors)],
    speed=[
        Speed(
            case(op="gelu", n=2**27, dtype=torch.bfloat16), bytes=two_vectors, flops=gelu_operations, target=0.65,
            peers={"torch": reference, "torch.compile": reference, "flag_gems": gems},
        ),
    ],
    bugs=[
        Bug("converts to fp32 in memory", ("[grid](x, out", "[grid](x.float(), out"), rung="moves"),
        Bug("relu as a maximum, which loses NaN", ("return tl.where(x < 0, 0.0, x)", "return tl.maximum(x, 0.0)"),
            caught="op=relu,n=72,extremes=True"),
        Bug("leaky relu as a maximum", ("tl.where(x < 0, slope * x, x)", "tl.where(x < slope * x, slope * x, x)"),
            caught="op=leaky_relu,n=300,slope=1.5"),
        Bug("sigmoid of exp(x), which overflows", ("return tl.sigmoid(x)", "return tl.exp(x) / (1 + tl.exp(x))"),
            caught="op=sigmoid,n=72,extremes=True"),
        Bug("tanh from a sigmoid, which cancels near 0", ("libdevice.tanh(x)", "2 * tl.sigmoid(2 * x) - 1"),
            caught="op=tanh,n=300,scale=0.0001"),
        Bug("silu with the wrong sign in the exponent", ("x * tl.sigmoid(x)", "x * tl.sigmoid(-x)"),
            caught="op=silu,n=2049"),
        Bug("gelu with the tails exchanged", ("tl.where(x < 0, tail, 1 - tail)", "tl.where(x < 0, 1 - tail, tail)"),
            caught="op=gelu,n=2049"),
        Bug("gelu by its approximation",
            ("tail = tl.exp2(p)", "tail = tl.sigmoid(-1.5957691216057308 * (a + 0.044715 * a * a * a))"),
            caught="op=gelu,n=2049"),
        Bug("the square for the cube in gelu_tanh", ("0.044715 * x * x * x", "0.044715 * x * x"),
            caught="op=gelu_tanh,n=2049"),
        Bug("no mask", ("mask = offsets < n", "mask = offsets < offsets + 1"), caught="op=relu,n=1"),
        Bug("drops the ragged tail", ("triton.cdiv(n, BLOCK)", "max(1, n // BLOCK)"), caught="op=relu,n=2049"),
        Bug("works in place", ("out = torch.empty_like(x)", "out = x"), caught="op=relu,n=2049"),
        Bug("blocks of 32: too little to do", ("n, BLOCK = x.numel(), 2048", "n, BLOCK = x.numel(), 32"), rung="fast"),
    ],
    variants=[
        Variant("larger blocks", ("n, BLOCK = x.numel(), 2048", "n, BLOCK = x.numel(), 4096")),
        Variant("written with exp", fill={1: """
            if OP == "relu":
                return tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL)
            elif OP == "leaky_relu":
                return x * tl.where(x > 0, 1.0, slope)
            elif OP == "sigmoid":
                return 1 / (1 + tl.exp(-x))
            elif OP == "tanh":
                less = libdevice.expm1(-2 * tl.abs(x))
                return libdevice.copysign(less / (less + 2), x)
            elif OP == "silu":
                return x / (1 + tl.exp(-x))
            elif OP == "gelu":
                return 0.5 * x * (1 + libdevice.erf(x / 1.4142135623730951))
            else:
                return 0.5 * x * (1 + libdevice.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))
        """}),
        Variant("four blocks a program", ("triton.cdiv(n, BLOCK)", "triton.cdiv(n, 4 * BLOCK)"), fill={2: """
            first = tl.program_id(0).to(tl.int64) * (4 * BLOCK)
            for start in range(0, 4 * BLOCK, BLOCK):
                offsets = first + start + tl.arange(0, BLOCK)
                x = tl.load(x_ptr + offsets, mask=offsets < n, other=0.0)
                y = activate(x.to(tl.float32), slope, OP)
                tl.store(out_ptr + offsets, y.to(out_ptr.dtype.element_ty), mask=offsets < n)
        """}),
        Variant("the last block overlaps the one before", fill={2: """
            start = tl.minimum(tl.program_id(0).to(tl.int64) * BLOCK, tl.maximum(n - BLOCK, 0))
            offsets = start + tl.arange(0, BLOCK)
            x = tl.load(x_ptr + offsets, mask=offsets < n, other=0.0).to(tl.float32)
            tl.store(out_ptr + offsets, activate(x, slope, OP), mask=offsets < n)
        """}),
    ],
)
