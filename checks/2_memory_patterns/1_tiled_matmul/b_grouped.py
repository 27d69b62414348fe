import torch
from workbook.exercise import Bug, Exercise, Moves, Speed, Variant, Window, by_rows, case
from workbook.matmul import COSTS, matrices, multiply, necessary

GROUP = """    tiles_m, tiles_n = tl.cdiv(m, TILE_M), tl.cdiv(n, TILE_N)
    first = tl.program_id(0) // (GROUP_M * tiles_n) * GROUP_M
    height = min(tiles_m - first, GROUP_M)
    place = tl.program_id(0) % (GROUP_M * tiles_n)
    tile_m = first + place % height
    tile_n = place // height
"""
ROW_BY_ROW = """    tiles_n = tl.cdiv(n, TILE_N)
    tile_m = tl.program_id(0) // tiles_n
    tile_n = tl.program_id(0) % tiles_n
"""

exercise = Exercise(
    entry="matmul",
    outputs=("product",),
    inputs=matrices,
    reference=multiply,
    cases=[
        case(m=130, n=135, k=70), case(m=1, n=1, k=1), case(m=128, n=128, k=64), case(m=127, n=129, k=65),
        case(m=1200, n=300, k=16), case(m=1024, n=130, k=16), case(m=1030, n=600, k=5), case(m=900, n=1, k=30),
        case(m=1, n=900, k=30), case(m=0, n=5, k=7), case(m=5, n=0, k=7), case(m=5, n=7, k=0),
        case(m=70, n=90, k=130, dtype=torch.float16), case(m=300, n=200, k=70, a="columns", b="columns"),
        case(m=70, n=90, k=130, a="padded", b="every_other"), case(m=70, n=90, k=130, a="same_rows"),
        case(m=2**16 + 1, n=16, k=2**15, needs_gb=20, slices=by_rows(2**13)),
    ],
    # so wide that a row of tiles is a window; tiles of 64 x 64 ask for half as much again as is necessary
    moves=[Moves(case(m=2048, n=4096, k=16), bytes=necessary, slack=1.5, window=Window(programs=32, reuse=3.0))],
    speed=[
        Speed(case(m=4096, n=4096, k=4096), target=0.60, naive_fails=False, **COSTS),
        Speed(case(m=8192, n=8192, k=8192), target=0.60, naive_fails=False, **COSTS),
        # so wide that row by row all that run together make tiles of one row: each strip of b serves one of them
        Speed(case(m=4096, n=65536, k=4096), target=0.62, **COSTS),
    ],
    bugs=[
        Bug("row by row, as in 2.1a", (GROUP, ROW_BY_ROW), rung="moves"),
        Bug("groups of one row", ("GROUP_M = 8", "GROUP_M = 1"), rung="moves"),
        Bug("along the rows of the group", ("first + place % height", "first + place // tiles_n"),
            ("place // height", "place % tiles_n"), rung="moves"),
        Bug("the last group is as high as the others", ("min(tiles_m - first, GROUP_M)", "GROUP_M"),
            caught="m=130,n=135,k=70"),
        Bug("columns of the last group are as high as the others'", ("place // height", "place // GROUP_M"),
            caught="m=130,n=135,k=70"),
        Bug("a group has as many tiles as there are rows",
            ("tl.program_id(0) % (GROUP_M * tiles_n)", "tl.program_id(0) % (GROUP_M * tiles_m)"),
            ("tl.program_id(0) // (GROUP_M * tiles_n)", "tl.program_id(0) // (GROUP_M * tiles_m)"),
            caught="m=1200,n=300,k=16"),
        Bug("all groups begin at the top", ("first + place % height", "place % height"), caught="m=1200,n=300,k=16"),
        Bug("the place in the whole, not in the group",
            ("place = tl.program_id(0) % (GROUP_M * tiles_n)", "place = tl.program_id(0)"), caught="m=1200,n=300,k=16"),
        Bug("counts groups, not rows", ("(GROUP_M * tiles_n) * GROUP_M", "(GROUP_M * tiles_n)"),
            caught="m=1200,n=300,k=16"),
        Bug("rows and columns swapped", ("tile_m = first + place % height", "tile_n = first + place % height"),
            ("tile_n = place // height", "tile_m = place // height"), caught="m=1200,n=300,k=16"),
    ],
    variants=[
        Variant("groups of four rows", ("GROUP_M = 8", "GROUP_M = 4")),
        Variant("small tiles", ("TILE_M, TILE_N, TILE_K = 128, 128, 64", "TILE_M, TILE_N, TILE_K = 64, 64, 32")),
        Variant("groups of columns, along their rows", fill={1: """
            tiles_m, tiles_n = tl.cdiv(m, TILE_M), tl.cdiv(n, TILE_N)
            group = tl.program_id(0) // (GROUP_M * tiles_m)
            place = tl.program_id(0) - group * GROUP_M * tiles_m
            width = tl.minimum(tiles_n - group * GROUP_M, GROUP_M)
            tile_m = place // width
            tile_n = group * GROUP_M + place % width
        """}),
        Variant("Triton's own swizzle", fill={1: """
            tiles_m, tiles_n = tl.cdiv(m, TILE_M), tl.cdiv(n, TILE_N)
            number = tl.program_id(0)
            tile_m, tile_n = tl.swizzle2d(number // tiles_n, number % tiles_n, tiles_m, tiles_n, GROUP_M)
        """}),
        Variant("as high as the number of programs asks", fill={3: """
            GROUP_M = 4 if m * n < 2**22 else 8
            grid = (triton.cdiv(m, TILE_M) * triton.cdiv(n, TILE_N), 1)
        """}),
    ],
)
