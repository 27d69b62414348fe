import torch
from workbook.exercise import Bug, Exercise, Moves, Speed, Variant, Window, case, normal
from workbook.layouts import HEADS

WRONG = {  # calls that make no sense
    "batch": lambda p, v: (p, v[1:]),
    "heads": lambda p, v: (p, v[:, :1]),
    "keys": lambda p, v: (p, v[:, :, 1:]),
    "no batch": lambda p, v: (p[0], v[0]),
    "dtypes": lambda p, v: (p, v.half()),
    "fp32": lambda p, v: (p.float(), v.float()),
}
# what bugs and variants change
PLACES = """    batch = (tl.program_id(0) // strips // heads).to(tl.int64)
    head = (tl.program_id(0) // strips % heads).to(tl.int64)
    rows = (tl.program_id(0) % strips).to(tl.int64) * TILE_Q + tl.arange(0, TILE_Q)
    columns, inner = tl.arange(0, BLOCK_D), tl.arange(0, TILE_K)
"""
FROM_HEAD_TO_HEAD = """    all_heads = tl.num_programs(0) // strips
    batch = (tl.program_id(0) % all_heads // heads).to(tl.int64)
    head = (tl.program_id(0) % all_heads % heads).to(tl.int64)
    rows = (tl.program_id(0) // all_heads).to(tl.int64) * TILE_Q + tl.arange(0, TILE_Q)
    columns, inner = tl.arange(0, BLOCK_D), tl.arange(0, TILE_K)
"""
HALF_A_HEAD = """    halves = tl.cdiv(head_dim, BLOCK_D)
    number = tl.program_id(0) // halves
    batch = (number // strips // heads).to(tl.int64)
    head = (number // strips % heads).to(tl.int64)
    rows = (number % strips).to(tl.int64) * TILE_Q + tl.arange(0, TILE_Q)
    columns, inner = tl.program_id(0) % halves * BLOCK_D + tl.arange(0, BLOCK_D), tl.arange(0, TILE_K)
"""
TILES, GRID = "(128, 64) if BLOCK_D <= 128 else (64, 32)", "batch * heads * triton.cdiv(queries, TILE_Q)"
ALLOCATED = "    out = torch.empty((batch, queries, heads, head_dim), dtype=p.dtype, device=p.device)\n"
OUT_ROWS = "((batch * queries + rows) * heads + head)[:, None]"
P_MASK = "mask=(rows < queries)[:, None] & (inner < keys - start)[None, :]"
V_MASK = "mask=(inner < keys - start)[:, None] & (columns < head_dim)[None, :]"
OUT_MASK = "mask=(rows < queries)[:, None] & (columns < head_dim)[None, :]"


def tensor(b, h, s, d, layout, dtype, std=1.0, mean=0.0):
    return normal(b, h, s, d, dtype=dtype, scale=std, mean=mean, strides=HEADS[layout](h, s, d))


def inputs(b, h, q, k, d, dtype=torch.bfloat16, p_is="heads", v_is="tokens", mean=0.0, one=None, wrong=None):
    """p_is, v_is: where they lie. mean: of the values. one: the value of one element of v. wrong: what does not fit."""
    share = 1 / max(1, k)  # of a key, where all weights of a query add up to 1
    weights, values = tensor(b, h, q, k, p_is, dtype, 0.5 * share, share), tensor(b, h, k, d, v_is, dtype, 1.0, mean)
    if one is not None:
        values[0, -1, -2, 0] = one
    if wrong:
        weights, values = WRONG[wrong](weights, values)
    return weights, values


def weigh(p, v):
    return (p @ v).transpose(1, 2).contiguous()


def strips(inputs):
    """Rows of weights, each with its place in the result."""
    p, v = inputs
    for start in range(0, p.shape[2], 4096):
        rows = slice(start, start + 4096)
        yield [p[:, :, rows], v], (slice(None), rows)


