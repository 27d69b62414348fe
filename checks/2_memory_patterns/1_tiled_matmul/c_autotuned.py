import torch
from workbook.exercise import Bug, Exercise, Moves, Speed, Tuning, Variant, by_rows, case
from workbook.matmul import WITH_GEMS, matrices, multiply, necessary

CONFIGS = """CONFIGS = [
    config(128, 256, 64, num_warps=8, num_stages=4),
    config(128, 128, 64, num_warps=8, num_stages=5),
    config(128, 128, 64, num_warps=8, num_stages=3),
    config(64, 128, 128, num_warps=4, num_stages=4),
    config(64, 64, 128, num_warps=4, num_stages=4),
    config(64, 64, 64, num_warps=4, num_stages=4),
    config(16, 128, 128, num_warps=4, num_stages=4),
]"""
KEPT = "        if c.num_stages * (tile_m + tile_n) * tile_k * a.element_size() <= limit:\n"

exercise = Exercise(
    entry="matmul",
    outputs=("product",),
    inputs=matrices,
    reference=multiply,
    cases=[
        case(m=130, n=135, k=70), case(m=1, n=1, k=1), case(m=128, n=128, k=64), case(m=127, n=129, k=65),
        case(m=1200, n=300, k=16), case(m=3, n=200, k=300), case(m=200, n=3, k=300),
        case(m=0, n=5, k=7), case(m=5, n=0, k=7), case(m=5, n=7, k=0),
        case(m=70, n=90, k=130, dtype=torch.float16), case(m=70, n=90, k=130, a="columns", b="columns"),
        case(m=70, n=90, k=130, a="padded", b="every_other"), case(m=70, n=90, k=130, a="same_rows"),
        case(m=2**16 + 1, n=16, k=2**15, needs_gb=20, slices=by_rows(2**13)),
    ],
    # tiles of 64 x 64 ask for 2.4 times what is necessary
    moves=[Moves(case(m=512, n=512, k=64), bytes=necessary, slack=2.4)],
    # rows of a batch that comes and goes: 4096 and 3504 share a choice, 16 has another, and so has another layer
    tuning=Tuning([case(m=m, n=n, k=512) for m, n in ((4096, 1024), (3504, 1024), (16, 1024), (16, 1024), (16, 2048))],
        times=3),
    speed=[  # a square, a tall one, few rows with few tiles, and as many tiles of 128 x 128 as multiprocessors
        Speed(case(m=4096, n=4096, k=4096), target=0.85, **WITH_GEMS),
        Speed(case(m=8192, n=1024, k=8192), target=0.85, naive_fails=False, **WITH_GEMS),
        Speed(case(m=64, n=8192, k=32768), target=0.85, **WITH_GEMS),
        Speed(case(m=512, n=4096, k=32768), target=0.80, **WITH_GEMS),
    ],
    bugs=[
        Bug("2.1b's tile for every shape",
            (CONFIGS, "CONFIGS = [config(128, 128, 64, num_warps=8, num_stages=3)]"), rung="fast"),
        Bug("tunes for every m anew", ('KEY = ["m_class", "n", "k"]', 'KEY = ["m", "n", "k"]'), rung="compiles"),
        Bug("tunes once for all", ('KEY = ["m_class", "n", "k"]', 'KEY = ["n", "k"]'), rung="compiles"),
        Bug("tunes for every m, by another name", ("m_class = triton.next_power_of_2(m)", "m_class = m"),
            rung="compiles"),
        Bug("keeps what does not fit", (KEPT, "        if tile_m + tile_n + tile_k > 0:\n"), rung="compiles"),
        Bug("counts elements, not bytes", (" * a.element_size() <= limit", " <= limit"), rung="compiles"),
        Bug("counts one stage", ("if c.num_stages * (tile_m", "if (tile_m"), rung="compiles"),
        Bug("prunes for the GPU at which it was written", ("<= limit:", "<= 227 * 1024:"), rung="compiles"),
        Bug("small tiles for all", (CONFIGS, """CONFIGS = [
    config(32, 32, 64, num_warps=4, num_stages=3), config(32, 32, 32, num_warps=4, num_stages=3)
]"""), rung="moves"),
        Bug("a grid for one tile size", ('triton.cdiv(m, values["TILE_M"]) * triton.cdiv(n, values["TILE_N"])',
            "triton.cdiv(m, 256) * triton.cdiv(n, 256)"), caught="m=130,n=135,k=70"),
        Bug("a grid for 2.1b's tile, whichever was chosen",
            ('triton.cdiv(m, values["TILE_M"]) * triton.cdiv(n, values["TILE_N"])',
            "triton.cdiv(m, 128) * triton.cdiv(n, 128)"), caught="m=128,n=128,k=64"),
        Bug("drops the ragged tiles", ('triton.cdiv(m, values["TILE_M"])', 'max(1, m // values["TILE_M"])'),
            caught="m=130,n=135,k=70"),
    ],
    variants=[
        Variant("other tiles", fill={1: """
            CONFIGS = [
                config(m, n, k, num_warps=warps, num_stages=stages)
                for m, n, k, warps, stages in
                [(16, 128, 128, 4, 3), (64, 128, 32, 4, 5), (128, 128, 64, 4, 3), (256, 128, 64, 8, 3)]
            ]
        """}),
        Variant("prunes what it tries, not what it has", fill={2: """
            size = a.element_size()
            return list(filter(lambda c: (c.kwargs["TILE_M"] + c.kwargs["TILE_N"]) * c.kwargs["TILE_K"] * c.num_stages
                               <= limit // size, configs))
        """}),
        Variant("classes by the number of digits", fill={5: """
            m_class = (m - 1).bit_length()

            def grid(values):
                return (triton.cdiv(m, values["TILE_M"]) * triton.cdiv(n, values["TILE_N"]), 1, 1)
        """}),
    ],
)
