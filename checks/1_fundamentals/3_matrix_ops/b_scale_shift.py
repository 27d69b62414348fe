import torch
from workbook.exercise import Bug, Exercise, Moves, Speed, Variant, by_rows, case, normal

STRIDES = {  # of x [m, n], of row [n] and of column [m], in elements
    "contiguous": lambda m, n: ((n, 1), 1, 1),
    "transposed": lambda m, n: ((1, m), 1, 1),
    "padded": lambda m, n: ((n + 64, 1), 1, 1),
    "every_other": lambda m, n: ((4 * n, 2), 2, 3),
    "same_rows": lambda m, n: ((0, 1), 1, 2),
    "same_columns": lambda m, n: ((1, 0), 3, 1),
    "numbers": lambda m, n: ((0, 0), 0, 0),
}
# what bugs and variants change
SHAPE, TILES, OUT = "m, n = x.shape", "TILE_M, TILE_N = 16, 256", "out = x * row[None, :] + column[:, None]"
GRID = "triton.cdiv(m, TILE_M) * triton.cdiv(n, TILE_N)"
ROW, COLUMN = "row_ptr + columns * stride_row, mask=columns < n", "column_ptr + rows * stride_column, mask=rows < m"


def operands(m, n, layout="contiguous", dtype=torch.float32, scale=1.0, mean=0.0):
    """x, row and column. With a large mean x * row and column nearly cancel."""
    strides, every_row, every_column = STRIDES[layout](m, n)
    return (
        normal(m, n, dtype=dtype, scale=scale, mean=mean, strides=strides),
        normal(n, dtype=dtype, mean=mean, strides=(every_row,)),
        normal(m, dtype=dtype, mean=-mean * mean, strides=(every_column,)),
    )


def necessary(x, row, column):
    return 2 * x.numel() * x.itemsize + row.nbytes + column.nbytes


def broadcast(x, row, column):
    return x * row + column[:, None]


def gems(x, row, column):
    import flag_gems

    return flag_gems.addcmul(column[:, None], x, row)


