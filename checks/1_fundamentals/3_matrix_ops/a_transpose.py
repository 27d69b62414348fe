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
TILES, GRID = "TILE_M, TILE_N = 64, 64", "triton.cdiv(m, TILE_M) * triton.cdiv(n, TILE_N)"
X_STRIDES, OUT = "*x.stride()", "columns[None, :] * m + rows[:, None]"


def matrix(m, n, layout="contiguous", dtype=torch.float32, scale=20.0):
    return [normal(m, n, dtype=dtype, scale=scale, strides=STRIDES[layout](m, n))]


def in_and_out(x):
    return 2 * x.numel() * x.itemsize


def strips(inputs):
    """Rows of x, each with its place in the transpose: columns."""
    for start in range(0, inputs[0].shape[0], 4096):
        rows = slice(start, start + 4096)
        yield [inputs[0][rows]], (slice(None), rows)


def laid_out_anew(x):
    return x.t().contiguous()


def gems(x):
    import flag_gems

    return flag_gems.contiguous(x.t())


peers = {"torch": laid_out_anew, "torch.compile": laid_out_anew, "flag_gems": gems}

exercise = Exercise(
    entry="transpose",
    outputs=("transposed",),
    inputs=matrix,
    reference=laid_out_anew,
    cases=[
        case(m=65, n=130), case(m=1, n=1), case(m=0, n=5), case(m=5, n=0), case(m=1, n=67), case(m=67, n=1),
        case(m=63, n=65), case(m=64, n=64), case(m=127, n=31), case(m=40, n=40, scale=float("inf")),
        case(m=70, n=33, dtype=torch.float16), case(m=33, n=70, dtype=torch.bfloat16),
        case(m=97, n=65, dtype=torch.int8),
        case(m=67, n=101, layout="transposed"), case(m=65, n=66, layout="padded"),
        case(m=31, n=66, layout="every_other", dtype=torch.float16),
        case(m=65, n=34, layout="same_rows"), case(m=34, n=65, layout="same_columns", dtype=torch.bfloat16),
        # more tiles along n than the second axis of a grid holds
        case(m=1, n=2**23 + 1, dtype=torch.int8, needs_gb=1),
        case(m=2**16 + 1, n=2**15, dtype=torch.int8, needs_gb=20, slices=strips),
    ],
    # a padded x, so that making it contiguous first is a copy
    moves=[Moves(case(m=256, n=128, layout="padded", dtype=torch.float16), bytes=in_and_out)],
    speed=[
        Speed(case(m=16384, n=8192), bytes=in_and_out, target=0.88, peers=peers),
        Speed(case(m=16384, n=8192, dtype=torch.float16), bytes=in_and_out, target=0.79, peers=peers),
    ],
    bugs=[
        Bug("row by row", (TILES, "TILE_M, TILE_N = 1, 1024"), rung="moves"),
        Bug("column by column", (TILES, "TILE_M, TILE_N = 1024, 1"), rung="moves"),
        Bug("tiles of 8 x 8: half a sector a row", (TILES, "TILE_M, TILE_N = 8, 8"), rung="moves"),
        Bug("asks torch to copy x first", ("m, n = x.shape", "m, n, x = *x.shape, x.contiguous()"), rung="moves"),
        Bug("takes x for contiguous", (X_STRIDES, "n, 1"), caught="m=67,n=101,layout=transposed"),
        Bug("takes rows for contiguous", (X_STRIDES, "x.stride(0), 1"), caught="m=31,n=66,layout=every_other,fp16"),
        Bug("strides swapped", (X_STRIDES, "x.stride(1), x.stride(0)"), caught="m=64,n=64"),
        Bug("out has rows of n elements", (OUT, "columns[None, :] * n + rows[:, None]"), caught="m=63,n=65"),
        Bug("returns a view, not a new layout", ("out = torch.empty((n, m)", "out = torch.empty((m, n)"),
            (OUT, "rows[:, None] * n + columns[None, :]"), ("    return out", "    return out.t()"),
            caught="m=63,n=65"),
        Bug("reshapes, does not transpose", (OUT, "rows[:, None] * n + columns[None, :]"), caught="m=63,n=65"),
        Bug("masks the rows only", ("& (columns < n)[None, :]", "& (columns >= 0)[None, :]"), caught="m=65,n=130"),
        Bug("drops the ragged tiles", (GRID, "max(1, m // TILE_M) * max(1, n // TILE_N)"), caught="m=65,n=130"),
        Bug("a grid for a square", (GRID, "triton.cdiv(m, TILE_M) ** 2"), caught="m=65,n=130"),
        Bug("every program takes the first rows", ("rows = tile_m * TILE_M", "rows = 0 * TILE_M"), caught="m=65,n=130"),
    ],
    variants=[
        Variant("wide tiles", (TILES, "TILE_M, TILE_N = 32, 128")),
        Variant("small tiles", (TILES, "TILE_M, TILE_N = 16, 16")),
        Variant("transposes the tile, then stores it as it lies", fill={2: """
            x = tl.load(x_ptr + rows[:, None] * stride_m + columns[None, :] * stride_n, mask=mask)
            tl.store(out_ptr + columns[:, None] * m + rows[None, :], tl.trans(x), mask=tl.trans(mask))
        """}),
        Variant("thinks in tiles of out", fill={1: """
            rows = (tile_m * TILE_M + tl.arange(0, TILE_M))[None, :]
            columns = (tile_n * TILE_N + tl.arange(0, TILE_N))[:, None]
            mask = (rows < m) & (columns < n)
        """, 2: """
            x = tl.load(x_ptr + rows * stride_m + columns * stride_n, mask=mask)
            tl.store(out_ptr + columns * m + rows, x, mask=mask)
        """}),
        Variant("numbers the tiles along the rows of x", fill={1: """
            tiles_n = tl.cdiv(n, TILE_N)
            rows = (tl.program_id(0) // tiles_n).to(tl.int64) * TILE_M + tl.arange(0, TILE_M)
            columns = (tl.program_id(0) % tiles_n).to(tl.int64) * TILE_N + tl.arange(0, TILE_N)
            mask = (rows[:, None] < m) & (columns[None, :] < n)
        """}),
    ],
)
