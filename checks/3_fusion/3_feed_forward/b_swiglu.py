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


def swiglu(gate, up):
    return F.silu(gate) * up


def swiglu_gradients(dh, gate, up):
    return gradients(swiglu, [gate, up], dh)


def torch_backward(dh, gate, up):
    share = torch.sigmoid(gate.float())
    dgate = dh.float() * up.float() * share * (1 + gate.float() * (1 - share))
    return dgate.to(gate.dtype), (dh.float() * gate.float() * share).to(gate.dtype)


def liger(gate, up):
    from liger_kernel.ops.swiglu import swiglu_forward

    return swiglu_forward(gate, up)[2]


def liger_backward(dh, gate, up):
    # in place: it stores dgate over gate, and dup over up
    from liger_kernel.ops.swiglu import swiglu_backward

    return swiglu_backward(gate, up, dh)


def gems(gate, up):
    import flag_gems

    return flag_gems.silu_and_mul(gate, up)


def three(gate, up):
    return 3 * gate.nbytes


def five(dh, gate, up):
    return 5 * gate.nbytes


def autograd_bytes(dh, gate, up):
    return 8 * gate.nbytes  # three forward, five backward


def one_result(dh, gate, up):
    return gate.nbytes  # h, which the forward returns


backward = Entry(inputs=with_upstream, reference=swiglu_gradients, outputs=("dgate", "dup"))
B, G = "swiglu_backward", "gradients_of_swiglu"
# what bugs and variants change
SILU = "gate * tl.sigmoid(gate) * up"
DGATE = "dh * up * share * (1 + gate * (1 - share))"
SAVED = "ctx.save_for_backward(gate, up)\n        return swiglu_forward(gate, up)"
USED = "return swiglu_backward(dh, *ctx.saved_tensors)"
FORWARD_LAUNCH = "forward_kernel[grid](gate, up, h, n, gate.stride(0), up.stride(0), BLOCK=BLOCK)"
STRIDES_OF = "strides = *dh.stride(), gate.stride(0), up.stride(0)"
BLOCKS = """        BLOCK = 512
        grid = (m * triton.cdiv(n, BLOCK),)
        """
WHOLE_ROWS = """        BLOCK = triton.next_power_of_2(n)
        grid = (m,)
        """
KEPT = """silu = torch.empty_like(gate)
        forward_kernel[(gate.shape[0] * triton.cdiv(gate.shape[1], 512),)](
            gate, torch.ones_like(gate), silu, gate.shape[1], gate.stride(0), gate.shape[1], BLOCK=512
        )
        ctx.save_for_backward(gate, up, silu)
        return swiglu_forward(gate, up)"""

