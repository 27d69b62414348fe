import torch
from workbook.exercise import Bug, Exercise, Moves, Speed, Variant, by_rows, case
from workbook.matmul import COSTS, matrices, multiply, necessary

# what bugs and variants change
TILES, GRID = "TILE_M, TILE_N, TILE_K = 128, 128, 64", "triton.cdiv(m, TILE_M) * triton.cdiv(n, TILE_N)"
A_MASK = "mask=(rows < m)[:, None] & (inner < k - start)[None, :]"
B_MASK = "mask=(inner < k - start)[:, None] & (columns < n)[None, :]"
C_MASK = "mask=(rows < m)[:, None] & (columns < n)[None, :]"

exercise = Exercise(
    entry="matmul",
    outputs=("product",),
    inputs=matrices,
    reference=multiply,
    cases=[
        case(m=130, n=135, k=70), case(m=1, n=1, k=1), case(m=128, n=128, k=64), case(m=127, n=129, k=65),
        case(m=129, n=127, k=63), case(m=67, n=61, k=193), case(m=1, n=200, k=100), case(m=200, n=1, k=100),
        case(m=0, n=5, k=7), case(m=5, n=0, k=7), case(m=5, n=7, k=0),
        case(m=33, n=65, k=1), case(m=16, n=16, k=4001), case(m=64, n=64, k=1000, mean=4.0),
        case(m=70, n=90, k=130, dtype=torch.float16),
        case(m=70, n=90, k=130, a="columns"), case(m=70, n=90, k=130, b="columns"),
        case(m=70, n=90, k=130, a="padded", b="padded", dtype=torch.float16),
        case(m=70, n=90, k=130, a="every_other", b="every_other"), case(m=70, n=90, k=130, a="same_rows"),
        case(m=2**16 + 1, n=16, k=2**15, needs_gb=20, slices=by_rows(2**13)),
    ],
    # tiles of 64 x 64 ask for 2.5 times what is necessary
    moves=[Moves(case(m=256, n=256, k=128, b="padded"), bytes=necessary, slack=2.5)],
    speed=[
        Speed(case(m=4096, n=4096, k=4096), target=0.55, **COSTS),
        Speed(case(m=8192, n=8192, k=8192), target=0.50, **COSTS),
    ],
    bugs=[
        Bug("no tiles: a row a program", (TILES, "TILE_M, TILE_N, TILE_K = 1, 128, 64"),
            ("tl.dot(a, b, acc)", "acc + tl.sum(a.to(tl.float32)[:, :, None] * b.to(tl.float32)[None, :, :], 1)"),
            rung="moves"),
        Bug("tiles of 16 x 16", (TILES, "TILE_M, TILE_N, TILE_K = 16, 16, 64"), rung="moves"),
        Bug("asks torch to copy b first", ("(m, k), n = a.shape, b.shape[1]",
            "(m, k), n, b = a.shape, b.shape[1], b.contiguous()"), rung="moves"),
        Bug("the sum is kept in bf16", ("tl.dot(a, b, acc)", "tl.dot(a, b, acc).to(tl.bfloat16).to(tl.float32)"),
            caught="m=64,n=64,k=1000,mean=4.0"),
        Bug("drops what is left of k", ("range(0, k, TILE_K)", "range(0, k // TILE_K * TILE_K, TILE_K)"),
            caught="m=130,n=135,k=70"),
        Bug("no mask along k", (A_MASK, "mask=(rows < m)[:, None]"), (B_MASK, "mask=(columns < n)[None, :]"),
            caught="m=127,n=129,k=65"),
        Bug("masks k with all of it, not with what is left", ("(inner < k - start)[None, :]", "(inner < k)[None, :]"),
            ("(inner < k - start)[:, None]", "(inner < k)[:, None]"), caught="m=127,n=129,k=65"),
        Bug("a stays at its first tile", ("        a_ptrs += TILE_K * stride_ak\n", ""), caught="m=127,n=129,k=65"),
        Bug("b goes on along its rows", ("TILE_K * stride_bk", "TILE_K * stride_bn"), caught="m=127,n=129,k=65"),
        Bug("takes b for contiguous", ("*a.stride(), *b.stride()", "*a.stride(), n, 1"),
            caught="m=70,n=90,k=130,b=columns"),
        Bug("takes rows of a for contiguous", ("*a.stride(), *b.stride()", "a.stride(0), 1, *b.stride()"),
            caught="m=70,n=90,k=130,a=columns"),
        Bug("forgets what it has", ("tl.dot(a, b, acc)", "tl.dot(a, b)"), caught="m=127,n=129,k=65"),
        Bug("c has rows of k elements", ("rows[:, None] * n + columns", "rows[:, None] * k + columns"),
            caught="m=127,n=129,k=65"),
        Bug("stores past the columns", (C_MASK, "mask=(rows < m)[:, None]"), caught="m=127,n=129,k=65"),
        Bug("drops the ragged tiles", (GRID, "max(1, m // TILE_M) * max(1, n // TILE_N)"), caught="m=130,n=135,k=70"),
        Bug("a grid for a square", (GRID, "triton.cdiv(m, TILE_M) ** 2"), caught="m=1,n=200,k=100"),
    ],
    variants=[
        Variant("small tiles", (TILES, "TILE_M, TILE_N, TILE_K = 64, 64, 32")),
        Variant("wide tiles", (TILES, "TILE_M, TILE_N, TILE_K = 64, 256, 32")),
        Variant("rows and columns wrap around instead of being masked", fill={1: """
            a_ptrs = a_ptr + (rows % m)[:, None] * stride_am + inner[None, :] * stride_ak
            b_ptrs = b_ptr + inner[:, None] * stride_bk + (columns % n)[None, :] * stride_bn
        """, 2: """
            for step in range(tl.cdiv(k, TILE_K)):
                left = k - step * TILE_K
                acc += tl.dot(tl.load(a_ptrs, mask=inner[None, :] < left, other=0.0),
                              tl.load(b_ptrs, mask=inner[:, None] < left, other=0.0))
                a_ptrs += TILE_K * stride_ak
                b_ptrs += TILE_K * stride_bk
        """}),
        Variant("addresses anew in every step", fill={2: """
            for start in range(0, k, TILE_K):
                at = start + inner
                a = tl.load(a_ptr + rows[:, None] * stride_am + at[None, :] * stride_ak,
                            mask=(rows[:, None] < m) & (at[None, :] < k), other=0)
                b = tl.load(b_ptr + at[:, None] * stride_bk + columns[None, :] * stride_bn,
                            mask=(at[:, None] < k) & (columns[None, :] < n), other=0)
                acc = tl.dot(a, b, acc)
        """}),
        Variant("whole tiles first, then the rest of k", fill={2: """
            rows_mask, columns_mask = (rows < m)[:, None], (columns < n)[None, :]
            whole = k // TILE_K
            for _ in range(whole):
                a = tl.load(a_ptrs, mask=rows_mask, other=0.0)
                b = tl.load(b_ptrs, mask=columns_mask, other=0.0)
                acc = tl.dot(a, b, acc)
                a_ptrs += TILE_K * stride_ak
                b_ptrs += TILE_K * stride_bk
            left = inner < k - whole * TILE_K
            a = tl.load(a_ptrs, mask=rows_mask & left[None, :], other=0.0)
            b = tl.load(b_ptrs, mask=left[:, None] & columns_mask, other=0.0)
            acc = tl.dot(a, b, acc)
        """}),
    ],
)
