import torch
from workbook.exercise import Bug, Exercise, Moves, Speed, Variant, Window, case, normal
from workbook.layouts import HEADS

WRONG = {  # calls that make no sense
    "batch": lambda q, k: (q, k[1:]),
    "heads": lambda q, k: (q, k[:, :1]),
    "head_dim": lambda q, k: (q, k[..., 1:]),
    "no batch": lambda q, k: (q[0], k[0]),
    "dtypes": lambda q, k: (q, k.half()),
    "fp32": lambda q, k: (q.float(), k.float()),
}
# what bugs and variants change
PLACES = """    batch = (tl.program_id(0) // strips // heads).to(tl.int64)
    head = (tl.program_id(0) // strips % heads).to(tl.int64)
    rows = (tl.program_id(0) % strips).to(tl.int64) * TILE_Q + tl.arange(0, TILE_Q)
"""
FROM_HEAD_TO_HEAD = """    all_heads = tl.num_programs(0) // strips
    batch = (tl.program_id(0) % all_heads // heads).to(tl.int64)
    head = (tl.program_id(0) % all_heads % heads).to(tl.int64)
    rows = (tl.program_id(0) // all_heads).to(tl.int64) * TILE_Q + tl.arange(0, TILE_Q)
"""
TILES, GRID = "(128, 64) if BLOCK_D <= 128 else (64, 32)", "batch * heads * triton.cdiv(queries, TILE_Q)"
OUT = "    out = torch.empty("
Q_MASK = "mask=(rows < queries)[:, None] & (inner < head_dim)[None, :]"
K_MASK = "mask=(inner < head_dim)[:, None] & (columns < keys - start)[None, :]"
STORE_MASK = "mask=(rows < queries)[:, None] & (columns < keys - start)[None, :]"


def tensor(b, h, s, d, layout, dtype, scale=1.0):
    return normal(b, h, s, d, dtype=dtype, scale=scale, strides=HEADS[layout](h, s, d))


def inputs(b, h, q, k, d, dtype=torch.bfloat16, q_is="tokens", k_is="tokens", std=1.0, one=None, wrong=None):
    """q_is, k_is: where they lie. one: the value of one element of q. wrong: what does not fit."""
    queries, keys = tensor(b, h, q, d, q_is, dtype, std), tensor(b, h, k, d, k_is, dtype, std)
    if one is not None:
        queries[0, -1, -2, 0] = one
    if wrong:
        queries, keys = WRONG[wrong](queries, keys)
    return queries, keys, max(1, d) ** -0.5


def scaled(q, k, scale):
    return q @ k.mT * scale


def strips(inputs):
    """Rows of queries, each with its place in the scores."""
    q, k, scale = inputs
    for start in range(0, q.shape[2], 4096):
        rows = slice(start, start + 4096)
        yield [q[:, :, rows], k, scale], (slice(None), slice(None), rows)


