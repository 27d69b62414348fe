import torch
from workbook.exercise import Bug, Entry, Exercise, Moves, Speed, Variant, case, gradients, normal
from workbook.layouts import MATRIX

EPS = 1e-5
AUTOGRAD = "gradients_of_layer_norm"
WRONG = {  # calls that make no sense
    "dy": lambda dy, x, w, mean, rstd: (dy[:, 1:], x, w, mean, rstd),
    "w": lambda dy, x, w, mean, rstd: (dy, x, w[1:], mean, rstd),
    "mean": lambda dy, x, w, mean, rstd: (dy, x, w, mean[:, None], rstd),
    "rstd": lambda dy, x, w, mean, rstd: (dy, x, w, mean, rstd[1:]),
    "one row": lambda dy, x, w, mean, rstd: (dy[0], x[0], w, mean, rstd),
    "turned": lambda dy, x, w, mean, rstd: (dy, x.new_empty(x.shape[::-1]).t(), w, mean, rstd),
}
# what bugs and variants change
ROWS = "tl.range(first, m, tl.num_programs(0), num_stages=STAGES)"
PROGRAMS = "min(m, multiprocessors * max(16 // num_warps, 1))"
STORE_DW = "    tl.store(partial_dw_ptr + first * n + columns, dw, mask=mask)\n"
STORE_DB = "    tl.store(partial_db_ptr + first * n + columns, db, mask=mask)\n"
PARTIAL_DW = "partial_dw = torch.empty((programs, n), dtype=torch.float32, device=x.device)"
PARTIAL_DB = "partial_db = torch.empty_like(partial_dw)"
ADD_DW, ADD_DB = "        dw += dy * normalised\n", "        db += dy\n"
ZEROS_DW, ZEROS_DB = "    dw = tl.zeros((BLOCK,), tl.float32)\n", "    db = tl.zeros((BLOCK,), tl.float32)\n"
DX = "    dx = torch.empty("
BACKWARD = "return *layer_norm_backward(dy, *ctx.saved_tensors), None"
TILES, RETURN = "    TILE_M, TILE_N =", "    return dx, dw, db\n"
TORCH_ADDS_UP = "    return dx, partial_dw.sum(0).to(w.dtype), partial_db.sum(0).to(w.dtype)\n"
SECOND_PASS = """    normalised = (x.float() - mean[:, None]) * rstd[:, None]
    return dx, (dy.float() * normalised).sum(0).to(w.dtype), dy.float().sum(0).to(w.dtype)
"""