exercise = Exercise(
    entry="swiglu_forward",
    outputs=("h",),
    inputs=halves,
    reference=swiglu,
    also={B: backward, G: backward},
    deterministic=True,
    provisional=True,
    cases=[
        case(m=3, n=1025), case(m=1, n=1), case(m=0, n=5), case(m=5, n=0), case(m=2, n=1023), case(m=2, n=1024),
        case(m=7, n=211), case(m=3, n=300, dtype=FP16), case(m=2, n=2048, dtype=BF16),
        case(m=5, n=257, packed=True), case(m=3, n=1032, packed=True, dtype=BF16),
        case(m=1, n=72, extremes=True), case(m=2, n=72, extremes=True, dtype=FP16),
        case(m=3, n=300, dtype=FP16, scale=60.0),
        case(m=2**16 + 1, n=2**15, dtype=BF16, needs_gb=30, slices=by_rows(2**11)),
        case(entry=B, m=3, n=1025), case(entry=B, m=1, n=1), case(entry=B, m=0, n=5), case(entry=B, m=5, n=0),
        case(entry=B, m=2, n=1023), case(entry=B, m=7, n=13), case(entry=B, m=3, n=300, dtype=FP16),
        case(entry=B, m=2, n=2048, dtype=BF16), case(entry=B, m=5, n=257, packed=True),
        case(entry=B, m=5, n=257, layout="columns"), case(entry=B, m=4, n=300, layout="same_rows", dtype=BF16),
        case(entry=B, m=5, n=67, layout="same", packed=True), case(entry=B, m=1, n=72, extremes=True),
        # dh * up overflows fp16, dgate does not
        case(entry=B, m=3, n=300, dtype=FP16, scale=300.0, mean=-9.0),
        case(entry=B, m=2**16 + 1, n=2**15, dtype=BF16, needs_gb=50, slices=by_rows(2**11)),
        case(entry=G, m=3, n=1025), case(entry=G, m=5, n=67, layout="same", packed=True, dtype=BF16),
    ],
    refuses=[
        *(case(m=4, n=8, unfit=what) for what in UNFIT),
        case(entry=B, m=4, n=8, unfit="up is short"), case(entry=B, m=4, n=8, short=1),
    ],
    moves=[
        # halves, so that making them contiguous first is a copy
        Moves(case(m=8, n=4096, packed=True, dtype=BF16), bytes=three),
        Moves(case(entry=B, m=8, n=4096, packed=True, dtype=BF16), bytes=five),
        Moves(case(entry=G, m=8, n=4096, packed=True, dtype=BF16), bytes=autograd_bytes, launches=2,
              memory=one_result),
    ],
    speed=[
        Speed(case(m=8192, n=14336, dtype=BF16), bytes=three, target=0.88,
              peers={"torch": swiglu, "torch.compile": swiglu, "liger": liger, "flag_gems": gems}),
        Speed(case(entry=B, m=8192, n=14336, dtype=BF16), bytes=five, target=0.88,
              peers={"torch": torch_backward, "torch.compile": torch_backward, "liger": liger_backward}),
    ],
    bugs=[
        Bug("one operation a launch, what lies between them stored",
            (SILU, "gate * tl.sigmoid(gate)"), ("    return h\n", "    return h * up\n"),
            (STRIDES_OF, "up = up.float() * dh.float()\n        " + STRIDES_OF),
            (DGATE, "up * share * (1 + gate * (1 - share))"), rung="moves"),
        Bug("stored activations: silu is kept for the backward", (SAVED, KEPT),
            (USED, USED.replace("*ctx.saved_tensors", "*ctx.saved_tensors[:2]")), rung="moves"),
        Bug("asks torch to copy gate and up first", (FORWARD_LAUNCH, FORWARD_LAUNCH.replace(
            "gate, up, h, n, gate.stride(0), up.stride(0)", "gate.contiguous(), up.contiguous(), h, n, n, n")),
            rung="moves"),
        Bug("keeps copies of gate and up", ("ctx.save_for_backward(gate, up)",
            "ctx.save_for_backward(gate.clone(), up.clone())"), rung="moves"),
        Bug("asks torch to lay dh out anew", (STRIDES_OF, "dh = dh.clone()\n        " + STRIDES_OF), rung="moves"),
        Bug("blocks of 32", (BLOCKS + "forward", BLOCKS.replace("512", "32") + "forward"), rung="fast"),
        Bug("takes up for the gate", (SILU, "up * tl.sigmoid(up) * gate"), caught="m=3,n=1025"),
        Bug("sigmoid alone for silu", (SILU, "tl.sigmoid(gate) * up"), caught="m=3,n=1025"),
        Bug("sigmoid of exp(x), which overflows", (SILU, "gate * tl.exp(gate) / (1 + tl.exp(gate)) * up"),
            caught="m=1,n=72,extremes=True"),
        Bug("relu for silu", (SILU, "tl.maximum(gate, 0.0) * up"), caught="m=7,n=211"),
        Bug("the rows of up are as far apart as those of gate in one tensor",
            ("h, n, gate.stride(0), up.stride(0)", "h, n, n, n"), caught="m=5,n=257,packed=True"),
        Bug("forgets that the share depends on the gate", (DGATE, "dh * up * share"), caught=f"{B},m=7,n=13"),
        Bug("the derivative of the sigmoid alone", (DGATE, "dh * up * share * (1 - share)"), caught=f"{B},m=7,n=13"),
        Bug("dgate without up", (DGATE, "dh * share * (1 + gate * (1 - share))"), caught=f"{B},m=7,n=13"),
        Bug("dup without the gate", ("dh * gate * share, mask", "dh * share, mask"), caught=f"{B},m=7,n=13"),
        Bug("multiplies in 16 bits", (DGATE, "(dh.to(dh_ptr.dtype.element_ty) * up.to(dh_ptr.dtype.element_ty))"
            ".to(tl.float32) * share * (1 + gate * (1 - share))"), caught=f"{B},m=3,n=300,fp16,scale=300.0,mean=-9.0"),
        Bug("takes dh for contiguous", ("*dh.stride(),", "n, 1,"), caught=f"{B},m=5,n=257,layout=columns"),
        Bug("takes the rows of dh for contiguous", ("*dh.stride(),", "dh.stride(0), 1,"),
            caught=f"{B},m=5,n=67,layout=same,packed=True"),
        Bug("works in place", ("dgate = torch.empty((m, n), dtype=gate.dtype, device=gate.device)", "dgate = gate"),
            caught=f"{B},m=3,n=1025"),
        Bug("the gradients in the wrong order", ("return dgate, dup", "return dup, dgate"), caught=f"{B},m=7,n=13"),
        Bug("gate and up exchanged on their way to the backward", ("ctx.save_for_backward(gate, up)",
            "ctx.save_for_backward(up, gate)"), caught=f"{G},m=3,n=1025"),
        Bug("no mask", ("mask = columns < n\n    gate", "mask = columns < n + BLOCK\n    gate"), caught="m=3,n=1025"),
        Bug("drops the ragged tail", (BLOCKS + "forward", BLOCKS.replace("triton.cdiv(n, BLOCK)",
            "max(1, n // BLOCK)") + "forward"), caught="m=3,n=1025"),
        Bug("accepts two dtypes", ("if up.dtype != gate.dtype:", "if False:"), caught="m=4,n=8,unfit=dtypes differ"),
    ],
    variants=[
        Variant("a program a row", (BLOCKS + "forward", WHOLE_ROWS + "forward"),
                (BLOCKS + "strides", WHOLE_ROWS + "strides"), fill={1: """
            row = tl.program_id(0).to(tl.int64)
            columns = tl.arange(0, BLOCK)
            gate = tl.load(gate_ptr + row * stride_gate + columns, mask=columns < n, other=0.0).to(tl.float32)
            up = tl.load(up_ptr + row * stride_up + columns, mask=columns < n, other=0.0).to(tl.float32)
            tl.store(h_ptr + row * n + columns, gate / (1 + tl.exp(-gate)) * up, mask=columns < n)
        """, 2: """
            row = tl.program_id(0).to(tl.int64)
            columns = tl.arange(0, BLOCK)
            mask = columns < n
            dh = tl.load(dh_ptr + row * stride_dh_m + columns.to(tl.int64) * stride_dh_n, mask=mask).to(tl.float32)
            gate = tl.load(gate_ptr + row * stride_gate + columns, mask=mask).to(tl.float32)
            up = tl.load(up_ptr + row * stride_up + columns, mask=mask).to(tl.float32)
            share = 1 / (1 + tl.exp(-gate))
            silu = gate * share
            tl.store(dup_ptr + row * n + columns, dh * silu, mask=mask)
            tl.store(dgate_ptr + row * n + columns, dh * up * (share + silu * (1 - share)), mask=mask)
        """}),
        Variant("a grid of two axes",
                (BLOCKS + "forward", BLOCKS.replace("(m * triton.cdiv(n, BLOCK),)", "(triton.cdiv(n, BLOCK), m)")
                 + "forward"), fill={1: """
            row = tl.program_id(1).to(tl.int64)
            columns = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
            mask = columns < n
            gate = tl.load(gate_ptr + row * stride_gate + columns, mask=mask).to(tl.float32)
            up = tl.load(up_ptr + row * stride_up + columns, mask=mask)
            tl.store(h_ptr + row * n + columns, up * (gate * tl.sigmoid(gate)), mask=mask)
        """}),
        Variant("large blocks", (BLOCKS + "forward", BLOCKS.replace("512", "4096") + "forward"),
                (BLOCKS + "strides", BLOCKS.replace("512", "2048") + "strides")),
        Variant("the Function does it all", fill={5: """
            ctx.tensors = gate, up
            return swiglu_forward(gate, up)
        """, 6: """
            dgate, dup = swiglu_backward(dh, *ctx.tensors)
            return dgate, dup
        """}),
    ],
)
