import torch
from workbook.exercise import Bug, Entry, Exercise, Moves, Speed, Variant, case, gradients, normal
from workbook.layouts import HEADS

WRONG = {  # calls that make no sense; of dout, q, k, v, p, out
    "no heads": lambda do, q, k, v, p, o: [t[:, 0] for t in (do, q, k, v, p, o)],
    "heads of k": lambda do, q, k, v, p, o: (do, q, k[:, :1], v[:, :1], p, o),
    "keys of v": lambda do, q, k, v, p, o: (do, q, k, v[:, :, 1:], p, o),
    "queries of dout": lambda do, q, k, v, p, o: (do[:, :, 1:], q, k, v, p, o),
    "keys of p": lambda do, q, k, v, p, o: (do, q, k, v, p[..., 1:], o),
    "p turned": lambda do, q, k, v, p, o: (do, q, k, v, p.mT.contiguous().mT, o),
    "dtypes": lambda do, q, k, v, p, o: (do.float(), q, k, v, p, o),
    "fp32": lambda do, q, k, v, p, o: [t.float() for t in (do, q, k, v, p, o)],
}


def tensors(b, h, q, k, d, causal=True, pad=0, dtype=torch.bfloat16, dout="tokens", layout="tokens", std=1.0, dstd=1.0):
    """dout, q, k, v, lengths, scale, causal. dout, layout: where it lies, where the others lie. pad: see 3.2b."""
    place = HEADS[layout]
    upstream = normal(b, h, q, d, dtype=dtype, scale=dstd, strides=HEADS[dout](h, q, d))
    queries = normal(b, h, q, d, dtype=dtype, scale=std, strides=place(h, q, d))
    keys, values = (normal(b, h, k, d, dtype=dtype, scale=std, strides=place(h, k, d)) for _ in range(2))
    lengths = torch.full((b,), k, dtype=torch.int32) - pad * torch.arange(b, dtype=torch.int32)
    return upstream, queries, keys, values, lengths, max(1, d) ** -0.5, causal


def weights(q, k, lengths, scale, causal):
    queries, keys = q.shape[2], k.shape[2]
    columns = torch.arange(keys, device=q.device)
    seen = lengths[:, None, None, None]
    if causal:
        seen = torch.minimum(seen, torch.arange(queries, device=q.device)[:, None] + 1 + keys - queries)
    return torch.ops.aten._safe_softmax((scale * q @ k.mT).masked_fill(columns >= seen, -torch.inf), -1)


def stored(wrong=None, **sizes):
    """What a forward pass has left."""
    dout, q, k, v, lengths, scale, causal = tensors(**sizes)
    p = weights(q.float(), k.float(), lengths, scale, causal).to(q.dtype)
    out = p.float() @ v.float()
    given = [dout, q, k, v, p, out.to(q.dtype)]
    return *(WRONG[wrong](*given) if wrong else given), scale, causal


def block_by_block(dout, q, k, v, p, out, scale, causal):
    """From p and out as they were stored: where dp and delta nearly cancel, their rounding is most of what is left."""
    dp, dv = gradients(lambda p, v: p @ v, [p, v], dout)
    ds = p * (dp - (dout * out).sum(-1, keepdim=True))
    dq, dk = gradients(lambda q, k: scale * q @ k.mT, [q, k], ds)
    return dq, dk, dv


def through_attention(dout, q, k, v, lengths, scale, causal):
    return gradients(lambda q, k, v: weights(q, k, lengths, scale, causal) @ v, [q, k, v], dout)


def heads_apart(inputs):
    *tensors, scale, causal = inputs
    for head in range(tensors[0].shape[1]):
        place = slice(None), slice(head, head + 1)
        yield [*(t[place] for t in tensors), scale, causal], place


def in_torch(dout, q, k, v, p, out, scale, causal):
    dp = dout @ v.mT
    ds = torch._softmax_backward_data(dp, p, -1, p.dtype)
    return ds @ k * scale, ds.mT @ q * scale, p.mT @ dout


def seen(p, causal):
    queries, keys = p.shape[2:]
    if not causal:
        return p.numel()
    return p.shape[0] * p.shape[1] * sum(min(max(i + 1 + keys - queries, 0), keys) for i in range(queries))


def necessary(dout, q, k, v, p, out, scale, causal):
    """The weights that are seen; dout, q and out read, and dq written; k and v read, and dk and dv written."""
    return (seen(p, causal) + 4 * q.numel() + 4 * k.numel()) * q.itemsize


def two_passes(dout, q, k, v, p, out, scale, causal):
    """The weights twice, and delta, written and read."""
    return necessary(dout, q, k, v, p, out, scale, causal) + seen(p, causal) * p.itemsize + 2 * 4 * q[..., 0].numel()