def inputs_of_autograd(
    m, n, dy="rows", dtype=torch.float32, weights=None, stride=None,
    scale=1.0, mean=1.0, loss=1.0, eps=EPS, values="normal",
):
    """dy: where it lies. weights: dtype of w, b. stride: elements from one row of x to the next. loss: scale of dy."""
    upstream = normal(m, n, dtype=dtype, scale=loss, strides=MATRIX[dy](m, n))
    x = normal(m, n, dtype=dtype, scale=scale, mean=mean, strides=(n if stride is None else stride, 1))
    w, b = normal(n, dtype=weights or dtype, mean=1.0), normal(n, dtype=weights or dtype)
    if values == "nan":
        upstream[0, n // 2] = x[1, -1] = torch.nan
    elif values == "cancel":  # a quarter of the rows is large, another as far below zero, whoever adds up which
        at = torch.randperm(m)
        upstream[at[: m // 4]], upstream[at[m // 4 : m // 2]] = 1024.0, -1024.0
    return upstream, x, w, b, eps


def statistics(x):
    """What 3.1a returns beside y."""
    if x.is_meta:
        return normal(len(x)), normal(len(x))
    mean = x.double().mean(1, keepdim=True)
    variance = (x.double() - mean).square().mean(1)
    return mean[:, 0].float(), (variance + EPS).rsqrt().float()


def inputs(*shape, wrong=None, **values):
    dy, x, w, _, _ = inputs_of_autograd(*shape, **values)
    made = dy, x, w, *statistics(x)
    return WRONG[wrong](*made) if wrong else made


def normalised(x, w, b, eps):
    centred = x - x.mean(1, keepdim=True)
    return (centred * (centred.square().mean(1, keepdim=True) + eps).rsqrt() * w + b).to(x.dtype)


def through_autograd(dy, x, w, b, eps):
    return gradients(lambda *leaves: normalised(*leaves, eps), [x, w, b], dy)


def backward(dy, x, w, mean, rstd):
    return through_autograd(dy, x, w, torch.zeros_like(w), EPS)


def torch_backward(dy, x, w, mean, rstd):
    return torch.ops.aten.native_layer_norm_backward(dy, x, w.shape, mean[:, None], rstd[:, None], w, w, [True] * 3)


def gems(dy, x, w, mean, rstd):
    import flag_gems

    return flag_gems.layer_norm_backward(dy, x, w.shape, mean, rstd, w, w, [True] * 3)


def liger(dy, x, w, mean, rstd):
    from liger_kernel.ops.layer_norm import layer_norm_backward

    return layer_norm_backward(dy, x, w, w, mean, rstd)


def in_and_out(dy, x, w, mean, rstd):
    return 3 * x.nbytes + 3 * w.nbytes + mean.nbytes + rstd.nbytes


def forward_and_backward(dy, x, w, b, eps):
    # a program of the forward pass has to ask for w and b anew; they come from a cache
    return 5 * x.nbytes + x.shape[0] * (w.nbytes + b.nbytes + 16) + 3 * w.nbytes


exercise = Exercise(
    entry="layer_norm_backward",
    outputs=("dx", "dw", "db"),
    inputs=inputs,
    reference=backward,
    also={AUTOGRAD: Entry(inputs=inputs_of_autograd, reference=through_autograd, outputs=("dx", "dw", "db"))},
    deterministic=True,
    provisional=True,
    cases=[
        case(entry=AUTOGRAD, m=3, n=6144),  # first, so that it is compiled: two rows fit 96 KB, two blocks do not
        case(entry=AUTOGRAD, m=5, n=1000), case(entry=AUTOGRAD, m=7, n=13, eps=2.0),
        case(entry=AUTOGRAD, m=70, n=100, dy="same", dtype=torch.bfloat16, weights=torch.float32),
        case(m=70, n=100), case(m=1, n=1, loss=0.0), case(m=7, n=13), case(m=0, n=5), case(m=131, n=17),
        case(m=9, n=4097), case(m=3, n=1023), case(m=3, n=1024), case(m=3, n=1025), case(m=1, n=16384),
        case(m=67, n=77, dtype=torch.float16), case(m=9, n=8191, dtype=torch.bfloat16),
        case(m=5, n=300, dtype=torch.bfloat16, weights=torch.float32),
        case(m=5, n=300, stride=307), case(m=70, n=30, stride=0, dtype=torch.bfloat16),
        case(m=5, n=300, dy="padded"), case(m=5, n=300, dy="columns"), case(m=5, n=300, dy="every_other"),
        case(m=5, n=300, dy="same"), case(m=5, n=300, dy="same_columns"),
        case(m=5, n=300, dy="same_rows", dtype=torch.bfloat16),
        # partial sums are in the thousands, the sums are not
        case(m=256, n=9, dtype=torch.float16, values="cancel"), case(m=256, n=9, dtype=torch.bfloat16, values="cancel"),
        case(m=8, n=1000, dtype=torch.float16, mean=1000.0),
        # a loss that was scaled up: dy * w is inf in fp16
        case(m=4, n=1000, dtype=torch.float16, weights=torch.float32, scale=100.0, loss=1e4),
        case(m=4, n=100, scale=1e-3), case(m=4, n=300, values="nan"),
        case(m=3, n=1000, stride=2**30, dtype=torch.bfloat16, needs_gb=24),
    ],
    refuses=[
        case(m=1, n=16385), case(m=3, n=4, wrong="dy"), case(m=3, n=4, wrong="w"), case(m=3, n=4, wrong="mean"),
        case(m=3, n=4, wrong="rstd"), case(m=3, n=4, wrong="one row"), case(m=3, n=4, wrong="turned"),
    ],
    # rows that lie apart, so that making them contiguous first is a copy; the partial sums are written and read
    moves=[
        Moves(
            case(m=256, n=2**12, dy="padded", dtype=torch.bfloat16, stride=2**12 + 64), bytes=in_and_out, slack=1.2,
            launches=2, memory=lambda dy, x, w, mean, rstd: x.nbytes // 4,
        ),
        # y is no result here
        Moves(
            case(entry=AUTOGRAD, m=64, n=2**12, dy="padded", dtype=torch.bfloat16, stride=2**12 + 64),
            bytes=forward_and_backward, slack=1.3, launches=3, memory=lambda dy, x, w, b, eps: 2 * x.nbytes,
        ),
    ],
    speed=[
        Speed(
            case(m=16384, n=4096, dtype=torch.bfloat16), bytes=in_and_out, target=0.63,
            peers={"torch": torch_backward, "torch.compile": torch_backward, "liger": liger, "flag_gems": gems},
        ),
        Speed(
            case(m=16384, n=8192, dtype=torch.bfloat16), bytes=in_and_out, target=0.73,
            peers={"torch": torch_backward, "torch.compile": torch_backward, "liger": liger, "flag_gems": gems},
        ),
    ],
    bugs=[
        Bug("atomics, an element of dw and db each",
            (PROGRAMS, "m"), (STORE_DW, "    tl.atomic_add(partial_dw_ptr + columns, dw, mask=mask)\n"),
            (STORE_DB, "    tl.atomic_add(partial_db_ptr + columns, db, mask=mask)\n"),
            (PARTIAL_DW, "partial_dw = torch.zeros((1, n), dtype=torch.float32, device=x.device)"),
            (PARTIAL_DB, "partial_db = torch.zeros_like(partial_dw)"), ("db, programs, n,", "db, 1, n,"), rung="moves"),
        Bug("a row of partial sums for each row of x", (PROGRAMS, "m"), rung="moves"),
        Bug("torch finds dw and db in a pass of its own", (RETURN, SECOND_PASS), rung="moves"),
        Bug("torch adds up the partial sums", (RETURN, TORCH_ADDS_UP), rung="moves"),
        Bug("asks torch to copy dy first", (DX, f"    dy = dy.contiguous()\n{DX}"), rung="moves"),
        Bug("autograd gets a copy of dy", (BACKWARD, BACKWARD.replace("(dy,", "(dy.contiguous(),")), rung="moves"),
        Bug("one program for all rows", (PROGRAMS, "min(m, 1)"), rung="fast"),
        Bug("partial sums in w's dtype",
            (PARTIAL_DW, PARTIAL_DW.replace("torch.float32", "w.dtype")), caught="m=256,n=9,fp16,values=cancel"),
        Bug("adds in x's dtype",
            (ZEROS_DB, ZEROS_DB.replace("tl.float32", "x_ptr.dtype.element_ty")),
            (ADD_DB, "        db += dy.to(x_ptr.dtype.element_ty)\n"), caught="m=256,n=9,bf16,values=cancel"),
        Bug("rows on their way, whether they fit or not", ("STAGES = 3 if", "STAGES = 3 if True or"), rung="compiles"),
        Bug("rows on their way, of n elements", ("2 * BLOCK *", "2 * n *"), rung="compiles"),
        Bug("one row a program", (ROWS, "range(first, first + 1)"), caught="m=70,n=100"),
        Bug("keeps the last row alone", (ADD_DW, "        dw = dy * normalised\n"), caught="m=70,n=100"),
        Bug("every program stores to row 0 of the partial sums",
            (STORE_DW, STORE_DW.replace("first * n + ", "")), caught="m=70,n=100"),
        Bug("dw without the normalised row", (ADD_DW, "        dw += dy\n"), caught="m=70,n=100"),
        Bug("dw of g, which has w in it", (ADD_DW, "        dw += g * normalised\n"), caught="m=70,n=100"),
        Bug("db of g", (ADD_DB, "        db += g\n"), caught="m=70,n=100"),
        Bug("dw of x in place of the normalised row", (ADD_DW, "        dw += dy * x\n"), caught="m=70,n=100"),
        Bug("the variance taken for a constant",
            (" - normalised * (tl.sum(g * normalised, 0) / n)", ""), caught="m=70,n=100"),
        Bug("adds up rows that are not there",
            ("mask = (rows < parts)[:, None] &", "mask = (rows >= 0)[:, None] &"), caught="m=7,n=13"),
        Bug("leaves out the last of the partial sums",
            ("db, programs, n,", "db, programs - 1, n,"), caught="m=70,n=100"),
        Bug("drops the ragged columns", ("triton.cdiv(n, TILE_N)", "max(1, n // TILE_N)"), caught="m=70,n=100"),
        Bug("takes dy to be contiguous", ("*dy.stride(), x", "n, 1, x"), caught="m=5,n=300,dy=columns"),
        Bug("takes the rows of x to be adjacent",
            ("dy.stride(), x.stride(0)", "dy.stride(), n"), caught="m=5,n=300,stride=307"),
        Bug("nothing is stored where there are no rows",
            (TILES, f"    if m == 0:\n        return dx, dw, db\n{TILES}"), caught="m=0,n=5"),
        Bug("autograd gets db for dw",
            (BACKWARD, "dx, dw, db = layer_norm_backward(dy, *ctx.saved_tensors)\n        return dx, db, dw, None"),
            caught=f"{AUTOGRAD},m=5,n=1000"),
        Bug("saves y in place of x",
            ("save_for_backward(x,", "save_for_backward(y,"), caught=f"{AUTOGRAD},m=5,n=1000"),
        Bug("1e-5 whatever eps is",
            ("= layer_norm_forward(x, w, b, eps)", "= layer_norm_forward(x, w, b, 1e-5)"),
            caught=f"{AUTOGRAD},m=7,n=13,eps=2.0"),
        Bug("takes a dy of another shape", ("dy.shape != x.shape", "False"), caught="m=3,n=4,wrong=dy"),
    ],
    variants=[
        Variant("no row ahead", (ROWS, "range(first, m, tl.num_programs(0))")),
        Variant("fewer programs, of more warps",
            (PROGRAMS, "min(m, multiprocessors)"), ("max(BLOCK // 512, 1), 32", "max(BLOCK // 256, 4), 32")),
        Variant("each program takes rows that lie together", fill={2: """
            part = tl.program_id(0).to(tl.int64)
            rows = tl.cdiv(m, tl.num_programs(0))
            columns = tl.arange(0, BLOCK)
            mask = columns < n
            w = tl.load(w_ptr + columns, mask=mask, other=0.0).to(tl.float32)
            dw, db = tl.zeros_like(w), tl.zeros_like(w)
            for row in range(part * rows, tl.minimum(m, (part + 1) * rows)):
                rstd = tl.load(rstd_ptr + row)
                at = row * stride_dy_m + columns.to(tl.int64) * stride_dy_n
                dy = tl.load(dy_ptr + at, mask=mask, other=0.0).to(tl.float32)
                x = tl.load(x_ptr + row * stride_x + columns, mask=mask, other=0.0).to(tl.float32)
                normalised = (x - tl.load(mean_ptr + row)) * rstd
                dw += dy * normalised
                db += dy
                share = tl.sum(dy * w * normalised) / n
                dx = (dy * w - tl.sum(dy * w) / n - normalised * share) * rstd
                tl.store(dx_ptr + row * n + columns, dx.to(dx_ptr.dtype.element_ty), mask=mask)
            tl.store(partial_dw_ptr + part * n + columns, dw, mask=mask)
            tl.store(partial_db_ptr + part * n + columns, db, mask=mask)
        """}),
        Variant("two rows at a step", fill={2: """
            part = tl.program_id(0).to(tl.int64)
            columns = tl.arange(0, BLOCK)
            w = tl.load(w_ptr + columns, mask=columns < n, other=0.0).to(tl.float32)
            dw = tl.zeros((BLOCK,), tl.float32)
            db = tl.zeros((BLOCK,), tl.float32)
            for start in range(2 * part, m, 2 * tl.num_programs(0)):
                rows = start + tl.arange(0, 2)
                mask = (rows < m)[:, None] & (columns < n)[None, :]
                dy_ptrs = dy_ptr + rows[:, None] * stride_dy_m + columns.to(tl.int64)[None, :] * stride_dy_n
                dy = tl.load(dy_ptrs, mask=mask, other=0.0).to(tl.float32)
                x_ptrs = x_ptr + rows[:, None] * stride_x + columns[None, :]
                x = tl.load(x_ptrs, mask=mask, other=0.0).to(tl.float32)
                mean = tl.load(mean_ptr + rows, mask=rows < m, other=0.0)[:, None]
                rstd = tl.load(rstd_ptr + rows, mask=rows < m, other=0.0)[:, None]
                normalised, g = (x - mean) * rstd, dy * w[None, :]
                ones, shares = tl.sum(g, 1)[:, None] / n, tl.sum(g * normalised, 1)[:, None] / n
                dx = rstd * (g - ones - normalised * shares)
                tl.store(dx_ptr + rows[:, None] * n + columns[None, :], dx, mask=mask)
                dw += tl.sum(dy * normalised, 0)
                db += tl.sum(dy, 0)
            tl.store(partial_dw_ptr + part * n + columns, dw, mask=columns < n)
            tl.store(partial_db_ptr + part * n + columns, db, mask=columns < n)
        """}),
        Variant("the partial sums one below the other, a lane a column", fill={3: """
            columns = tl.program_id(0) * TILE_N + tl.arange(0, TILE_N)
            dw = tl.zeros((TILE_N,), tl.float32)
            db = tl.zeros((TILE_N,), tl.float32)
            for part in range(parts):
                dw += tl.load(partial_dw_ptr + part * n + columns, mask=columns < n, other=0.0)
                db += tl.load(partial_db_ptr + part * n + columns, mask=columns < n, other=0.0)
            tl.store(dw_ptr + columns, dw, mask=columns < n)
            tl.store(db_ptr + columns, db, mask=columns < n)
        """}),
    ],
)