def necessary(p, v):
    return (p.numel() + v.numel() + p.numel() // p.shape[3] * v.shape[3]) * p.itemsize


def products(p, v):
    return 2 * p.numel() * v.shape[3]


def cublas(p, v):  # the heads stay apart, which is a pass less
    return torch.bmm(p.flatten(0, 1), v.flatten(0, 1))


def gems(p, v):
    import flag_gems

    return flag_gems.bmm(p.flatten(0, 1), v.flatten(0, 1))


COSTS = {"bytes": necessary, "flops": products, "peers": {"torch": weigh, "torch.bmm": cublas, "flag_gems": gems}}

exercise = Exercise(
    entry="weighted_values",
    outputs=("out",),
    inputs=inputs,
    reference=weigh,
    cases=[
        case(b=2, h=1, q=70, k=70, d=256),  # first, so that it is compiled: the widest tiles have to fit
        case(b=2, h=3, q=130, k=70, d=64), case(b=1, h=1, q=1, k=1, d=1), case(b=1, h=2, q=128, k=64, d=16),
        case(b=1, h=2, q=127, k=63, d=33), case(b=1, h=2, q=129, k=65, d=31), case(b=3, h=1, q=67, k=131, d=61),
        case(b=1, h=2, q=1, k=300, d=128), case(b=1, h=2, q=300, k=1, d=80), case(b=1, h=1, q=65, k=33, d=129),
        case(b=1, h=3, q=257, k=200, d=96, dtype=torch.float16),
        case(b=0, h=2, q=5, k=5, d=16), case(b=2, h=0, q=5, k=5, d=16), case(b=1, h=2, q=0, k=5, d=16),
        case(b=1, h=2, q=5, k=0, d=16), case(b=1, h=2, q=5, k=7, d=0),
        case(b=2, h=3, q=70, k=130, d=32, v_is="heads"),
        case(b=2, h=3, q=70, k=130, d=32, p_is="padded", v_is="packed", dtype=torch.float16),
        case(b=2, h=3, q=70, k=130, d=32, p_is="turned", v_is="turned"),
        case(b=2, h=3, q=70, k=130, d=24, p_is="tokens", v_is="every_other"),
        case(b=2, h=3, q=70, k=130, d=32, v_is="one_head"),
        case(b=2, h=3, q=70, k=130, d=32, p_is="one_head", v_is="one_batch"),
        # in bf16 the sum would stop growing
        case(b=1, h=1, q=16, k=2001, d=16, mean=4.0),
        case(b=1, h=2, q=70, k=70, d=40, one=torch.nan), case(b=1, h=2, q=70, k=70, d=40, one=torch.inf),
        case(b=1, h=1, q=2**16 + 1, k=2**15, d=16, needs_gb=20, slices=strips),
    ],
    refuses=[
        case(b=2, h=2, q=8, k=8, d=257), *[case(b=2, h=2, q=8, k=8, d=16, wrong=wrong) for wrong in WRONG],
    ],
    # strips of 64 queries ask for 1.6 times what is necessary
    moves=[
        Moves(case(b=1, h=4, q=512, k=256, d=64), bytes=necessary, slack=1.75, window=Window(programs=4, reuse=1.2)),
    ],
    speed=[
        Speed(case(b=4, h=32, q=2048, k=2048, d=128), target=0.82, **COSTS),
        # where cuBLAS needs no copy of the values
        Speed(case(b=4, h=32, q=2048, k=2048, d=128, v_is="heads"), target=0.82, **COSTS),
    ],
    bugs=[
        Bug("p in fp32, in memory", (ALLOCATED, ALLOCATED + "    p = p.float()\n"),
            ("tl.dot(p, v, acc)", "tl.dot(p.to(v.dtype), v, acc)"), rung="moves"),
        Bug("half a head a program: p is read twice", (PLACES, HALF_A_HEAD),
            (GRID, GRID + " * triton.cdiv(head_dim, BLOCK_D)"),
            ("max(16, triton.next_power_of_2(head_dim))", "max(16, triton.next_power_of_2(head_dim) // 2)"),
            rung="moves"),
        Bug("torch lays the heads side by side", (ALLOCATED, ALLOCATED.replace("queries, heads", "heads, queries")),
            (OUT_ROWS, "((batch * heads + head) * queries + rows)[:, None]"),
            ("    return out\n", "    return out.transpose(1, 2).contiguous()\n"), rung="moves"),
        Bug("copies v before the product", (ALLOCATED, ALLOCATED + "    v = v.contiguous()\n"), rung="moves"),
        Bug("from head to head: neighbours share no values", (PLACES, FROM_HEAD_TO_HEAD), rung="moves"),
        Bug("strips of 16 queries", (TILES, "(16, 64)"), rung="moves"),
        Bug("returns a view, not a new layout", (ALLOCATED, ALLOCATED.replace("queries, heads", "heads, queries")),
            (OUT_ROWS, "((batch * heads + head) * queries + rows)[:, None]"),
            ("    return out\n", "    return out.transpose(1, 2)\n"), caught="b=2,h=3,q=130,k=70,d=64"),
        Bug("heads and queries swapped in the result", (OUT_ROWS, "((batch * heads + head) * queries + rows)[:, None]"),
            caught="b=2,h=3,q=130,k=70,d=64"),
        Bug("the sum is kept in bf16", ("tl.dot(p, v, acc)", "tl.dot(p, v, acc).to(tl.bfloat16).to(tl.float32)"),
            caught="b=1,h=1,q=16,k=2001,d=16,mean=4.0"),
        Bug("takes v for contiguous", ("*v.stride()", "heads * keys * head_dim, keys * head_dim, head_dim, 1"),
            caught="b=2,h=3,q=130,k=70,d=64"),
        Bug("takes rows of p to be adjacent", ("*p.stride()", "*p.stride()[:2], keys, 1"),
            caught="b=2,h=3,q=70,k=130,d=32,p_is=padded,v_is=packed,fp16"),
        Bug("takes batches for more heads", ("batch * stride_vb + head * stride_vh",
            "(batch * heads + head) * stride_vh"), caught="b=2,h=3,q=130,k=70,d=64"),
        Bug("no mask along the keys", (P_MASK, "mask=(rows < queries)[:, None]"),
            (V_MASK, "mask=(columns < head_dim)[None, :]"), caught="b=2,h=3,q=130,k=70,d=64"),
        Bug("leaves out the last keys", ("range(0, keys, TILE_K)", "range(0, keys - TILE_K + 1, TILE_K)"),
            caught="b=2,h=3,q=130,k=70,d=64"),
        Bug("the values stay at their first tile", ("        v_ptrs += TILE_K * stride_vs\n", ""),
            caught="b=2,h=3,q=130,k=70,d=64"),
        Bug("stores past the head", (OUT_MASK, "mask=(rows < queries)[:, None]"), caught="b=3,h=1,q=67,k=131,d=61"),
        Bug("leaves out the last queries", (GRID, "batch * heads * max(1, queries // TILE_Q)"),
            caught="b=2,h=3,q=130,k=70,d=64"),
        Bug("blocks of 128, however wide the heads", ("max(16, triton.next_power_of_2(head_dim))", "128"),
            caught="b=2,h=1,q=70,k=70,d=256"),
        Bug("takes any width", ("head_dim > 256", "head_dim > 1024"), caught="b=2,h=2,q=8,k=8,d=257"),
    ],
    variants=[
        Variant("small tiles", (TILES, "(64, 32)")),
        Variant("loads the weights turned, and turns them back", ("tl.dot(p, v, acc)", "tl.dot(tl.trans(p), v, acc)"),
            ("rows[:, None] * stride_pq + inner[None, :] * stride_pk",
             "inner[:, None] * stride_pk + rows[None, :] * stride_pq"),
            (P_MASK, "mask=(inner < keys - start)[:, None] & (rows < queries)[None, :]")),
        Variant("the product turned: vᵀ pᵀ", fill={1: """
            strips = tl.cdiv(queries, TILE_Q)
            number = (tl.program_id(0) // strips).to(tl.int64)
            rows = (tl.program_id(0) % strips * TILE_Q + tl.arange(0, TILE_Q)).to(tl.int64)[None, :]
            columns = tl.arange(0, BLOCK_D)[:, None]
            acc = tl.zeros((BLOCK_D, TILE_Q), tl.float32)
            for start in range(0, keys, TILE_K):
                inner = start + tl.arange(0, TILE_K)
                p = tl.load(p_ptr + number // heads * stride_pb + number % heads * stride_ph + rows * stride_pq
                            + inner[:, None] * stride_pk, mask=(inner[:, None] < keys) & (rows < queries), other=0)
                v = tl.load(v_ptr + number // heads * stride_vb + number % heads * stride_vh
                            + inner[None, :] * stride_vs + columns * stride_vd,
                            mask=(inner[None, :] < keys) & (columns < head_dim), other=0)
                acc += tl.dot(v, p)
            place = (number // heads * queries + rows) * heads * head_dim + number % heads * head_dim + columns
            tl.store(out_ptr + place, acc, mask=(rows < queries) & (columns < head_dim))
        """}),
        Variant("heads on an axis of the grid, wrapped around", fill={1: """
            batch, head = (tl.program_id(1) // heads).to(tl.int64), (tl.program_id(1) % heads).to(tl.int64)
            rows = tl.program_id(0).to(tl.int64) * TILE_Q + tl.arange(0, TILE_Q)
            columns = tl.arange(0, BLOCK_D)
            p_ptrs = p_ptr + batch * stride_pb + head * stride_ph + (rows % queries)[:, None] * stride_pq
            v_ptrs = v_ptr + batch * stride_vb + head * stride_vh + (columns % head_dim)[None, :] * stride_vd
            acc = tl.zeros((TILE_Q, BLOCK_D), tl.float32)
            for step in range(tl.cdiv(keys, TILE_K)):
                inner = step * TILE_K + tl.arange(0, TILE_K)
                p = tl.load(p_ptrs + inner[None, :] * stride_pk, mask=inner[None, :] < keys, other=0)
                acc += tl.dot(p, tl.load(v_ptrs + inner[:, None] * stride_vs, mask=inner[:, None] < keys, other=0))
            out_ptrs = out_ptr + batch * queries * heads * head_dim + head * head_dim
            out_ptrs += rows[:, None] * heads * head_dim + columns[None, :]
            mask = (rows[:, None] < queries) & (columns[None, :] < head_dim)
            tl.store(out_ptrs, acc.to(out_ptr.dtype.element_ty), mask=mask)
        """, 2: """
            out = p.new_empty(batch, queries, heads, head_dim)
            if out.numel() > 0:
                weighted_values_kernel[triton.cdiv(queries, 64), batch * heads](
                    p, v, out, heads, queries, keys, head_dim, *p.stride(), *v.stride(),
                    TILE_Q=64, TILE_K=32, BLOCK_D=max(16, triton.next_power_of_2(head_dim)), num_warps=4,
                )
            return out
        """}),
    ],
)
