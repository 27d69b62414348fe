import torch
import torch.nn.functional as F
from workbook.exercise import Bug, Entry, Exercise, Moves, Speed, Variant, by_rows, case, gradients, normal
from workbook.layouts import MATRIX

EXTREMES = [1e4, -1e4, 100.0, -100.0, float("inf"), float("-inf"), float("nan"), 0.0]
BF16, FP16 = torch.bfloat16, torch.float16


UNFIT = {  # calls to be refused: gate and up made unfit
    "up is short": lambda gate, up: (gate, up[1:]),
    "up is a row": lambda gate, up: (gate, up[0]),
    "three axes": lambda gate, up: (gate[None], up[None]),
    "dtypes differ": lambda gate, up: (gate, up.half()),
    "columns lie apart": lambda gate, up: (gate[:, ::2], up[:, ::2]),
}


def halves(m, n, dtype=torch.float32, packed=False, scale=1.0, mean=0.0, extremes=False, unfit=None):
    """gate and up. packed: halves of one tensor, and not two. mean: of the gate, whose spread is 1 then."""
    if packed:
        gate, up = normal(m, 2 * n, dtype=dtype, scale=scale).split(n, 1)
    else:
        gate, up = normal(m, n, dtype=dtype, scale=scale), normal(m, n, dtype=dtype, scale=scale)
    if mean:
        gate = normal(m, n, dtype=dtype, mean=mean)
    if extremes:
        gate[:, : len(EXTREMES)] = torch.tensor(EXTREMES, dtype=dtype)
    return UNFIT[unfit](gate, up) if unfit else (gate, up)


def with_upstream(m, n, dtype=torch.float32, layout="rows", short=0, **more):
    """dh, gate and up. short: columns that dh lacks."""
    dh = normal(m, n, dtype=dtype, scale=more.get("scale", 1.0), strides=MATRIX[layout](m, n))
    return dh[:, : n - short], *halves(m, n, dtype, **more)


def case_inputs(m, n, approximate="none", **more):
    return *halves(m, n, **more), approximate


def backward_inputs(m, n, approximate="none", **more):
    return *with_upstream(m, n, **more), approximate


def autograd_inputs(m, n, compiled=False, **more):
    return *backward_inputs(m, n, **more), compiled


def geglu(gate, up, approximate):
    return F.gelu(gate, approximate=approximate) * up


def geglu_gradients(dh, gate, up, approximate):
    return gradients(lambda gate, up: geglu(gate, up, approximate), [gate, up], dh)


def by_autograd(dh, gate, up, approximate, compiled):
    return geglu_gradients(dh, gate, up, approximate)


def torch_backward(dh, gate, up, approximate):
    dh, gate, up = dh.float(), gate.float(), up.float()
    dgate = torch.ops.aten.gelu_backward(dh * up, gate, approximate=approximate)
    return dgate.to(BF16), (dh * F.gelu(gate, approximate=approximate)).to(BF16)


def liger(gate, up, approximate):
    from liger_kernel.ops.geglu import geglu_forward

    return geglu_forward(gate, up)[2]  # by tanh; there is no other


def liger_backward(dh, gate, up, approximate):
    # in place: it stores dgate over gate, and dup over up
    from liger_kernel.ops.geglu import geglu_backward

    return geglu_backward(gate, up, dh)


def gems(gate, up, approximate):
    import flag_gems

    return flag_gems.gelu_and_mul(gate, up, approximate)


def three(gate, up, approximate):
    return 3 * gate.nbytes


def five(dh, gate, up, approximate):
    return 5 * gate.nbytes


def eight(dh, gate, up, approximate, compiled):
    return 8 * gate.nbytes  # three forward, five backward


def one_result(dh, gate, up, approximate, compiled):
    return gate.nbytes  # h, which the forward returns


B, G = "geglu_backward", "gradients_of_geglu"
FORMS = ("none", "tanh")
# what bugs and variants change
GELU = "gate * share * up"
DGATE = "dh * up * (share + gate * slope)"
SAVED = "ctx.save_for_backward(gate, up)"
FORWARD_LAUNCH = "wrap_triton(forward_kernel)[grid](gate, up, h, n, *strides, APPROXIMATE=approximate, BLOCK=BLOCK)"
BACKWARD_LAUNCH = "wrap_triton(backward_kernel)[grid](*arguments"
ARGUMENTS = "arguments = dh, gate, up, dgate, dup, n, *dh.stride(), gate.stride(0), up.stride(0)"
STRIDES_OF = "strides = gate.stride(0), up.stride(0)\n"
BLOCKS = """        BLOCK = 512
        grid = (m * triton.cdiv(n, BLOCK),)
        """

