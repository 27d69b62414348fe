import torch
from workbook.exercise import Bug, Exercise, Moves, Speed, Variant, case, normal


def inputs(m, n, dtype=torch.float32, stride=None, scale=1.0, mean=0.0, values="normal"):
    """stride: elements from one row to the next; None: the rows are adjacent."""
    x = normal(m, n, dtype=dtype, scale=scale, mean=mean, strides=(n if stride is None else stride, 1))
    if values == "masked":  # some; all but the last; all; the first half
        x[::2, 0] = x[:-1, 1] = x[:, 2] = x[: m // 2, 3] = -torch.inf
    elif values == "nan":
        x[m // 2, 0] = x[-1, 1] = x[0, 2] = torch.nan
        x[1:, 2] = -torch.inf
    elif values == "inf":
        x[0, 0] = x[-1, 1] = torch.inf
        x[0, 1] = -torch.inf
    elif values == "columns apart":
        x += 200 * torch.arange(n)
    elif values == "rising":
        x += torch.linspace(0, 500, m)[:, None]
    return (x,)


def softmax(x):
    return torch.softmax(x, 0)


def gems(x):
    import flag_gems

    return flag_gems.softmax(x, 0)


def in_and_out(x):
    return 2 * x.nbytes


def strips(inputs):
    """Columns of x, each with its place in the result."""
    for start in range(0, inputs[0].shape[1], 512):
        columns = slice(start, start + 512)
        yield [inputs[0][:, columns]], (slice(None), columns)


# what bugs and variants change
TILES = """TILE_N = 256 // x.element_size()  # so that rows of a tile are eight sectors
        TILE_M = 2048 // TILE_N"""
BEGIN = "tl.full((TILE_M, TILE_N), LOWEST, tl.float32)"
CHUNKS = "min(triton.next_power_of_2(triton.cdiv(m, 64)), 16)"
RESCALED = "totals * exp(tops - higher) + exp(x - higher)"
UPDATE = f"""        higher = tl.maximum(tops, x)
        totals = {RESCALED}
        tops = higher
"""
STATS_CHUNK = """    chunk = tl.program_id(1).to(tl.int64)
    chunk_rows = tl.cdiv(m, CHUNKS * TILE_M) * TILE_M
"""
STATS_MASK = """        mask = (rows < m)[:, None] & (columns < n)[None, :]
        x_ptrs = x_ptr"""
MERGE = """@triton.jit
def merge(tops"""
MERGE_TWO = """@triton.jit
def merge_two(top_a, total_a, top_b, total_b):
    top = tl.maximum(top_a, top_b)
    return top, total_a * exp(top_a - top) + total_b * exp(top_b - top)


"""

peers = {"torch": softmax, "torch.compile": softmax, "flag_gems": gems}

exercise = Exercise(
    entry="column_softmax",
    outputs=("softmax",),
    inputs=inputs,
    reference=softmax,
    cases=[
        case(m=150, n=130), case(m=1, n=1), case(m=0, n=5), case(m=5, n=0), case(m=1, n=67), case(m=67, n=1),
        case(m=15, n=127), case(m=16, n=128), case(m=17, n=129), case(m=63, n=3), case(m=64, n=3), case(m=65, n=3),
        case(m=256, n=5), case(m=1031, n=7),
        case(m=70, n=33, dtype=torch.float16), case(m=521, n=40, dtype=torch.bfloat16),
        case(m=70, n=30, stride=37), case(m=20, n=30, stride=0, dtype=torch.bfloat16),
        case(m=40, n=20, scale=1e4), case(m=40, n=20, scale=1e4, dtype=torch.float16),
        case(m=140, n=20, scale=20.0, mean=1e4, dtype=torch.float16),
        case(m=140, n=20, scale=100.0, mean=-1e4, dtype=torch.bfloat16),
        case(m=70, n=20, values="columns apart"), case(m=256, n=20, values="rising"),
        case(m=140, n=9, values="masked"), case(m=60, n=9, dtype=torch.float16, values="masked"),
        case(m=70, n=9, values="nan"), case(m=70, n=9, values="inf"),
        case(m=2**16 + 1, n=2**15, dtype=torch.bfloat16, needs_gb=28, slices=strips),
    ],
    moves=[Moves(
        # rows that lie apart, so that making them contiguous first is a copy
        case(m=2048, n=128, stride=160), bytes=in_and_out,
        # three reads and a write, which is an honest way here, and the chunks' stats; another pass is too much
        slack=2.3, launches=3, memory=lambda x: x.nbytes // 4,
    )],
    speed=[
        Speed(case(m=16384, n=4096), bytes=in_and_out, target=0.35, peers=peers),
        Speed(case(m=16384, n=8192, dtype=torch.bfloat16), bytes=in_and_out, target=0.35, peers=peers),
    ],
    bugs=[
        Bug("one column a program", (TILES, "TILE_M, TILE_N = 1024, 1"), (CHUNKS, "1"), rung="moves"),
        Bug("half a sector a row", (TILES, "TILE_M, TILE_N = 256, 4"), rung="moves"),
        Bug("asks torch to copy x first", ("m, n = x.shape", "m, n, x = *x.shape, x.contiguous()"), rung="moves"),
        Bug("a running maximum that begins at -inf",
            (BEGIN, 'tl.full((TILE_M, TILE_N), float("-inf"), tl.float32)'), caught="m=140,n=9,values=masked"),
        Bug("a running maximum that begins at 0",
            (BEGIN, "tl.zeros((TILE_M, TILE_N), tl.float32)"), caught="m=140,n=20,scale=100.0,mean=-10000.0,bf16"),
        Bug("no maximum is subtracted",
            (UPDATE, "        totals += exp(x)\n        tops = tl.zeros_like(tops)\n"),
            caught="m=40,n=20,scale=10000.0"),
        Bug("the sum is not rescaled to a higher maximum",
            (RESCALED, "totals + exp(x - higher)"), caught="m=256,n=20,values=rising"),
        Bug("groups are added as if all had one maximum",
            ("totals * exp(tops - top[None, :])", "totals"), caught="m=150,n=130"),
        Bug("groups are rescaled the wrong way",
            ("exp(tops - top[None, :])", "exp(top[None, :] - tops)"), caught="m=150,n=130"),
        Bug("one maximum for all columns of a tile",
            ("    top = tl.max(tops, 0)\n", "    top = tl.zeros_like(tl.max(tops, 0)) + tl.max(tl.max(tops, 0), 0)\n"),
            caught="m=70,n=20,values=columns apart"),
        Bug("each chunk is normalised by itself",
            ("tl.arange(0, CHUNKS)[:, None] * n", "tl.program_id(1) * n"), caught="m=70,n=33,fp16"),
        Bug("tiles reach into the next chunk",
            (STATS_CHUNK, STATS_CHUNK.replace("tl.cdiv(m, CHUNKS * TILE_M) * TILE_M", "tl.cdiv(m, CHUNKS)")),
            caught="m=70,n=33,fp16"),
        Bug("leaves out the first tile of a chunk", ("first - 1, -TILE_M", "first, -TILE_M"), caught="m=17,n=129"),
        Bug("rows past the end hold 0", ('other=float("-inf")', "other=0.0"), caught="m=1,n=1"),
        Bug("rows past the end are loaded",
            (STATS_MASK, STATS_MASK.replace("rows < m", "rows >= 0")), caught="m=15,n=127"),
        Bug("columns past the end are stored",
            ("* n + columns, total, mask=columns < n", "* n + columns, total, mask=columns >= 0"), caught="m=15,n=127"),
        Bug("drops the ragged columns", ("triton.cdiv(n, TILE_N)", "max(1, n // TILE_N)"), caught="m=17,n=129"),
        Bug("2**x for e**x", ("a * 1.4426950408889634", "a"), caught="m=150,n=130"),
        Bug("a column of -inf gives zeros",
            ("1 / total", "1 / tl.maximum(total, 1e-30)"), caught="m=140,n=9,values=masked"),
        Bug("takes the rows to be adjacent",
            ("totals, m, n, x.stride(0)", "totals, m, n, n"), ("out, m, n, x.stride(0)", "out, m, n, n"),
            caught="m=70,n=30,stride=37"),
        Bug("softmax of the rows",
            ("    m, n = x.shape\n", "    x = x.t().contiguous()\n    m, n = x.shape\n"),
            ("    return out\n", "    return out.t().contiguous()\n"), caught="m=150,n=130"),
    ],
    variants=[
        Variant("small tiles", (TILES, "TILE_M, TILE_N = 8, 64")),
        Variant("flat tiles, more chunks", (TILES, "TILE_M, TILE_N = 4, 256"), (CHUNKS, CHUNKS.replace("16)", "32)"))),
        Variant("a pass for the maximum, then one for the sum", fill={2: """
            tops = tl.full((TILE_M, TILE_N), LOWEST, tl.float32)
            for start in range(first, first + chunk_rows, TILE_M):
                rows = start + tl.arange(0, TILE_M)
                mask = (rows < m)[:, None] & (columns < n)[None, :]
                x_ptrs = x_ptr + rows[:, None] * stride_m + columns[None, :]
                tops = tl.maximum(tops, tl.load(x_ptrs, mask=mask, other=float("-inf")).to(tl.float32))
            top = tl.max(tops, 0)
            totals = tl.zeros((TILE_M, TILE_N), tl.float32)
            for start in range(first, first + chunk_rows, TILE_M):
                rows = start + tl.arange(0, TILE_M)
                mask = (rows < m)[:, None] & (columns < n)[None, :]
                x_ptrs = x_ptr + rows[:, None] * stride_m + columns[None, :]
                x = tl.load(x_ptrs, mask=mask, other=float("-inf")).to(tl.float32)
                totals += exp(x - top[None, :])
            total = tl.sum(totals, 0)
        """}),
        Variant("a running maximum and sum for each column", fill={2: """
            top = tl.full((TILE_N,), LOWEST, tl.float32)
            total = tl.zeros((TILE_N,), tl.float32)
            for start in range(first, tl.minimum(first + chunk_rows, m), TILE_M):
                rows = start + tl.arange(0, TILE_M)
                mask = (rows < m)[:, None] & (columns < n)[None, :]
                x_ptrs = x_ptr + rows[:, None] * stride_m + columns[None, :]
                x = tl.load(x_ptrs, mask=mask, other=float("-inf")).to(tl.float32)
                higher = tl.maximum(top, tl.max(x, 0))
                total = total * tl.exp(top - higher) + tl.sum(tl.exp(x - higher[None, :]), 0)
                top = higher
        """}),
        Variant("whole columns, from the first row to the last", (CHUNKS, "1"), fill={3: """
            top, total = merge(tops, totals)
            for start in range(0, m, TILE_M):
                rows = start + tl.arange(0, TILE_M).to(tl.int64)
                mask = (rows < m)[:, None] & (columns < n)[None, :]
                x = tl.load(x_ptr + rows[:, None] * stride_m + columns[None, :], mask=mask).to(tl.float32)
                out = tl.exp(x - top[None, :]) / total[None, :]
                tl.store(out_ptr + rows[:, None] * n + columns[None, :], out, mask=mask)
        """}),
        Variant("groups merged by tl.reduce", (MERGE, MERGE_TWO + MERGE), fill={1: """
            top, total = tl.reduce((tops, totals), 0, merge_two)
        """}),
    ],
)
