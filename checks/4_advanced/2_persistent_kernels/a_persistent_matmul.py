import torch
from workbook.exercise import Bug, Exercise, Moves, Speed, Variant, by_rows, case
from workbook.matmul import WITH_GEMS, WRONG, matrices, multiply, necessary


def inputs(wrong=None, **sizes):
    a, b = matrices(**sizes)
    return WRONG[wrong](a, b) if wrong else (a, b)


# what bugs and variants change
TILES = '(128, 3) if "pointers" in (A_PATH, B_PATH, C_PATH) else (256, 4)'
TILE_M = "TILE_M, TILE_K = 128, 64"
LOOP = "tl.range(tl.program_id(0), tiles_m * tiles_n, tl.num_programs(0), flatten=True)"
PROGRAMS = "min(multiprocessors, triton.cdiv(m, TILE_M) * triton.cdiv(n, TILE_N))"
ONE_EACH = "triton.cdiv(m, TILE_M) * triton.cdiv(n, TILE_N)"
CAPABLE = "torch.cuda.get_device_properties(x.device).major in (9, 10)"
LINES = "between == 1 and apart >= lines.shape[1] and aligned"
A_TILE = "load(a, a_strides, row, start, m, k, TILE_M, TILE_K, A_PATH)"
ACC = "        acc = tl.zeros((TILE_M, TILE_N), tl.float32)\n"
FLATTEN = "    # flatten: one loop"
C = "    c = torch.empty((m, n), dtype=a.dtype, device=a.device)\n"