def deltas(dout, q, k, v, p, out, scale, causal):
    return 4 * q[..., 0].numel()


def products(dout, q, k, v, p, out, scale, causal):
    return 4 * 2 * seen(p, causal) * q.shape[3]  # dv, dp, dq, dk


# what bugs and variants change
DELTA = "    delta = tl.sum(dout.to(tl.float32) * out.to(tl.float32), 1)\n"
LAST = "tl.minimum(keys, first + TILE_Q + keys - queries) if CAUSAL else keys"
FIRST = "tl.maximum(0, first - (keys - queries)) // TILE_Q * TILE_Q if CAUSAL else 0"
DS_OF_QUERIES = "p.to(tl.float32) * (tl.dot(dout, tl.trans(v)) - delta[:, None])"
DS_OF_KEYS = "p.to(tl.float32) * (tl.dot(v, tl.trans(dout)) - delta[None, :])"
TURNED_P = "rows[None, :] * keys + columns[:, None]"
TURNED_MASK = "(columns < keys - first)[:, None] & (rows < queries - start)[None, :]"
STRIDES_Q = "dout.stride(), k.stride(), v.stride(), out.stride(), *sizes"
STRIDES_K = "dout.stride(), q.stride(), v.stride(), *sizes"
TILE = "TILE, BLOCK_D = 64,"
LAUNCH = "    if q.numel() > 0:\n        queries_kernel["
KERNEL = "@triton.jit\ndef queries_kernel("
DELTA_KERNEL = """@triton.jit
def delta_kernel(
    dout_ptr, out_ptr, delta_ptr, dout_strides, out_strides, heads, queries, head_dim, BLOCK_D: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    batch, head, query = row // (heads * queries), row // queries % heads, row % queries
    inner = tl.arange(0, BLOCK_D)
    dout_ptr += batch * dout_strides[0] + head * dout_strides[1] + query * dout_strides[2]
    out_ptr += batch * out_strides[0] + head * out_strides[1] + query * out_strides[2]
    dout = tl.load(dout_ptr + inner * dout_strides[3], mask=inner < head_dim, other=0.0).to(tl.float32)
    out = tl.load(out_ptr + inner * out_strides[3], mask=inner < head_dim, other=0.0).to(tl.float32)
    tl.store(delta_ptr + row, tl.sum(dout * out, 0))


"""
RETURN = "    return dq, dk, dv\n"
KEYS_IN_TORCH = """    if q.numel() and k.numel():
        ds = (p * (dout.float() @ v.float().mT - delta[..., None])).to(q.dtype)
        dk, dv = ds.mT @ q * scale, p.mT @ dout
"""
JACOBIAN_IN_TORCH = """    if q.numel() and k.numel():
        weights, dp = p.float(), dout.float() @ v.float().mT
        jacobian = torch.diag_embed(weights) - weights[..., None] * weights[..., None, :]
        ds = (jacobian @ dp[..., None])[..., 0]
        ds += weights * ((weights * dp).sum(-1) - delta)[..., None]  # delta as it is asked, from the rounded out
        dk = (ds.mT @ q.float() * scale).to(q.dtype)
"""

COSTS = {"bytes": necessary, "flops": products, "peers": {"torch": in_torch, "torch.compile": in_torch}}
LAYER = "gradients_of_attention"

