import torch
from workbook.exercise import Bug, Entry, Exercise, Moves, Speed, Variant, by_rows, case, gradients, normal
from workbook.layouts import MATRIX

EPS = 1e-5
STRIDES = MATRIX | {
    "rows_far_apart": lambda m, n: (2**30, 1),
    "columns_far_apart": lambda m, n: (1, 2**30),
}


def matrix(m, n, dtype=torch.float32, layout="rows", scale=1.0):
    return normal(m, n, dtype=dtype, scale=scale, strides=STRIDES[layout](m, n))


def weights(n, dtype=torch.float32):
    return normal(n, dtype=dtype, mean=1.0, scale=0.3)


def addend(m, n, dtype, layout, scale):
    """In 16 bits integers whose sum is exact: what is normalised may be the sum before it is rounded, or after."""
    x = matrix(m, n, dtype, layout, scale)
    return x if x.itemsize > 2 or x.is_meta else x.random_(int(-127 * scale), int(127 * scale) + 1)


def forward_inputs(
    m, n, dtype=torch.float32, x="rows", residual="rows", scale=1.0, values="normal", wrong=None
):
    """x, residual: how they lie. values: of some elements. wrong: what has another shape than is asked."""
    x, residual = addend(m, n, dtype, x, scale), addend(m, n, dtype, residual, scale)
    if values == "zeros":
        x[0] = residual[0] = 0
    elif values != "normal":
        x[0, n // 2] = residual[1, -1] = values
    if wrong == "x":
        x = x[0]
    if wrong == "residual":  # which torch would broadcast
        residual = residual[:1]
    return x, residual, weights(n + (wrong == "w"), dtype), EPS


def plain_inputs(m, n, **values):
    x, _, w, eps = forward_inputs(m, n, **values)
    return x, w, eps


def backward_inputs(
    m, n, dtype=torch.float32, dy="rows", ds=None, s="rows", scale=1.0, value=0, wrong=None
):
    """dy, ds, s: how they lie; ds None: there is none. value: of an element of dy, where it is not 0."""
    s, dy, ds = matrix(m, n, dtype, s, scale), matrix(m, n, dtype, dy), ds and matrix(m, n, dtype, ds)
    if value:
        dy[0, n // 2] = value
    rstd = torch.rsqrt(s.float().square().mean(1) + EPS)
    return dy[:1] if wrong == "dy" else dy, ds[:, :1] if wrong == "ds" else ds, s, weights(n, dtype), rstd


def autograd_inputs(m, n, dtype=torch.float32):
    return matrix(m, n, dtype), matrix(m, n, dtype, "same_rows"), *forward_inputs(m, n, dtype)


def plain_autograd_inputs(m, n, dtype=torch.float32):
    return matrix(m, n, dtype, "same"), *plain_inputs(m, n, dtype=dtype)


def normalised(s, w, eps=EPS):
    rstd = torch.rsqrt(s.square().mean(1, keepdim=True) + eps)
    return s * rstd * w, rstd[:, 0].to(torch.promote_types(s.dtype, torch.float32))


def forward(x, residual, w, eps):
    s = x + residual
    y, rstd = normalised(s, w, eps)
    return y, s, rstd


def backward(dy, ds, s, w, rstd):
    if ds is None:
        return gradients(lambda s, w: normalised(s, w)[0], (s, w), dy)
    return gradients(lambda s, w: (normalised(s, w)[0], s.clone()), (s, w), (dy, ds))


def autograd(dy, ds, x, residual, w, eps):
    return gradients(lambda x, residual, w: forward(x, residual, w, eps)[:2], (x, residual, w), (dy, ds))


def plain_autograd(dy, x, w, eps):
    return gradients(lambda x, w: normalised(x, w, eps)[0], (x, w), dy)


def torch_forward(x, residual, w, eps):
    s = x + residual
    return torch.nn.functional.rms_norm(s, w.shape, w, eps), s


def torch_plain(x, w, eps):
    return torch.nn.functional.rms_norm(x, w.shape, w, eps)


def torch_backward(dy, ds, s, w, rstd):
    dx, dw = torch.ops.aten._fused_rms_norm_backward(dy, s, w.shape, rstd[:, None], w, [True, True])
    return (dx if ds is None else dx + ds), dw


def liger_forward(x, residual, w, eps):
    from liger_kernel.ops.fused_add_rms_norm import LigerFusedAddRMSNormFunction

    return LigerFusedAddRMSNormFunction.apply(x, residual, w, eps)


def liger_plain(x, w, eps):
    from liger_kernel.ops.rms_norm import LigerRMSNormFunction

    return LigerRMSNormFunction.apply(x, w, eps)


def liger_backward(dy, ds, s, w, rstd):
    from liger_kernel.ops import fused_add_rms_norm, rms_norm, utils

    how = 0.0, rms_norm._CASTING_MODE_LLAMA.value, *utils.calculate_settings(s.shape[1])
    if ds is None:  # over dy, as by default: otherwise it fills dx with zeros first
        return rms_norm.rms_norm_backward(dy, s, w, rstd, *how, in_place=True, row_mode=None)
    return fused_add_rms_norm.fused_add_rms_norm_backward(dy, ds, s, w, rstd, *how, num_stages=2, in_place=False)


def gems_forward(x, residual, w, eps):
    from flag_gems.fused import fused_add_rms_norm  # the one in flag_gems itself prints a line at every call

    return fused_add_rms_norm(x, residual, w.shape, w, eps)  # in place: y over x, s over the residual


def gems_plain(x, w, eps):
    import flag_gems

    return flag_gems.rms_norm_forward(x, w.shape, w, eps)


def gems_backward(dy, ds, s, w, rstd):
    import flag_gems

    return flag_gems.rms_norm_backward(dy, s, rstd, w.shape, w)


def forward_bytes(x, residual, w, eps):
    return 4 * x.nbytes + w.nbytes + 4 * len(x)


def plain_bytes(x, w, eps):
    return 2 * x.nbytes + w.nbytes + 4 * len(x)


def backward_bytes(dy, ds, s, w, rstd):
    return (3 if ds is None else 4) * s.nbytes + 2 * w.nbytes + rstd.nbytes


forward_peers = {
    "torch": torch_forward, "torch.compile": torch_forward, "liger": liger_forward, "flag_gems": gems_forward,
}
plain_peers = {"torch": torch_plain, "torch.compile": torch_plain, "liger": liger_plain, "flag_gems": gems_plain}
backward_peers = {"torch": torch_backward, "torch.compile": torch_backward, "liger": liger_backward}

# what bugs and variants change
FORWARD = '    check(w, {"x": x, "residual": residual}, {})\n'
BACKWARD = '    check(w, {"s": s}, {"dy": dy, "ds": ds})\n'
X = "s = tl.load(x_ptr + row * stride_x + columns, mask=mask, other=0.0).to(tl.float32)\n"
RESIDUAL = """    if residual_ptr is not None:
        s += tl.load(residual_ptr + row * stride_residual + columns, mask=mask, other=0.0).to(tl.float32)
"""
S_STORE = "tl.store(s_ptr + row * n + columns, s, mask=mask)\n"
RSTD = "    rstd = tl.rsqrt(tl.sum(s * s, 0) / n + eps)\n"
HALF = """    half = s.to(x_ptr.dtype.element_ty)
    rstd = tl.rsqrt(tl.sum((half * half).to(tl.float32), 0) / n + eps)
"""
Y_STORE = "    tl.store(y_ptr + row * n + columns, s * rstd * w, mask=mask)\n"
W = "    w = tl.load(w_ptr + columns, mask=mask, other=0.0).to(tl.float32)\n    dw ="
ROWS = "tl.range(program, m, tl.num_programs(0), num_stages=STAGES)"
RSTD_LOAD = "        rstd = tl.load(rstd_ptr + row)\n"
DW, G = "dw += dy * normed", "        g = dy * w\n"
DX = "dx = (g - normed * (tl.sum(g * normed, 0) / n)) * rstd + ds"
S, PROGRAMS = "(x, 0) if residual is None else", "min(m, multiprocessors * (16 // num_warps))"
LAUNCH, SUMS = "        backward_kernel[(programs,)](", "    column_sums_kernel[("
RETURN, GIVEN = "    return dx, dw\n", "return dx, None if ctx.alone else dx, dw, None"

exercise = Exercise(
    entry="rms_norm_forward",
    outputs=("y", "s", "rstd"),
    inputs=forward_inputs,
    reference=forward,
    also={
        "plain_forward": Entry(inputs=plain_inputs, reference=normalised, outputs=("y", "rstd")),
        "rms_norm_backward": Entry(inputs=backward_inputs, reference=backward, outputs=("dx", "dw")),
        "gradients_of_rms_norm": Entry(
            inputs=autograd_inputs, reference=autograd, outputs=("dx", "dresidual", "dw"),
        ),
        "gradients_of_plain": Entry(inputs=plain_autograd_inputs, reference=plain_autograd, outputs=("dx", "dw")),
    },
    deterministic=True,
    provisional=True,
    cases=[
        # first, so that it is compiled: two rows of each fit no GPU's shared memory
        case(entry="rms_norm_backward", m=3, n=6144, ds="rows"),
        case(m=5, n=1000), case(m=1, n=1), case(m=3, n=2), case(m=0, n=5), case(m=3, n=1023), case(m=3, n=1025),
        case(m=1, n=16384), case(m=3, n=4096, dtype=torch.bfloat16),
        case(m=5, n=777, dtype=torch.float16), case(m=5, n=300, dtype=torch.bfloat16),
        case(m=5, n=300, x="padded"), case(m=5, n=300, residual="padded", dtype=torch.bfloat16),
        case(m=4, n=70, x="same_rows"),
        case(m=5, n=300, dtype=torch.float16, scale=8.0),  # the squares overflow
        case(m=5, n=300, scale=1e-3), case(m=3, n=300, values="zeros"),
        case(m=3, n=300, values=torch.nan), case(m=3, n=300, values=torch.inf),
        case(entry="plain_forward", m=5, n=1000), case(entry="plain_forward", m=0, n=5),
        case(entry="plain_forward", m=5, n=300, x="padded", dtype=torch.bfloat16),
        case(entry="plain_forward", m=5, n=777, dtype=torch.float16, scale=16.0),
        case(entry="plain_forward", m=2**17 + 1, n=2**14, dtype=torch.bfloat16, needs_gb=28, slices=by_rows(2**12)),
        case(entry="rms_norm_backward", m=5, n=1000), case(entry="rms_norm_backward", m=5, n=1000, ds="rows"),
        case(entry="rms_norm_backward", m=1, n=1, ds="rows"), case(entry="rms_norm_backward", m=0, n=5),
        case(entry="rms_norm_backward", m=3, n=5), case(entry="rms_norm_backward", m=4, n=6, ds="rows"),
        # more rows than programs
        case(entry="rms_norm_backward", m=70, n=37), case(entry="rms_norm_backward", m=6, n=4097, ds="rows"),
        case(entry="rms_norm_backward", m=5, n=777, dtype=torch.float16, ds="rows"),
        case(entry="rms_norm_backward", m=9, n=1024, dtype=torch.bfloat16, ds="rows"),
        case(entry="rms_norm_backward", m=5, n=300, dtype=torch.float16, scale=500.0),
        case(entry="rms_norm_backward", m=5, n=300, value=torch.nan),
        case(entry="rms_norm_backward", m=7, n=33, dy="same"),
        case(entry="rms_norm_backward", m=7, n=33, dy="columns", ds="same"),
        case(entry="rms_norm_backward", m=7, n=33, dy="same_rows", ds="columns", s="padded"),
        case(entry="rms_norm_backward", m=300, n=16384, dtype=torch.bfloat16, ds="rows", needs_gb=1),
        case(
            entry="rms_norm_backward", m=3, n=3, dtype=torch.bfloat16, dy="columns_far_apart", s="rows_far_apart",
            needs_gb=36,
        ),
        case(entry="gradients_of_rms_norm", m=3, n=4), case(entry="gradients_of_rms_norm", m=5, n=300),
        case(entry="gradients_of_rms_norm", m=5, n=300, dtype=torch.bfloat16),
        case(entry="gradients_of_plain", m=3, n=4), case(entry="gradients_of_plain", m=5, n=300),
    ],
    refuses=[
        case(m=2, n=16385), case(m=2, n=0), case(m=3, n=4, wrong="x"), case(m=3, n=4, wrong="residual"),
        case(m=3, n=4, wrong="w"), case(m=3, n=4, x="columns"), case(m=3, n=4, residual="same"),
        case(entry="plain_forward", m=2, n=16385), case(entry="rms_norm_backward", m=3, n=4, s="columns"),
        case(entry="rms_norm_backward", m=3, n=4, wrong="dy"),
        case(entry="rms_norm_backward", m=3, n=4, ds="rows", wrong="ds"),
    ],
    moves=[
        # a program a row reads w with each row; in the backward it may, too
        Moves(
            case(m=16, n=2**12, dtype=torch.bfloat16, x="padded", residual="padded"),
            bytes=forward_bytes, slack=1.3,
        ),
        Moves(case(entry="plain_forward", m=16, n=2**12, dtype=torch.bfloat16), bytes=plain_bytes, slack=1.6),
        Moves(
            case(entry="rms_norm_backward", m=128, n=2**12, dtype=torch.bfloat16, dy="padded", ds="rows"),
            bytes=backward_bytes, slack=1.4, launches=2, memory=lambda dy, ds, s, w, rstd: s.nbytes // 2,
        ),
    ],
    speed=[
        Speed(
            case(m=16384, n=4096, dtype=torch.bfloat16),
            bytes=forward_bytes, target=0.85, peers=forward_peers,
        ),
        Speed(
            case(entry="plain_forward", m=16384, n=8192, dtype=torch.bfloat16),
            bytes=plain_bytes, target=0.88, naive_fails=False, peers=plain_peers,
        ),
        Speed(
            case(entry="rms_norm_backward", m=16384, n=4096, dtype=torch.bfloat16, ds="rows"),
            bytes=backward_bytes, target=0.72, peers=backward_peers,
        ),
        Speed(
            case(entry="rms_norm_backward", m=16384, n=8192, dtype=torch.bfloat16),
            bytes=backward_bytes, target=0.74, naive_fails=False, peers=backward_peers | {"flag_gems": gems_backward},
        ),
    ],
    bugs=[
        Bug("torch adds, forward and backward",
            (FORWARD, FORWARD + "    x, residual = (x if residual is None else x + residual), None\n"),
            (BACKWARD, BACKWARD + "    above, ds = ds, None\n"),
            (RETURN, "    return (dx if above is None else dx + above), dw\n"), rung="moves"),
        Bug("the row is read again for y", (Y_STORE, "    " + X + RESIDUAL + Y_STORE), rung="moves"),
        Bug("a launch for dx, another for dw", (LAUNCH, "        for _ in range(2):\n    " + LAUNCH), rung="moves"),
        Bug("a partial sum for each row", (PROGRAMS, "m"), rung="moves"),
        Bug("asks torch to copy dy first", (BACKWARD, BACKWARD + "    dy = dy.contiguous()\n"), rung="moves"),
        Bug("stores a sum where nothing is added",
            (S, S.replace("x", "torch.empty_like(y)")), (RSTD, "    " + S_STORE + RSTD), rung="moves"),
        Bug("forgets eps", (RSTD, RSTD.replace(" + eps", "")), caught="m=5,n=300,scale=0.001"),
        Bug("adds eps to the root", (RSTD, "    rstd = 1 / (tl.sqrt(tl.sum(s * s, 0) / n) + eps)\n"),
            caught="m=5,n=300,scale=0.001"),
        Bug("the mean over BLOCK elements", (RSTD, RSTD.replace("/ n", "/ BLOCK")), caught="m=5,n=1000"),
        Bug("subtracts the mean, as LayerNorm does",
            (RSTD, "    s = tl.where(mask, s - tl.sum(s, 0) / n, 0.0)\n" + RSTD), caught="m=5,n=1000"),
        Bug("squares in 16 bits", (RSTD, HALF), caught="m=5,n=300,fp16,scale=8.0"),
        Bug("lanes past the end hold 1", (X, X.replace("other=0.0", "other=1.0")), caught="m=5,n=1000"),
        Bug("takes the rows of x to be adjacent", (X, X.replace("stride_x", "n")), caught="m=5,n=300,x=padded"),
        Bug("takes the residual to lie as x does",
            ("residual.stride(0)", "x.stride(0)"), caught="m=5,n=300,residual=padded,bf16"),
        Bug("stores over x where nothing is added",
            (RSTD, "    " + S_STORE + RSTD), caught="plain_forward,m=5,n=300,x=padded,bf16"),
        Bug("dx without what goes through rstd", (DX, "dx = g * rstd + ds"), caught="rms_norm_backward,m=5,n=1000"),
        Bug("a mean over BLOCK elements in dx",
            (DX, DX.replace("/ n", "/ BLOCK")), caught="rms_norm_backward,m=5,n=1000"),
        Bug("a mean of dy, not of dy * w, in dx",
            (DX, DX.replace("sum(g", "sum(dy")), caught="rms_norm_backward,m=5,n=1000"),
        Bug("the gradient of the sum is scaled by rstd",
            (DX, DX.replace(" + ds", "").replace(") * rstd", " + ds) * rstd")),
            caught="rms_norm_backward,m=5,n=1000,ds=rows"),
        Bug("the gradient of the sum is left out",
            (DX, DX.replace(" + ds", "")), caught="rms_norm_backward,m=5,n=1000,ds=rows"),
        Bug("the gradient of the sum is added to dy",
            (RSTD_LOAD, "        dy += ds\n" + RSTD_LOAD), (DX, DX.replace(" + ds", "")),
            caught="rms_norm_backward,m=5,n=1000,ds=rows"),
        Bug("dw of what is not normalised", (DW, "dw += dy * s"), caught="rms_norm_backward,m=5,n=1000"),
        Bug("rows on their way, whether they fit or not", ("STAGES = 3 if", "STAGES = 3 if True or"), rung="compiles"),
        Bug("each program takes one row", (ROWS, "range(program, program + 1)"),
            caught="rms_norm_backward,m=70,n=37"),
        Bug("partial sums in 16 bits", ("(programs, n), dtype=torch.float32", "(programs, n), dtype=torch.bfloat16"),
            caught="rms_norm_backward,m=5,n=1000"),
        Bug("drops the ragged rows of partial",
            ("range(0, programs, TILE_M)", "range(0, programs - TILE_M + 1, TILE_M)"),
            caught="rms_norm_backward,m=5,n=1000"),
        Bug("takes dy to be contiguous", ("*dy.stride()", "n, 1"), caught="rms_norm_backward,m=7,n=33,dy=same"),
        Bug("takes the columns of dy to be adjacent", ("*dy.stride()", "dy.stride(0), 1"),
            caught="rms_norm_backward,m=7,n=33,dy=columns,ds=same"),
        Bug("takes ds to lie as dy does", ("else ds.stride()", "else dy.stride()"),
            caught="rms_norm_backward,m=7,n=33,dy=columns,ds=same"),
        Bug("takes the rows of s to be adjacent", ("s.stride(0)\n        backward", "n\n        backward"),
            caught="rms_norm_backward,m=7,n=33,dy=same_rows,ds=columns,s=padded"),
        Bug("leaves dw as it was where there are no rows",
            (SUMS, "    if m > 0:\n    " + SUMS), caught="rms_norm_backward,m=0,n=5"),
        Bug("keeps x for the backward, not the sum",
            ("save_for_backward(s,", "save_for_backward(x,"), caught="gradients_of_rms_norm,m=5,n=300"),
        Bug("gives the residual the gradient of the sum alone",
            (GIVEN, GIVEN.replace("else dx", "else ds")), caught="gradients_of_rms_norm,m=5,n=300"),
        Bug("has a gradient for a residual of None",
            (GIVEN, "return dx, dx, dw, None"), caught="gradients_of_plain,m=3,n=4"),
        Bug("takes any width", ("<= LIMIT", "<= 2 * LIMIT"), caught="m=2,n=16385"),
        Bug("takes a residual of one row",
            ("t.shape != first.shape", "t.shape[1:] != first.shape[1:]"), caught="m=3,n=4,wrong=residual"),
    ],
    variants=[
        Variant("y of the rounded sum", (RSTD, "    s = s.to(y_ptr.dtype.element_ty).to(tl.float32)\n" + RSTD)),
        Variant("a chunk of neighbouring rows a program",
            (W, "    share = tl.cdiv(m, tl.num_programs(0))\n" + W),
            (ROWS, "range(program * share, tl.minimum((program + 1) * share, m))")),
        Variant("w once more for each row", (W, "    dw ="), (G, W.replace("    w", "        w")[:-8] + G)),
        Variant("twice as many warps, half as many programs", ("// 512, 1), 16", "// 256, 1), 16")),
        Variant("two rows at a step, dx from s and the cube of rstd", fill={2: """
            program, lanes = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK).to(tl.int64)
            columns = lanes[None, :]
            w = tl.load(w_ptr + columns, mask=columns < n, other=0.0).to(tl.float32)
            dw = tl.zeros((BLOCK,), tl.float32)
            for start in range(2 * program, m, 2 * tl.num_programs(0)):
                rows = start + tl.arange(0, 2)[:, None]
                mask = (rows < m) & (columns < n)
                dy = tl.load(dy_ptr + rows * stride_dy_m + columns * stride_dy_n, mask=mask, other=0.0).to(tl.float32)
                s = tl.load(s_ptr + rows * stride_s + columns, mask=mask, other=0.0).to(tl.float32)
                rstd = tl.load(rstd_ptr + rows, mask=rows < m, other=0.0)
                scale = rstd * rstd * rstd * tl.sum(dy * w * s, 1, keep_dims=True) / n
                dx = rstd * dy * w - scale * s
                if ds_ptr is not None:
                    ds_ptrs = ds_ptr + rows * stride_ds_m + columns * stride_ds_n
                    dx += tl.load(ds_ptrs, mask=mask, other=0.0).to(tl.float32)
                tl.store(dx_ptr + rows * n + columns, dx, mask=mask)
                dw += tl.sum(dy * s * rstd, 0)
            tl.store(partial_ptr + program * n + lanes, dw, mask=lanes < n)
        """}),
        Variant("dw one row of partial after the other", fill={3: """
            columns = tl.program_id(0) * TILE_N + tl.arange(0, TILE_N)
            acc = tl.zeros((TILE_N,), tl.float32)
            for row in range(programs):
                acc += tl.load(partial_ptr + row * n + columns, mask=columns < n, other=0.0)
            tl.store(dw_ptr + columns, acc, mask=columns < n)
        """}),
    ],
)