exercise = Exercise(
    entry="geglu",
    outputs=("h",),
    inputs=case_inputs,
    reference=geglu,
    also={
        B: Entry(inputs=backward_inputs, reference=geglu_gradients, outputs=("dgate", "dup")),
        G: Entry(inputs=autograd_inputs, reference=by_autograd, outputs=("dgate", "dup")),
    },
    deterministic=True,
    provisional=True,
    cases=[
        case(m=3, n=1025, approximate="none"), case(m=3, n=1025, approximate="tanh"),
        case(m=1, n=1), case(m=0, n=5), case(m=5, n=0), case(m=2, n=1023), case(m=2, n=1024, approximate="tanh"),
        case(m=7, n=211, dtype=FP16), case(m=3, n=300, dtype=FP16, approximate="tanh"), case(m=2, n=2048, dtype=BF16),
        case(m=5, n=257, packed=True), case(m=3, n=1032, packed=True, dtype=BF16, approximate="tanh"),
        *(case(m=1, n=72, extremes=True, approximate=form) for form in FORMS),
        # far out in the tail, where 1 + erf(x) cancels
        case(m=3, n=300, mean=-4.0),
        case(m=2**16 + 1, n=2**15, dtype=BF16, needs_gb=30, slices=by_rows(2**11)),
        case(entry=B, m=3, n=1025, approximate="none"), case(entry=B, m=3, n=1025, approximate="tanh"),
        case(entry=B, m=1, n=1), case(entry=B, m=0, n=5), case(entry=B, m=5, n=0),
        *(case(entry=B, m=7, n=13, approximate=form) for form in FORMS),
        case(entry=B, m=2, n=1023, approximate="tanh"), case(entry=B, m=3, n=300, dtype=FP16),
        case(entry=B, m=2, n=2048, dtype=BF16), case(entry=B, m=5, n=257, packed=True),
        case(entry=B, m=5, n=257, layout="columns"), case(entry=B, m=4, n=300, layout="same_rows", dtype=BF16),
        case(entry=B, m=5, n=67, layout="same", packed=True, approximate="tanh"),
        *(case(entry=B, m=1, n=72, extremes=True, approximate=form) for form in FORMS),
        # dh * up overflows fp16, dgate does not
        case(entry=B, m=3, n=300, dtype=FP16, scale=300.0, mean=-4.5),
        case(entry=B, m=2**16 + 1, n=2**15, dtype=BF16, needs_gb=50, slices=by_rows(2**11)),
        *(case(entry=G, m=3, n=1025, approximate=form) for form in FORMS),
        case(entry=G, m=5, n=67, layout="same", packed=True, dtype=BF16),
        *(case(entry=G, m=37, n=1030, approximate=form, compiled=True, needs_gb=1) for form in FORMS),
    ],
    refuses=[
        *(case(m=4, n=8, unfit=what) for what in UNFIT), case(m=4, n=8, approximate="erf"),
        case(entry=B, m=4, n=8, unfit="up is short"), case(entry=B, m=4, n=8, short=1),
        case(entry=B, m=4, n=8, approximate="erf"),
    ],
    graph=case(m=256, n=1024, packed=True, approximate="tanh", dtype=BF16),
    moves=[
        # halves, so that making them contiguous first is a copy
        Moves(case(m=8, n=4096, packed=True, dtype=BF16), bytes=three),
        Moves(case(entry=B, m=8, n=4096, packed=True, dtype=BF16), bytes=five),
        Moves(case(entry=G, m=8, n=4096, packed=True, dtype=BF16), bytes=eight, launches=2, memory=one_result),
    ],
    speed=[
        Speed(case(m=8192, n=14336, dtype=BF16, approximate="tanh"), bytes=three, target=0.83,
              peers={"torch": geglu, "torch.compile": geglu, "liger": liger, "flag_gems": gems}),
        Speed(case(m=8192, n=14336, dtype=BF16, approximate="none"), bytes=three, target=0.83,
              peers={"torch": geglu, "torch.compile": geglu, "flag_gems": gems}),
        Speed(case(entry=B, m=8192, n=14336, dtype=BF16, approximate="tanh"), bytes=five, target=0.88,
              peers={"torch": torch_backward, "torch.compile": torch_backward, "liger": liger_backward}),
        Speed(case(entry=B, m=8192, n=14336, dtype=BF16, approximate="none"), bytes=five, target=0.88,
              peers={"torch": torch_backward, "torch.compile": torch_backward}),
    ],
    bugs=[
        Bug("one operation a launch, what lies between them stored",
            (GELU, "gate * share"), ("    return h\n", "    return h * up\n"),
            (ARGUMENTS, "up = up.float() * dh.float()\n        " + ARGUMENTS), (DGATE, "up * (share + gate * slope)"),
            rung="moves"),
        Bug("stored activations: gelu is kept for the backward", (SAVED,
            "ctx.save_for_backward(gate, up, torch.nn.functional.gelu(gate))"),
            ("*ctx.saved_tensors", "*ctx.saved_tensors[:2]"), rung="moves"),
        Bug("asks torch to copy gate and up first",
            (STRIDES_OF, "gate, up = gate.contiguous(), up.contiguous()\n        strides = n, n\n"), rung="moves"),
        Bug("launches the kernel as it is, which torch.compile cannot see", (FORWARD_LAUNCH,
            FORWARD_LAUNCH.replace("wrap_triton(forward_kernel)", "forward_kernel")), rung="compiles"),
        Bug("launches the backward's kernel as it is", (BACKWARD_LAUNCH, "backward_kernel[grid](*arguments"),
            rung="compiles"),
        Bug("blocks of 32", (BLOCKS + "strides", BLOCKS.replace("512", "32") + "strides"), rung="fast"),
        Bug("the approximation for both forms", ('if APPROXIMATE == "tanh":', "if True:"),
            caught="m=3,n=1025,approximate=none"),
        Bug("the forms exchanged", ('if APPROXIMATE == "tanh":', 'if APPROXIMATE == "none":'),
            caught="m=3,n=1025,approximate=tanh"),
        Bug("a sigmoid of u, not of 2 u", ("tl.sigmoid(1.5957691216057308 *", "tl.sigmoid(0.7978845608028654 *"),
            caught="m=3,n=1025,approximate=tanh"),
        Bug("the square for the cube", ("0.044715 * x * x * x", "0.044715 * x * x"),
            caught="m=3,n=1025,approximate=tanh"),
        Bug("a square that lost its 3", ("0.134145", "0.044715"), caught=f"{B},m=7,n=13,approximate=tanh"),
        Bug("the slope of the tanh form without the inner derivative",
            (" * 1.5957691216057308 * (1 + 0.134145 * x * x)", ""),
            caught=f"{B},m=7,n=13,approximate=tanh"),
        Bug("a density that is not normalised", ("0.3989422804014327 * tl", "1.0 * tl"),
            caught=f"{B},m=7,n=13,approximate=none"),
        Bug("e**x for 2**x in the density", ("-0.7213475204444817", "-0.5"), caught=f"{B},m=7,n=13,approximate=none"),
        Bug("forgets that the share depends on the gate", (DGATE, "dh * up * share"),
            caught=f"{B},m=7,n=13,approximate=none"),
        Bug("dup without the gate", ("dh * gate * share, mask", "dh * share, mask"),
            caught=f"{B},m=7,n=13,approximate=none"),
        Bug("multiplies in 16 bits", (DGATE, "(dh.to(dh_ptr.dtype.element_ty) * up.to(dh_ptr.dtype.element_ty))"
            ".to(tl.float32) * (share + gate * slope)"), caught=f"{B},m=3,n=300,fp16,scale=300.0,mean=-4.5"),
        Bug("takes dh for contiguous", ("*dh.stride(),", "n, 1,"), caught=f"{B},m=5,n=257,layout=columns"),
        Bug("the rows of gate and up as far apart as their length", (STRIDES_OF, "strides = n, n\n"),
            caught="m=5,n=257,packed=True"),
        Bug("the backward always by erf", ("*ctx.saved_tensors, ctx.approximate", '*ctx.saved_tensors, "none"'),
            caught=f"{G},m=3,n=1025,approximate=tanh"),
        Bug("gate and up exchanged on their way to the backward", (SAVED, "ctx.save_for_backward(up, gate)"),
            caught=f"{G},m=3,n=1025,approximate=none"),
        Bug("no mask", ("mask = columns < n\n    gate", "mask = columns < n + BLOCK\n    gate"),
            caught="m=3,n=1025,approximate=none"),
        Bug("accepts any name of a form", ('if approximate not in ("none", "tanh"):', "if False:"),
            caught="m=4,n=8,approximate=erf"),
    ],
    variants=[
        Variant("by erf and tanh, as the formulas say", ("import triton.language as tl\n",
                "import triton.language as tl\nfrom triton.language.extra import libdevice\n"), fill={1: """
            if APPROXIMATE == "tanh":
                t = libdevice.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x))
                return 0.5 * (1 + t), 0.5 * (1 - t * t) * 0.7978845608028654 * (1 + 3 * 0.044715 * x * x)
            else:
                return 0.5 * (1 + tl.erf(0.7071067811865476 * x)), 0.3989422804014327 * tl.exp(-0.5 * x * x)
        """}),
        Variant("large blocks", (BLOCKS + "strides", BLOCKS.replace("512", "4096") + "strides"),
                (BLOCKS + "arguments", BLOCKS.replace("512", "2048") + "arguments")),
        Variant("a grid of two axes", (BLOCKS + "strides", BLOCKS.replace(
                "(m * triton.cdiv(n, BLOCK),)", "(triton.cdiv(n, BLOCK), m)") + "strides"), fill={2: """
            row = tl.program_id(1).to(tl.int64)
            columns = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
            mask = columns < n
            gate = tl.load(gate_ptr + row * stride_gate + columns, mask=mask).to(tl.float32)
            up = tl.load(up_ptr + row * stride_up + columns, mask=mask)
            share = share_and_slope(gate, APPROXIMATE)[0]
            tl.store(h_ptr + row * n + columns, up * (gate * share), mask=mask)
        """}),
        Variant("a grid that is a function", (BLOCKS + "arguments", """        BLOCK = 1024
        grid = lambda meta: (m * triton.cdiv(n, meta["BLOCK"]),)
        arguments""")),
    ],
)
