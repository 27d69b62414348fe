import torch
from workbook.exercise import Bug, Exercise, Moves, Speed, Variant, case, normal

STRIDES = {  # of x [m, n], in elements
    "contiguous": lambda m, n: (n, 1),
    "transposed": lambda m, n: (1, m),
    "padded": lambda m, n: (n + 32, 1),
    "every_other": lambda m, n: (4 * n, 2),
    "same_rows": lambda m, n: (0, 1),
    "same_columns": lambda m, n: (1, 0),
}
# what bugs and variants change
TILES, PARTS = "TILE_M, TILE_N = 32, 128", "max(1, min(triton.cdiv(m, 8 * TILE_M), triton.cdiv(1024, tiles)))"
LOOP, ROWS = "range(part * TILE_M, m, parts * TILE_M)", "rows = start + tl.arange(0, TILE_M)"
STAGE_TWO = "column_sums_kernel[(tiles, 1)](partial, out, parts, n, *partial.stride(), TILE_M=TILE_M, TILE_N=TILE_N)"


def inputs(m, n, layout="contiguous", dtype=torch.float32, values="near one"):
    x = normal(m, n, dtype=dtype, mean=1.0, strides=STRIDES[layout](m, n))
    if values == "nan":
        x[m // 2, 0] = torch.nan
    elif values == "inf":
        x[0, 0], x[m // 2, 1], x[-1, 2], x[0, 2] = torch.inf, -torch.inf, torch.inf, -torch.inf
    elif values == "cancel":  # every other row is large, half of them below zero, whoever adds up which
        signs = torch.ones(m // 2)
        signs[torch.randperm(m // 2)[: m // 4]] = -1
        x[::2] = 1024 * signs[:, None]
    return [x]


def sums(x):
    return x.sum(0)


def gems(x):
    import flag_gems

    return flag_gems.sum_dim(x, [0])


def one_read(x):
    return (x.numel() + x.shape[1]) * x.itemsize


def stripes(inputs):
    """Columns of x, each with its place among the sums."""
    for start in range(0, inputs[0].shape[1], 1024):
        columns = slice(start, start + 1024)
        yield [inputs[0][:, columns]], (columns,)


exercise = Exercise(
    entry="column_sums",
    outputs=("sums",),
    inputs=inputs,
    reference=sums,
    deterministic=True,
    cases=[
        case(m=65, n=130), case(m=1, n=1), case(m=0, n=5), case(m=5, n=0), case(m=1, n=257), case(m=257, n=1),
        case(m=31, n=127), case(m=32, n=128), case(m=33, n=129), case(m=255, n=3), case(m=521, n=67),
        case(m=300, n=65, dtype=torch.float16), case(m=129, n=300, dtype=torch.bfloat16),
        case(m=67, n=101, layout="transposed"), case(m=65, n=66, layout="padded"),
        case(m=31, n=66, layout="every_other", dtype=torch.float16),
        case(m=40, n=34, layout="same_rows"), case(m=34, n=65, layout="same_columns", dtype=torch.bfloat16),
        case(m=600, n=5, values="nan"), case(m=600, n=5, values="inf"),
        case(m=2048, n=9, dtype=torch.float16, values="cancel"),
        case(m=2048, n=9, dtype=torch.bfloat16, values="cancel"),
        case(m=2**16 + 1, n=2**15, dtype=torch.bfloat16, needs_gb=40, slices=stripes),
    ],
    # a padded x, so that making it contiguous first is a copy; the partial sums are written and read
    moves=[Moves(
        case(m=4096, n=256, layout="padded", dtype=torch.bfloat16), bytes=one_read, slack=1.1, launches=2,
        memory=lambda x: x.numel() * x.itemsize // 16,
    )],
    speed=[
        Speed(
            case(m=16384, n=8192), bytes=one_read, target=0.86,
            peers={"torch": sums, "torch.compile": sums, "flag_gems": gems},
        ),
    ],
    bugs=[
        Bug("one column a program", (TILES, "TILE_M, TILE_N = 1024, 1"), rung="moves"),
        Bug("four columns a program: half a sector a row", (TILES, "TILE_M, TILE_N = 256, 4"), rung="moves"),
        Bug("asks torch to copy x first", ("m, n = x.shape", "m, n, x = *x.shape, x.contiguous()"), rung="moves"),
        Bug("asks torch for x in fp32",
            ("    tiles =", "    wide = x.float()\n    tiles ="),
            ("(x, partial, m, n, *x.stride()", "(wide, partial, m, n, *wide.stride()"), rung="moves"),
        Bug("a part for each tile of rows: partial sums as large as a thirty-second of x",
            (PARTS, "max(1, triton.cdiv(m, TILE_M // 8))"), rung="moves"),
        Bug("one program for all rows", (PARTS, "1"), rung="fast"),
        Bug("partial sums in x's dtype",
            ("(parts, n), dtype=torch.float32", "(parts, n), dtype=x.dtype"), caught="m=2048,n=9,bf16,values=cancel"),
        Bug("adds in x's dtype",
            ("tl.zeros((TILE_M, TILE_N), tl.float32)", "tl.zeros((TILE_M, TILE_N), x_ptr.dtype.element_ty)"),
            ("x.to(tl.float32)", "x"), caught="m=2048,n=9,bf16,values=cancel"),
        Bug("every part takes all rows", (LOOP, "range(0, m, TILE_M)"), caught="m=521,n=67"),
        Bug("only the first tile of rows",
            (LOOP, "range(part * TILE_M, tl.minimum(m, (part + 1) * TILE_M), TILE_M)"), caught="m=65,n=130"),
        Bug("parts overlap by a row", (ROWS, "rows = start + tl.arange(0, TILE_M) - part"), caught="m=521,n=67"),
        Bug("masks the columns only", ("(rows < m)[:, None] &", "(rows >= 0)[:, None] &"), caught="m=65,n=130"),
        Bug("masks the rows only", ("& (columns < n)[None, :]", "& (columns >= 0)[None, :]"), caught="m=1,n=257"),
        Bug("stores past the last column", ("tl.sum(acc, 0), mask=columns < n", "tl.sum(acc, 0)"), caught="m=1,n=1"),
        Bug("pads with ones", ("other=0.0", "other=1.0"), caught="m=31,n=127"),
        Bug("takes x for contiguous", ("m, n, *x.stride()", "m, n, n, 1"), caught="m=65,n=66,layout=padded"),
        Bug("takes rows for contiguous",
            ("m, n, *x.stride()", "m, n, x.stride(0), 1"), caught="m=31,n=66,layout=every_other,fp16"),
        Bug("all parts store to one row", ("out_ptr + part * n + columns", "out_ptr + columns"), caught="m=521,n=67"),
        Bug("stage two reads one part", (STAGE_TWO, STAGE_TWO.replace("out, parts,", "out, 1,")),
            caught="m=521,n=67"),
        Bug("no stage two",
            (STAGE_TWO, "out.copy_(partial[0])"), caught="m=521,n=67"),
        Bug("drops the ragged columns", ("tiles = triton.cdiv(n, TILE_N)", "tiles = max(1, n // TILE_N)"),
            caught="m=65,n=130"),
    ],
    variants=[
        Variant("wide tiles", (TILES, "TILE_M, TILE_N = 16, 256")),
        Variant("narrow tiles", (TILES, "TILE_M, TILE_N = 128, 32")),
        Variant("each part takes rows that lie together, from a pointer that moves down", fill={1: """
            columns = tile * TILE_N + tl.arange(0, TILE_N)
            height = tl.cdiv(tl.cdiv(m, parts), TILE_M) * TILE_M
            rows = part * height + tl.arange(0, TILE_M)
            x_ptrs = x_ptr + rows[:, None] * stride_m + columns[None, :] * stride_n
            acc = tl.zeros((TILE_M, TILE_N), tl.float32)
            for _ in range(0, height, TILE_M):
                acc += tl.load(x_ptrs, mask=(rows < m)[:, None] & (columns < n)[None, :], other=0.0).to(tl.float32)
                x_ptrs += TILE_M * stride_m
                rows += TILE_M
            tl.store(out_ptr + part * n + columns, tl.sum(acc, 0), mask=columns < n)
        """}),
        Variant("adds up each tile at once", fill={1: """
            columns = tile * TILE_N + tl.arange(0, TILE_N)
            total = tl.zeros((TILE_N,), tl.float32)
            for start in range(part * TILE_M, m, parts * TILE_M):
                rows = start + tl.arange(0, TILE_M)
                inside = (rows[:, None] < m) & (columns[None, :] < n)
                at = rows[:, None] * stride_m + columns[None, :] * stride_n
                total += tl.sum(tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32), axis=0)
            tl.store(out_ptr + part * n + columns, total, mask=columns < n)
        """}),
        Variant("a number of parts that only the rows decide, and a stage two with tiles of its own", fill={2: """
            parts = min(64, triton.cdiv(m, 64)) or 1
            partial = torch.empty(parts, n, dtype=torch.float32, device=x.device)
            grid = (triton.cdiv(n, 64), parts)
            column_sums_kernel[grid](x, partial, m, n, x.stride(0), x.stride(1), TILE_M=64, TILE_N=64, num_warps=8)
            column_sums_kernel[(triton.cdiv(n, 32),)](partial, out, parts, n, n, 1, TILE_M=64, TILE_N=32)
            return out
        """}),
    ],
)
