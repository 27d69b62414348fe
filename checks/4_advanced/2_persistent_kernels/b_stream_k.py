import torch
from workbook.exercise import Bug, Exercise, Moves, Speed, Variant, by_rows, case
from workbook.matmul import WITH_GEMS, WRONG, matrices, multiply, necessary


def inputs(m=0, n=0, k=0, waves=0, across=0, cancel=False, wrong=None, **more):
    """waves: of tiles of 128 x 256, one a multiprocessor, `across` of them side by side, in place of m and n."""
    if waves:
        here = torch.cuda.is_available()
        multiprocessors = torch.cuda.get_device_properties(0).multi_processor_count if here else 132
        m, n = 128 * round(waves * multiprocessors / across), 256 * across
    a, b = matrices(m, n, k, **more)
    if cancel:  # but for the last eight products of each sum
        a[:, k // 2 :] = a[:, : k // 2]
        b[k // 2 : -8] = -b[: k // 2 - 8]
    return WRONG[wrong](a, b) if wrong else (a, b)


def twelve_tiles(a, b):
    return 12 * 128 * 256 * 4


EVEN = {"bytes": necessary, "busy": 0.9, "launches": 2, "memory": twelve_tiles}

# what bugs and variants change
STREAM = "    return left, shares\n"
END = "(program + 1) * line // shares"
LAST = "last = ((tile + 1) * steps * shares - 1) // line"
PLACE = "row, column = place(whole + tile, m, n, TILE_M, TILE_N, GROUP_M)\n"
LEAVE = "        tl.store(pieces_ptr + tl.cast(program + tile, tl.int64) * (TILE_M * TILE_N) + offsets, acc)\n"
FIX_UP = "        if left > 0:\n"
AT_ONCE = """        if stop == steps:
            total = tl.zeros((TILE_M, TILE_N), tl.float32)
            for share in range(((tile * steps + 1) * shares - 1) // line, program + 1):
                total += tl.load(pieces_ptr + tl.cast(share + tile, tl.int64) * (TILE_M * TILE_N) + offsets)
            store(c, total, row, column, m, n, TILE_M, TILE_N, C_PATH)
"""
BY_THE_LAST = """        tl.debug_barrier()  # all threads have stored their part of the piece
        first_share, last_share = ((tile * steps + 1) * shares - 1) // line, ((tile + 1) * steps * shares - 1) // line
        if tl.atomic_add(counters_ptr + tile, 1) == last_share - first_share:
            total = tl.zeros((TILE_M, TILE_N), tl.float32)
            for share in range(first_share, last_share + 1):
                total += tl.load(pieces_ptr + tl.cast(share + tile, tl.int64) * (TILE_M * TILE_N) + offsets)
            store(c, total, row, column, m, n, TILE_M, TILE_N, C_PATH)
"""
PIECES = "        pieces = torch.empty("

exercise = Exercise(
    entry="matmul",
    outputs=("product",),
    inputs=inputs,
    reference=multiply,
    deterministic=True,
    provisional=True,
    cases=[
        # by four multiprocessors: one tile in four shares; five tiles, the fifth in three; two in four; and three in
        # four, of which two shares have steps of two tiles
        case(m=100, n=80, k=4112), case(m=640, n=72, k=1600), case(m=136, n=70, k=2080, a="columns", b="columns"),
        case(m=300, n=104, k=4104, b="columns"), case(m=100, n=61, k=2001), case(m=61, n=100, k=2080, a="shifted"),
        case(m=72, n=88, k=2064, dtype=torch.float16, a="padded", b="padded"),
        case(m=48, n=40, k=2048, cancel=True), case(m=64, n=64, k=3000, mean=4.0),
        # whole tiles alone
        case(m=1, n=1, k=1), case(m=128, n=256, k=64), case(m=127, n=257, k=65), case(m=1100, n=136, k=24),
        case(m=1, n=264, k=104), case(m=264, n=1, k=104), case(m=0, n=5, k=7), case(m=5, n=0, k=7),
        case(m=8, n=8, k=0), case(m=33, n=64, k=8), case(m=70, n=90, k=130, a="padded", b="every_other"),
        case(m=72, n=88, k=136, a="same_rows"),
        case(waves=1.1, across=5, k=2048, needs_gb=2), case(m=512, n=512, k=2**16, needs_gb=2),
        case(m=2**16 + 1, n=16, k=2**15, needs_gb=20, slices=by_rows(2**13)),
    ],
    refuses=[
        case(m=3, n=4, k=5, wrong="b turned"), case(m=3, n=4, k=5, wrong="a batch"),
        case(m=3, n=4, k=5, wrong="b in another dtype"), case(m=3, n=4, k=5, dtype=torch.float32),
    ],
    # for four multiprocessors one tile of 128 x 256, then five
    moves=[
        Moves(case(m=128, n=256, k=4096), slack=1.6, **EVEN),
        Moves(case(m=640, n=256, k=2048, b="columns"), slack=2.8, **EVEN),
    ],
    speed=[
        Speed(case(waves=1.1, across=5, k=8192, b="columns"), target=0.72, **WITH_GEMS),
        Speed(case(waves=2, across=4, k=8192, b="columns"), target=0.85, naive_fails=False, **WITH_GEMS),
        Speed(case(m=1024, n=1024, k=16384, b="columns"), target=0.60, **WITH_GEMS),
        Speed(case(m=512, n=512, k=65536, b="columns"), target=0.55, **WITH_GEMS),
    ],
    bugs=[
        Bug("a program makes every tile alone, as in 4.2a", (STREAM, "    return 0, 1\n"), rung="moves"),
        Bug("a share takes at least 40 steps", ("left * steps // 8", "left * steps // 40"), rung="moves"),
        Bug("tiles of 32 x 32", ('(128, 3) if "pointers" in (A_PATH, B_PATH, C_PATH) else (256, 4)', "(32, 3)"),
            ("TILE_M, TILE_K = 128, 64", "TILE_M, TILE_K = 32, 64"), rung="moves"),
        Bug("asks torch for pieces of zeros", ("pieces = torch.empty(", "pieces = torch.zeros("), rung="moves"),
        Bug("the share with a tile's last step adds up what the others may not have left yet", (LEAVE, LEAVE + AT_ONCE),
            (FIX_UP, "        if left < 0:\n"), caught="m=100,n=80,k=4112"),
        Bug("one piece a share, though some have two", ("tl.cast(program + tile", "tl.cast(program"),
            ("tl.cast(share + tile", "tl.cast(share"), caught="m=300,n=104,k=4104,b=columns"),
        Bug("shares of equal length, the rest dropped", (END, "(program + 1) * (line // shares)"),
            ("program * line // shares, line", "program * (line // shares), line"), caught="m=100,n=80,k=4112"),
        Bug("every share begins at the tile's first step", ("max(first - tile * steps, 0)", "0"),
            caught="m=100,n=80,k=4112"),
        Bug("every share goes on to the tile's last step", ("min(end - tile * steps, steps)", "steps"),
            caught="m=100,n=80,k=4112"),
        Bug("a share stops at the end of its first tile", ("tl.cdiv(end, steps)", "first // steps + 1"),
            caught="m=300,n=104,k=4104,b=columns"),
        Bug("the first tile is streamed once more, the last one never",
            (PLACE + "        begin", PLACE.replace("whole + ", "") + "        begin"),
            ("    " + PLACE + "    rows", "    " + PLACE.replace("whole + ", "") + "    rows"),
            caught="m=640,n=72,k=1600"),
        Bug("leaves out the last piece", ("range(first, last + 1)", "range(first, last)"), caught="m=100,n=80,k=4112"),
        Bug("adds a piece of the next share", (LAST, "last = (tile + 1) * steps * shares // line"),
            caught="m=100,n=80,k=4112"),
        Bug("pieces in 16 bits", ("dtype=torch.float32", "dtype=a.dtype"), caught="m=48,n=40,k=2048,cancel=True"),
        Bug("fixes up the first rows of a tile alone", ("(TILE_M // ROWS, left)", "(1, left)"),
            caught="m=100,n=80,k=4112"),
        Bug("no fix-up", (FIX_UP, "        if left < 0:\n"), caught="m=100,n=80,k=4112"),
        Bug("takes any two matrices", ("a.dim() != 2 or b.dim() != 2 or a.shape[1] != b.shape[0]", "False"),
            caught="m=3,n=4,k=5,wrong=b turned"),
    ],
    variants=[
        Variant("all tiles in the line", (STREAM, "    return tiles, multiprocessors\n")),
        Variant("what is left over, and one whole wave with it",
            (STREAM, "    return left + (multiprocessors if tiles > multiprocessors else 0), shares\n")),
        Variant("a program fixes a whole tile up", ("ROWS = 8", "ROWS = 128")),
        Variant("who is last to leave a piece of a tile adds them up, all in one launch",
            (LEAVE, LEAVE + BY_THE_LAST), ("pieces_ptr, a_strides", "pieces_ptr, counters_ptr, a_strides"),
            (PIECES, "        counters = torch.zeros(left, dtype=torch.int32, device=a.device)\n" + PIECES),
            ("pieces, a.stride()", "pieces, counters, a.stride()"), (FIX_UP, "        if left < 0:\n")),
    ],
)