exercise = Exercise(
    entry="attention_backward",
    outputs=("dq", "dk", "dv"),
    inputs=stored,
    reference=block_by_block,
    also={LAYER: Entry(inputs=tensors, reference=through_attention, outputs=("dq", "dk", "dv"))},
    deterministic=True,
    # the library's floor is for one rounding to 16 bits: here p, out, ds and the result are rounded, one after another
    tolerance={torch.bfloat16: 1e-2, torch.float16: 1.25e-3},
    cases=[
        case(b=1, h=1, q=130, k=70, d=128),  # first, so that it is compiled: the widest tiles have to fit
        case(b=2, h=2, q=37, k=53, d=16, pad=9), case(b=1, h=1, q=1, k=1, d=1),
        case(b=1, h=1, q=6, k=10, d=8, causal=False),  # small enough for finite differences
        case(b=1, h=1, q=128, k=128, d=32), case(b=1, h=1, q=127, k=129, d=31), case(b=1, h=1, q=129, k=257, d=33),
        case(b=2, h=3, q=67, k=131, d=61, causal=False), case(b=1, h=2, q=1, k=150, d=64),
        case(b=1, h=2, q=150, k=20, d=80, dtype=torch.float16), case(b=2, h=1, q=65, k=65, d=96, dtype=torch.float16),
        case(b=3, h=1, q=40, k=40, d=32, pad=20, causal=False),  # sequences of 40, 20 and 0 keys
        case(b=0, h=2, q=5, k=5, d=16), case(b=2, h=0, q=5, k=5, d=16), case(b=1, h=2, q=0, k=5, d=16),
        case(b=1, h=2, q=5, k=0, d=16), case(b=1, h=2, q=5, k=7, d=0),
        case(b=2, h=3, q=70, k=90, d=32, dout="heads", layout="packed"),
        case(b=2, h=3, q=70, k=90, d=32, dout="turned", layout="turned", dtype=torch.float16),
        case(b=2, h=3, q=70, k=90, d=32, dout="same", layout="one_head"),
        # scores of some tens, so that few keys have all the weight; gradients of thousands
        case(b=1, h=2, q=70, k=70, d=64, std=3.0), case(b=1, h=2, q=70, k=70, d=64, dstd=1e3, dtype=torch.float16),
        case(entry=LAYER, b=1, h=1, q=6, k=10, d=8, causal=False, std=0.5),
        case(entry=LAYER, b=2, h=2, q=20, k=70, d=32, std=0.5, pad=9),
        case(entry=LAYER, b=2, h=2, q=20, k=70, d=32, std=0.5, pad=9, dtype=torch.float16, layout="packed"),
        case(entry=LAYER, b=2, h=1, q=20, k=70, d=32, std=0.5, pad=70, causal=False, dout="same"),
        case(b=1, h=33, q=2**13, k=2**13, d=16, needs_gb=60, slices=heads_apart),
    ],
    refuses=[
        case(b=2, h=2, q=8, k=8, d=129), *[case(b=2, h=2, q=8, k=8, d=16, wrong=wrong) for wrong in WRONG],
    ],
    moves=[
        # each strip of 64 or more loads again what it walks along, and on the diagonal whole tiles
        Moves(case(b=1, h=1, q=512, k=512, d=16), bytes=two_passes, slack=2.0, launches=3, memory=deltas),
    ],
    speed=[
        Speed(case(b=4, h=32, q=2048, k=2048, d=128), target=0.10, **COSTS),
        Speed(case(b=4, h=32, q=2048, k=2048, d=128, causal=False), target=0.20, **COSTS),
    ],
    bugs=[
        Bug("dp and ds in memory", (RETURN, KEYS_IN_TORCH + RETURN), rung="moves"),
        Bug("the Jacobian of each row in memory", (RETURN, JACOBIAN_IN_TORCH + RETURN), rung="moves"),
        Bug("loads all keys, whatever is seen", (LAST, "keys"), (FIRST, "0"), rung="moves"),
        Bug("tiles of 16", (TILE, "TILE, BLOCK_D = 16,"), ("TILE // 2", "TILE"), rung="moves"),
        Bug("no delta", (DELTA, DELTA.replace("tl.sum(", "0.0 * tl.sum(")), caught="b=2,h=2,q=37,k=53,d=16,pad=9"),
        Bug("delta is added", ("tl.trans(v)) - delta", "tl.trans(v)) + delta"), caught="b=2,h=2,q=37,k=53,d=16,pad=9"),
        Bug("delta from dout alone", (DELTA, "    delta = tl.sum(dout.to(tl.float32), 1)\n"),
            caught="b=2,h=2,q=37,k=53,d=16,pad=9"),
        Bug("delta of the first tile for all", ("delta_ptr + number * queries + start + rows",
            "delta_ptr + number * queries + rows"), caught="b=1,h=1,q=130,k=70,d=128"),
        Bug("a softmax that is element by element: p * (1 - p)",
            (DS_OF_QUERIES, "p.to(tl.float32) * (1 - p.to(tl.float32)) * tl.dot(dout, tl.trans(v))"),
            caught="b=2,h=2,q=37,k=53,d=16,pad=9"),
        Bug("ds without p", (DS_OF_KEYS, "tl.dot(v, tl.trans(dout)) - delta[None, :]"),
            caught="b=2,h=2,q=37,k=53,d=16,pad=9"),
        Bug("dq is not scaled", ("dq * scale", "dq"), caught="b=2,h=2,q=37,k=53,d=16,pad=9"),
        Bug("dk is not scaled", ("dk * scale", "dk"), caught="b=2,h=2,q=37,k=53,d=16,pad=9"),
        Bug("dv is scaled", ("offsets, dv,", "offsets, dv * scale,"), caught="b=2,h=2,q=37,k=53,d=16,pad=9"),
        Bug("dk from dout, not from q", ("ds.to(q.dtype), q, dk", "ds.to(q.dtype), dout, dk"),
            caught="b=2,h=2,q=37,k=53,d=16,pad=9"),
        Bug("p is not turned", (TURNED_P, "columns[:, None] * keys + rows[None, :]"),
            caught="b=1,h=1,q=128,k=128,d=32"),
        Bug("begins below the diagonal", (FIRST, FIRST.replace("first - (", "first + TILE_K - (")),
            caught="b=1,h=1,q=128,k=128,d=32"),
        Bug("aligns the mask at the first query: keys", (LAST, LAST.replace(" + keys - queries", "")),
            caught="b=1,h=1,q=129,k=257,d=33"),
        Bug("aligns the mask at the first query: queries", (FIRST, FIRST.replace("first - (keys - queries)", "first")),
            caught="b=1,h=1,q=129,k=257,d=33"),
        Bug("causal, asked or not", (LAST, LAST.replace(" if CAUSAL else keys", "")),
            caught="b=2,h=3,q=67,k=131,d=61,causal=False"),
        Bug("as many keys as queries", ("(number * queries + first) * keys + rows[:, None] * keys",
            "(number * queries + first) * queries + rows[:, None] * queries"), caught="b=2,h=2,q=37,k=53,d=16,pad=9"),
        Bug("no mask along the queries", (TURNED_MASK, "(columns < keys - first)[:, None]"),
            caught="b=1,h=1,q=130,k=70,d=128"),
        Bug("takes dout for contiguous", (STRIDES_K, STRIDES_K.replace(
            "dout.stride()", "(heads * queries * head_dim, queries * head_dim, head_dim, 1)")),
            caught="b=2,h=3,q=70,k=90,d=32,dout=same,layout=one_head"),
        Bug("out lies as dout does", (STRIDES_Q, STRIDES_Q.replace("out.stride(), *", "dout.stride(), *").replace(
            "ddout", "dout")), caught="b=2,h=3,q=70,k=90,d=32,dout=same,layout=one_head"),
        Bug("takes batches for more heads", ("batch * strides[0] + head * strides[1]",
            "(batch + head) * strides[1]"), caught="b=2,h=2,q=37,k=53,d=16,pad=9"),
        Bug("any width", ("head_dim > 128", "head_dim > 256"), caught="b=2,h=2,q=8,k=8,d=129"),
        Bug("any strides of p", ("not p.is_contiguous()", "p.dim() != 4"),
            caught="b=2,h=2,q=8,k=8,d=16,wrong=p turned"),
        Bug("the layer saves p for q", ("save_for_backward(q, k, v, p, out)", "save_for_backward(k, q, v, p, out)"),
            caught="gradients_of_attention,b=1,h=1,q=6,k=10,d=8,causal=False,std=0.5"),
        Bug("the layer forgets that it is causal", ("*ctx.saved_tensors, ctx.scale, ctx.causal",
            "*ctx.saved_tensors, 1.0, ctx.causal"),
            caught="gradients_of_attention,b=1,h=1,q=6,k=10,d=8,causal=False,std=0.5"),
    ],
    variants=[
        Variant("small tiles", (TILE, "TILE, BLOCK_D = 32,")),
        Variant("p as it lies, turned by tl.trans", (TURNED_P, "rows[:, None] * keys + columns[None, :]"),
            (TURNED_MASK, "(rows < queries - start)[:, None] & (columns < keys - first)[None, :]"),
            ("tl.dot(p, dout, dv)", "tl.dot(tl.trans(p), dout, dv)"),
            (DS_OF_KEYS, "p.to(tl.float32) * (tl.dot(dout, tl.trans(v)) - delta[:, None])"),
            ("tl.dot(ds.to(q.dtype), q, dk)", "tl.dot(tl.trans(ds.to(q.dtype)), q, dk)")),
        Variant("scales ds, not the result", ("ds.to(k.dtype)", "(ds * scale).to(k.dtype)"), ("dq * scale", "dq"),
            ("ds.to(q.dtype)", "(ds * scale).to(q.dtype)"), ("dk * scale", "dk")),
        Variant("delta by a kernel of its own", (KERNEL, DELTA_KERNEL + KERNEL),
            (DELTA, "    delta = tl.load(delta_ptr + number * queries + first + rows, "
             "mask=rows < queries - first, other=0.0)\n"),
            ("    tl.store(delta_ptr + number * queries + first + rows, delta, mask=rows < queries - first)\n", ""),
            (LAUNCH, LAUNCH.replace("        q", """        delta_kernel[(batch * heads * queries,)](
            dout, out, delta, dout.stride(), out.stride(), heads, queries, head_dim, BLOCK_D
        )
        q"""))),
    ],
)