exercise = Exercise(
    entry="scale_shift",
    inputs=operands,
    reference=broadcast,
    cases=[
        case(m=17, n=513), case(m=1, n=1), case(m=0, n=5), case(m=5, n=0), case(m=1, n=257), case(m=257, n=1),
        case(m=15, n=255), case(m=16, n=256), case(m=64, n=64), case(m=31, n=127), case(m=20, n=20, scale=float("inf")),
        case(m=17, n=70, dtype=torch.float16), case(m=33, n=257, dtype=torch.bfloat16),
        case(m=40, n=100, mean=32.0, dtype=torch.bfloat16),
        case(m=33, n=101, layout="transposed"), case(m=17, n=130, layout="padded"),
        case(m=19, n=66, layout="every_other", dtype=torch.float16),
        case(m=33, n=34, layout="same_rows"), case(m=34, n=33, layout="same_columns"),
        case(m=18, n=65, layout="numbers", dtype=torch.bfloat16),
        # more tiles in a row than the second axis of a grid holds
        case(m=1, n=2**25 + 1, dtype=torch.bfloat16, needs_gb=1),
        case(m=2**16 + 1, n=2**15, dtype=torch.bfloat16, needs_gb=28, slices=by_rows(2**10)),
    ],
    # a padded x, so that making it contiguous first is a copy; each tile reads its pieces of row and column anew
    moves=[Moves(case(m=128, n=512, layout="padded", dtype=torch.bfloat16), bytes=necessary, slack=1.15)],
    speed=[
        Speed(
            case(m=16384, n=8192, dtype=torch.bfloat16), bytes=necessary,
            flops=lambda x, row, column: 2 * x.numel(), target=0.90,
            peers={
                "torch": broadcast,
                "addcmul": lambda x, row, column: torch.addcmul(column[:, None], x, row),
                "torch.compile": broadcast,
                "flag_gems": gems,
            },
        )
    ],
    bugs=[
        Bug(
            "row and column made as large as x, in memory",
            (SHAPE, SHAPE + """
    row = row.expand(m, n).contiguous()
    column = column[:, None].expand(m, n).contiguous()"""),
            ("*row.stride(), *column.stride()", "0, 0"),
            (ROW, "row_ptr + rows[:, None] * n + columns[None, :], mask=mask"),
            (COLUMN, "column_ptr + rows[:, None] * n + columns[None, :], mask=mask"),
            (OUT, "out = x * row + column"),
            rung="moves",
        ),
        Bug(
            "loads row and column anew for each element of the tile",
            (ROW, "row_ptr + 0 * rows[:, None] + columns[None, :] * stride_row, mask=mask"),
            (COLUMN, "column_ptr + rows[:, None] * stride_column + 0 * columns[None, :], mask=mask"),
            (OUT, "out = x * row + column"),
            rung="moves",
        ),
        Bug("one row a program: each loads the row", (TILES, "TILE_M, TILE_N = 1, 1024"), rung="moves"),
        Bug("asks torch to copy x first", (SHAPE, "m, n, x = *x.shape, x.contiguous()"), rung="moves"),
        Bug("row and column swapped", (OUT, "out = x * column[:, None] + row[None, :]"), caught="m=64,n=64"),
        Bug("masks the row with m", ("mask=columns < n", "mask=columns < m"), caught="m=17,n=513"),
        Bug("masks the column with n", ("mask=rows < m", "mask=rows < n"), caught="m=257,n=1"),
        Bug("no mask on the row", (", mask=columns < n", ""), caught="m=15,n=255"),
        Bug("takes row for contiguous", ("*row.stride()", "1"), caught="m=19,n=66,layout=every_other,fp16"),
        Bug("takes x for contiguous", ("*x.stride()", "n, 1"), caught="m=33,n=34,layout=same_rows"),
        Bug("takes rows for contiguous", ("*x.stride()", "x.stride(0), 1"), caught="m=34,n=33,layout=same_columns"),
        Bug(
            "computes in bf16",
            ("stride_n, mask=mask).to(tl.float32)", "stride_n, mask=mask)"),
            ("mask=columns < n).to(tl.float32)", "mask=columns < n)"),
            ("mask=rows < m).to(tl.float32)", "mask=rows < m)"),
            caught="m=40,n=100,mean=32.0,bf16",
        ),
        Bug("drops the ragged tiles", (GRID, "max(1, m // TILE_M) * max(1, n // TILE_N)"), caught="m=17,n=513"),
        Bug("numbers tiles as if x had m columns", ("tl.cdiv(n, TILE_N)", "tl.cdiv(m, TILE_N)"), caught="m=17,n=513"),
    ],
    variants=[
        Variant("square tiles", (TILES, "TILE_M, TILE_N = 64, 64")),
        Variant("wide tiles", (TILES, "TILE_M, TILE_N = 8, 512")),
        Variant("numbers the tiles down the columns of x", fill={1: """
            tiles_m = tl.cdiv(m, TILE_M)
            rows = (tl.program_id(0) % tiles_m).to(tl.int64) * TILE_M + tl.arange(0, TILE_M)
            columns = (tl.program_id(0) // tiles_m).to(tl.int64) * TILE_N + tl.arange(0, TILE_N)
            mask = (rows[:, None] < m) & (columns[None, :] < n)
        """}),
        Variant("loads the row as [1, TILE_N] and the column as [TILE_M, 1]", fill={2: """
            i, j = rows[:, None], columns[None, :]
            x = tl.load(x_ptr + i * stride_m + j * stride_n, mask=mask).to(tl.float32)
            row = tl.load(row_ptr + j * stride_row, mask=j < n).to(tl.float32)
            column = tl.load(column_ptr + i * stride_column, mask=i < m).to(tl.float32)
        """, 3: "out = x * row + column"}),
        Variant("stretches in so many words, and multiplies and adds at once", fill={3: """
            row = tl.broadcast_to(row[None, :], (TILE_M, TILE_N))
            column = tl.broadcast_to(column[:, None], (TILE_M, TILE_N))
            out = tl.fma(x, row, column)
        """}),
    ],
)