exercise = Exercise(
    entry="matmul",
    outputs=("product",),
    inputs=inputs,
    reference=multiply,
    provisional=True,
    cases=[
        case(m=130, n=144, k=208), case(m=130, n=136, k=200, b="columns"), case(m=136, n=130, k=72, a="columns"),
        case(m=264, n=136, k=72, a="columns", b="columns", dtype=torch.float16),
        case(m=1, n=1, k=1), case(m=128, n=256, k=64), case(m=127, n=257, k=65), case(m=129, n=255, k=63),
        case(m=67, n=61, k=193), case(m=1, n=264, k=104), case(m=264, n=1, k=104), case(m=16, n=16, k=4000),
        case(m=0, n=5, k=7), case(m=5, n=0, k=7), case(m=8, n=8, k=0), case(m=5, n=7, k=0), case(m=33, n=64, k=8),
        case(m=100, n=60, k=84),
        # five tiles and more, on four multiprocessors; the last group of rows is lower than the others
        case(m=1100, n=136, k=24), case(m=600, n=520, k=16), case(m=1100, n=600, k=8, b="columns"),
        case(m=64, n=64, k=1000, mean=4.0), case(m=72, n=88, k=136, dtype=torch.float16),
        case(m=72, n=88, k=136, a="padded", b="padded"), case(m=70, n=90, k=130, a="padded", b="every_other"),
        case(m=72, n=88, k=136, a="every_other"), case(m=72, n=88, k=136, a="same_rows"),
        case(m=72, n=88, k=136, b="same_columns"), case(m=72, n=88, k=136, a="shifted"),
        case(m=72, n=88, k=136, b="shifted", dtype=torch.float16),
        case(m=2**16 + 1, n=16, k=2**15, needs_gb=20, slices=by_rows(2**13)),
    ],
    refuses=[
        case(m=3, n=4, k=5, wrong="b turned"), case(m=3, n=4, k=5, wrong="a batch"),
        case(m=3, n=4, k=5, wrong="b in another dtype"), case(m=3, n=4, k=5, dtype=torch.float32),
    ],
    # no more programs than four multiprocessors hold at two each; tiles of 64 x 64 ask for 2.5 times what is necessary
    moves=[Moves(case(m=1024, n=512, k=64, b="columns"), bytes=necessary, slack=2.6, programs=8)],
    speed=[
        Speed(case(m=4096, n=4096, k=4096, b="columns"), target=0.88, naive_fails=False, **WITH_GEMS),
        Speed(case(m=4096, n=4096, k=4096), target=0.88, naive_fails=False, **WITH_GEMS),
        Speed(case(m=8192, n=8192, k=8192, b="columns"), target=0.82, naive_fails=False, **WITH_GEMS),
        Speed(case(m=8192, n=8192, k=8192), target=0.82, naive_fails=False, **WITH_GEMS),
        # eight steps a tile: without persistence its beginning and its end are a quarter of the time
        Speed(case(m=8192, n=8192, k=512, b="columns"), target=0.66, **WITH_GEMS),
        Speed(case(m=8192, n=8192, k=512), target=0.66, **WITH_GEMS),
    ],
    bugs=[
        Bug("a program a tile, by pointers, as in 2.1c", (PROGRAMS, ONE_EACH), (CAPABLE, "False"),
            (TILES, "(256, 4)"), ("flatten=True", "flatten=False"), rung="moves"),
        Bug("a program a tile, by descriptors", (PROGRAMS, ONE_EACH), rung="moves"),
        Bug("tiles of 32 x 32", (TILES, "(32, 3)"), (TILE_M, "TILE_M, TILE_K = 32, 64"), rung="moves"),
        Bug("asks torch to turn b first", (C, C + "    b = b.contiguous()\n"), rung="moves"),
        Bug("every program makes one tile", (LOOP, "range(tl.program_id(0), tl.program_id(0) + 1)"),
            caught="m=1100,n=136,k=24"),
        Bug("as many tiles for each program, the rest dropped", (LOOP, "range(tl.program_id(0), tiles_m * tiles_n"
            " // tl.num_programs(0) * tl.num_programs(0), tl.num_programs(0))"), caught="m=1100,n=136,k=24"),
        Bug("one tile too far to the next", (LOOP, LOOP.replace("num_programs(0)", "num_programs(0) + 1")),
            caught="m=1100,n=136,k=24"),
        Bug("goes on adding to the tile before", (ACC, ""), (FLATTEN, ACC[4:] + FLATTEN), caught="m=1100,n=136,k=24"),
        Bug("the last group is as high as the others", ("min(tiles_m - first, GROUP_M)", "GROUP_M"),
            caught="m=1100,n=600,k=8,b=columns"),
        Bug("a turned matrix by the places of one that is not", ("x.load([column, row]).T", "x.load([row, column]).T"),
            caught="m=130,n=136,k=200,b=columns"),
        Bug("never looks where a begins", ("x.data_ptr() % 16 == 0 and ", ""), caught="m=72,n=88,k=136,a=shifted"),
        Bug("never looks how far apart rows are", (" and apart * x.element_size() % 16 == 0", ""),
            caught="m=127,n=257,k=65"),
        Bug("counts elements, not bytes", ("apart * x.element_size() % 16", "apart * 2 * x.element_size() % 16"),
            caught="m=100,n=60,k=84"),
        Bug("takes gaps for adjacent", ("between == 1 and ", ""), caught="m=72,n=88,k=136,a=every_other"),
        Bug("takes what is no row for columns", (LINES, "aligned or path == 'columns'"),
            caught="m=70,n=90,k=130,a=padded,b=every_other"),
        Bug("pointers without a mask along k", ("mask=(rows < m)[:, None] & (columns < n)[None, :], other=0.0",
            "mask=(rows < m)[:, None] & (columns < n + 64)[None, :], other=0.0"), caught="m=127,n=257,k=65"),
        Bug("a is as wide as the product", (A_TILE, A_TILE.replace("m, k", "m, n")), caught="m=67,n=61,k=193"),
        Bug("rows of c as long as a's", ("[:, None] * n + columns[None, :]", "[:, None] * m + columns[None, :]"),
            caught="m=127,n=257,k=65"),
        Bug("the sum is kept in bf16", ("tl.dot(a_tile, b_tile, acc)",
            "tl.dot(a_tile, b_tile, acc).to(tl.bfloat16).to(tl.float32)"), caught="m=64,n=64,k=1000,mean=4.0"),
        Bug("takes any two matrices", ("a.dim() != 2 or b.dim() != 2 or a.shape[1] != b.shape[0]", "False"),
            caught="m=3,n=4,k=5,wrong=b turned"),
    ],
    variants=[
        Variant("pointers on every GPU", (CAPABLE, "False")),
        Variant("two small programs a multiprocessor", (TILES, "(128, 3)"), ("num_warps=8", "num_warps=4"),
            (TILE_M, "TILE_M, TILE_K = 64, 64"), (PROGRAMS, PROGRAMS.replace("multi", "2 * multi"))),
        Variant("descriptors for a and b, pointers for c", ("path_to(b), path_to(c)", 'path_to(b), "pointers"')),
        Variant("the loops not flattened, tiles in a line for each program", fill={3: """
            tiles_m, tiles_n = tl.cdiv(m, TILE_M), tl.cdiv(n, TILE_N)
            tiles, programs, program = tiles_m * tiles_n, tl.num_programs(0), tl.program_id(0)
            for tile in range(program * tiles // programs, (program + 1) * tiles // programs):
                row, column = tl.swizzle2d(tile // tiles_n, tile % tiles_n, tiles_m, tiles_n, GROUP_M)
                row, column = row * TILE_M, column * TILE_N
                acc = tl.zeros((TILE_M, TILE_N), tl.float32)
                for step in range(tl.cdiv(k, TILE_K)):
                    inner = step * TILE_K
                    acc += tl.dot(load(a, a_strides, row, inner, m, k, TILE_M, TILE_K, A_PATH),
                                  load(b, b_strides, inner, column, k, n, TILE_K, TILE_N, B_PATH))
                store(c, acc, row, column, m, n, TILE_M, TILE_N, C_PATH)
        """}),
        Variant("descriptors made on the device", fill={3: """
            if A_PATH == "rows":
                a_tiles = tl.make_tensor_descriptor(a, [m, k], [a_strides[0], 1], [TILE_M, TILE_K])
            elif A_PATH == "columns":
                a_tiles = tl.make_tensor_descriptor(a, [k, m], [a_strides[1], 1], [TILE_K, TILE_M])
            else:
                a_tiles = a
            if B_PATH == "rows":
                b_tiles = tl.make_tensor_descriptor(b, [k, n], [b_strides[0], 1], [TILE_K, TILE_N])
            elif B_PATH == "columns":
                b_tiles = tl.make_tensor_descriptor(b, [n, k], [b_strides[1], 1], [TILE_N, TILE_K])
            else:
                b_tiles = b
            if C_PATH == "rows":
                c_tiles = tl.make_tensor_descriptor(c, [m, n], [n, 1], [TILE_M, TILE_N // 2])
            else:
                c_tiles = c
            tiles_m, tiles_n = tl.cdiv(m, TILE_M), tl.cdiv(n, TILE_N)
            for tile in tl.range(tl.program_id(0), tiles_m * tiles_n, tl.num_programs(0), flatten=True):
                first = tile // (GROUP_M * tiles_n) * GROUP_M
                height = min(tiles_m - first, GROUP_M)
                place = tile % (GROUP_M * tiles_n)
                row, column = (first + place % height) * TILE_M, place // height * TILE_N
                acc = tl.zeros((TILE_M, TILE_N), tl.float32)
                for start in range(0, k, TILE_K):
                    a_tile = load(a_tiles, a_strides, row, start, m, k, TILE_M, TILE_K, A_PATH)
                    b_tile = load(b_tiles, b_strides, start, column, k, n, TILE_K, TILE_N, B_PATH)
                    acc = tl.dot(a_tile, b_tile, acc)
                store(c_tiles, acc, row, column, m, n, TILE_M, TILE_N, C_PATH)
        """, 5: """
            triton.set_allocator(lambda size, _, stream: torch.empty(size, dtype=torch.int8, device=x.device))
            return x
        """}),
    ],
)