def necessary(q, k, scale):
    return (q.numel() + k.numel() + q.numel() // q.shape[3] * k.shape[2]) * q.itemsize


def products(q, k, scale):
    return 2 * q.numel() * k.shape[2]


def small_first(q, k, scale):  # a pass over q is cheap, one over the scores is not
    return (q * scale) @ k.mT


def cublas(q, k, scale):
    """The scale in cuBLAS's epilogue; with beta=0 the first argument is not read."""
    q, k = q.flatten(0, 1), k.flatten(0, 1)
    return torch.baddbmm(q.new_empty(()), q, k.mT, beta=0, alpha=scale)


def gems(q, k, scale):
    import flag_gems

    return flag_gems.bmm((q * scale).flatten(0, 1), k.flatten(0, 1).mT)


COSTS = {
    "bytes": necessary, "flops": products,
    "peers": {"torch": small_first, "torch.baddbmm": cublas, "flag_gems": gems},
}

exercise = Exercise(
    entry="scores",
    outputs=("scores",),
    inputs=inputs,
    reference=scaled,
    cases=[
        case(b=2, h=1, q=70, k=70, d=256),  # first, so that it is compiled: the widest tiles have to fit
        case(b=2, h=3, q=130, k=70, d=64), case(b=1, h=1, q=1, k=1, d=1), case(b=1, h=2, q=128, k=64, d=16),
        case(b=1, h=2, q=127, k=63, d=33), case(b=1, h=2, q=129, k=65, d=31), case(b=3, h=1, q=67, k=131, d=61),
        case(b=1, h=2, q=1, k=300, d=128), case(b=1, h=2, q=300, k=1, d=80), case(b=1, h=1, q=65, k=33, d=129),
        case(b=1, h=3, q=257, k=200, d=96, dtype=torch.float16),
        case(b=0, h=2, q=5, k=5, d=16), case(b=2, h=0, q=5, k=5, d=16), case(b=1, h=2, q=0, k=5, d=16),
        case(b=1, h=2, q=5, k=0, d=16), case(b=1, h=2, q=5, k=7, d=0),
        case(b=2, h=3, q=70, k=130, d=32, q_is="heads", k_is="heads"),
        case(b=2, h=3, q=70, k=130, d=32, q_is="packed", k_is="packed", dtype=torch.float16),
        case(b=2, h=3, q=70, k=130, d=32, q_is="heads", k_is="turned"),
        case(b=2, h=3, q=70, k=130, d=24, q_is="turned", k_is="every_other"),
        case(b=2, h=3, q=70, k=130, d=32, k_is="one_head"),
        case(b=2, h=3, q=70, k=130, d=32, q_is="one_batch", k_is="one_batch"),
        # sums of 10**5, past what fp16 holds, until they are scaled
        case(b=1, h=2, q=64, k=64, d=64, dtype=torch.float16, std=80.0),
        case(b=1, h=2, q=70, k=70, d=40, one=torch.nan), case(b=1, h=2, q=70, k=70, d=40, one=torch.inf),
        case(b=1, h=1, q=2**16 + 1, k=2**15, d=16, needs_gb=20, slices=strips),
    ],
    refuses=[
        case(b=2, h=2, q=8, k=8, d=257), *[case(b=2, h=2, q=8, k=8, d=16, wrong=wrong) for wrong in WRONG],
    ],
    # tiles of 128 x 64, each with its own queries, ask for 1.8 times what is necessary
    moves=[
        Moves(case(b=1, h=4, q=512, k=256, d=64), bytes=necessary, slack=1.9, window=Window(programs=4, reuse=1.5)),
    ],
    speed=[
        # every library copies first, as the naive kernel does: held to what they reach where they need not
        Speed(case(b=4, h=32, q=2048, k=2048, d=128), target=0.70, **COSTS),
        # where cuBLAS needs no copy
        Speed(case(b=4, h=32, q=2048, k=2048, d=128, q_is="heads", k_is="heads"),
            target=0.72, naive_fails=False, **COSTS),
    ],
    bugs=[
        Bug("copies q and k before the product", (OUT, "    q, k = q.contiguous(), k.contiguous()\n" + OUT),
            rung="moves"),
        Bug("scales in a second pass", ("tl.dot(q, k) * scale", "tl.dot(q, k)"),
            ("keys), dtype=q.dtype", "keys), dtype=torch.float32"),
            ("    return out\n", "    return (out * scale).to(q.dtype)\n"), rung="moves"),
        Bug("from head to head: neighbours share no keys", (PLACES, FROM_HEAD_TO_HEAD), rung="moves"),
        Bug("tiles for 128, at any width", (TILES, "(128, 64)"), rung="compiles"),
        Bug("strips of 16 queries", (TILES, "(16, 64)"), rung="moves"),
        Bug("scales what was rounded", ("tl.dot(q, k) * scale", "tl.dot(q, k).to(q.dtype) * scale"),
            caught="b=1,h=2,q=64,k=64,d=64,fp16,std=80.0"),
        Bug("forgets the scale", ("tl.dot(q, k) * scale", "tl.dot(q, k)"), caught="b=2,h=3,q=130,k=70,d=64"),
        Bug("takes batches for more heads", ("batch * stride_qb + head * stride_qh",
            "(batch * heads + head) * stride_qh"), caught="b=2,h=3,q=130,k=70,d=64"),
        Bug("takes q for contiguous", ("*q.stride()", "heads * queries * head_dim, queries * head_dim, head_dim, 1"),
            caught="b=2,h=3,q=130,k=70,d=64"),
        Bug("k has the strides of q", ("*k.stride()", "*q.stride()"),
            caught="b=2,h=3,q=70,k=130,d=32,q_is=heads,k_is=turned"),
        Bug("takes heads of k for contiguous", ("*k.stride()", "*k.stride()[:3], 1"),
            caught="b=2,h=3,q=70,k=130,d=32,q_is=heads,k_is=turned"),
        Bug("as many keys as queries", ("head) * queries + rows", "head) * keys + rows"),
            caught="b=2,h=3,q=130,k=70,d=64"),
        Bug("no mask along the head", (Q_MASK, "mask=(rows < queries)[:, None]"),
            (K_MASK, "mask=(columns < keys - start)[None, :]"), caught="b=3,h=1,q=67,k=131,d=61"),
        Bug("leaves out the last keys", ("range(0, keys, TILE_K)", "range(0, keys - TILE_K + 1, TILE_K)"),
            caught="b=2,h=3,q=130,k=70,d=64"),
        Bug("the keys stay at their first tile", ("        k_ptrs += TILE_K * stride_ks\n", ""),
            caught="b=2,h=3,q=130,k=70,d=64"),
        Bug("stores past the keys", (STORE_MASK, "mask=(rows < queries)[:, None]"), caught="b=2,h=3,q=130,k=70,d=64"),
        Bug("leaves out the last queries", (GRID, "batch * heads * max(1, queries // TILE_Q)"),
            caught="b=2,h=3,q=130,k=70,d=64"),
        Bug("blocks of 128, however wide the heads", ("max(16, triton.next_power_of_2(head_dim))", "128"),
            caught="b=2,h=1,q=70,k=70,d=256"),
        Bug("takes any width", ("head_dim > 256", "head_dim > 1024"), caught="b=2,h=2,q=8,k=8,d=257"),
    ],
    variants=[
        Variant("small tiles", (TILES, "(64, 32)")),
        Variant("loads keys as they lie and turns the tile", ("tl.dot(q, k)", "tl.dot(q, tl.trans(k))"),
            ("inner[:, None] * stride_kd + columns[None, :] * stride_ks",
             "columns[:, None] * stride_ks + inner[None, :] * stride_kd"),
            (K_MASK, "mask=(columns < keys - start)[:, None] & (inner < head_dim)[None, :]")),
        Variant("a tile a program", fill={1: """
            tiles = tl.cdiv(keys, TILE_K)
            strip, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
            strips = tl.cdiv(queries, TILE_Q)
            number = (strip // strips).to(tl.int64)
            rows = (strip % strips).to(tl.int64) * TILE_Q + tl.arange(0, TILE_Q)[:, None]
            columns = tile.to(tl.int64) * TILE_K + tl.arange(0, TILE_K)[None, :]
            inner = tl.arange(0, BLOCK_D)
            q = tl.load(q_ptr + number // heads * stride_qb + number % heads * stride_qh + rows * stride_qs
                        + inner[None, :] * stride_qd, mask=(rows < queries) & (inner < head_dim)[None, :], other=0.0)
            k = tl.load(k_ptr + number // heads * stride_kb + number % heads * stride_kh + columns * stride_ks
                        + inner[:, None] * stride_kd, mask=(columns < keys) & (inner < head_dim)[:, None], other=0.0)
            scores_ptrs = scores_ptr + number * queries * keys + rows * keys + columns
            tl.store(scores_ptrs, tl.dot(q, k) * scale, mask=(rows < queries) & (columns < keys))
        """, 2: """
            out = q.new_empty((batch, heads, queries, keys))
            BLOCK_D = max(16, triton.next_power_of_2(head_dim))
            grid = (batch * heads * triton.cdiv(queries, 128) * triton.cdiv(keys, 64),)
            if grid[0]:
                scores_kernel[grid](q, k, out, heads, queries, keys, head_dim, scale, *q.stride(), *k.stride(),
                                    TILE_Q=128, TILE_K=64, BLOCK_D=BLOCK_D, num_warps=4)
            return out
        """}),
        Variant("heads on an axis of the grid, wrapped around", fill={1: """
            batch, head = (tl.program_id(1) // heads).to(tl.int64), (tl.program_id(1) % heads).to(tl.int64)
            rows = tl.program_id(0).to(tl.int64) * TILE_Q + tl.arange(0, TILE_Q)
            inner = tl.arange(0, BLOCK_D)
            q_ptrs = q_ptr + batch * stride_qb + head * stride_qh + (rows % queries)[:, None] * stride_qs
            q = tl.load(q_ptrs + inner[None, :] * stride_qd, mask=inner[None, :] < head_dim, other=0)
            out_ptrs = scores_ptr + (tl.program_id(1).to(tl.int64) * queries + rows)[:, None] * keys
            for start in range(tl.cdiv(keys, TILE_K)):
                columns = start * TILE_K + tl.arange(0, TILE_K)
                k_ptrs = k_ptr + batch * stride_kb + head * stride_kh + (columns % keys)[None, :] * stride_ks
                k = tl.load(k_ptrs + inner[:, None] * stride_kd, mask=inner[:, None] < head_dim, other=0)
                acc = tl.dot(q, k) * scale
                mask = (rows[:, None] < queries) & (columns[None, :] < keys)
                tl.store(out_ptrs + columns[None, :], acc.to(scores_ptr.dtype.element_ty), mask=mask)
        """, 2: """
            out = torch.empty(batch, heads, queries, keys, dtype=q.dtype, device=q.device)
            if out.numel() > 0:
                scores_kernel[triton.cdiv(queries, 64), batch * heads](
                    q, k, out, heads, queries, keys, head_dim, scale, *q.stride(), *k.stride(),
                    TILE_Q=64, TILE_K=32, BLOCK_D=max(16, triton.next_power_of_2(head_dim)),
                )
            return out
        """}),
    ],
)
