import torch
from workbook.attention import WRONG, cudnn, groups, heads_apart, left, seen, tensors, through_attention, weights
from workbook.exercise import Bug, Entry, Exercise, Moves, Speed, Variant, case, gradients


def from_lse(dout, q, k, v, out, lse, scale, causal):
    """One head of k after the other, from out and lse as they were handed in."""
    dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    for own, its in groups(q, k):
        p = torch.where(seen(q, k, causal), (scale * q[its] @ k[own].mT - lse[its][..., None]).exp(), 0.0).to(q.dtype)
        dp, dv[own] = gradients(lambda p, v: p @ v, [p, v[own]], dout[its])
        ds = p * (dp - (dout[its] * out[its]).sum(-1, keepdim=True))
        dq[its], dk[own] = gradients(lambda q, k: scale * q @ k.mT, [q[its], k[own]], ds)
    return dq.contiguous(), dk.contiguous(), dv.contiguous()


def in_torch(dout, q, k, v, out, lse, scale, causal):
    p = torch.exp(scale * (q @ k.mT).float() - lse[..., None])
    if causal:
        p = p.masked_fill(~seen(q, k, causal), 0.0)
    ds = (p * (dout @ v.mT - (dout.float() * out).sum(-1, keepdim=True))).to(q.dtype)
    return ds @ k * scale, ds.mT @ q * scale, p.to(q.dtype).mT @ dout


def flash(dout, q, k, v, out, lse, scale, causal):
    none = torch.zeros((), dtype=torch.int64, device=q.device)
    backward = torch.ops.aten._scaled_dot_product_flash_attention_backward
    tokens = q.shape[2], k.shape[2]
    return backward(dout, q, k, v, out, lse, None, None, *tokens, 0.0, causal, none, none, scale=scale)


def necessary(dout, q, k, v, out, lse, scale, causal):
    """dout, q and out read and dq written; k and v read and dk and dv written; lse read."""
    return (4 * q.numel() + 4 * k.numel()) * q.itemsize + lse.nbytes


def walks(dout, q, k, v, out, lse, scale, causal):
    """Each strip of 64 keys loads dout, q, lse and delta, each strip of 64 queries k and v, as far as they are seen."""
    pairs = weights(q, k, causal) // 64
    again = 4 * pairs * q.shape[3] * q.itemsize + 2 * 4 * pairs
    return necessary(dout, q, k, v, out, lse, scale, causal) + 2 * lse.nbytes + again


def deltas(dout, q, k, v, out, lse, scale, causal):
    return lse.nbytes


def products(dout, q, k, v, out, lse, scale, causal):
    return 5 * 2 * weights(q, k, causal) * q.shape[3]  # scores, dv, dp, dq, dk


# what bugs and variants change
SOME = "tl.maximum(0, first + queries - keys) // TILE_Q * TILE_Q if CAUSAL else 0"
WHOLE = "tl.cdiv(tl.maximum(0, first + TILE_K - 1 + queries - keys), TILE_Q) * TILE_Q if CAUSAL else 0"
END = "tl.minimum(keys, first + TILE_Q + keys - queries) if CAUSAL else keys"
P = "tl.exp2(tl.dot(k_tile, q_tile.T) * (scale * LOG2E) - lse_row[None, :])"
DS = "p * (tl.dot(v_tile, dout_tile.T) - delta_row[None, :])"
MEMBERS = "for member in range(group):"
TENSORS = "tensors = (dout, q, k, v, out)"
RETURN = "    return dq, dk, dv\n"
STORED = """    if dq.numel() and dk.numel():
        all_k, all_v = (t.float().repeat_interleave(heads // t.shape[1], 1) for t in (k, v))
        p = torch.exp(scale * q.float() @ all_k.mT - lse[..., None])
        if causal:
            p.masked_fill_(torch.ones_like(p[0, 0], dtype=torch.bool).triu(1 + keys - queries), 0.0)
        ds = p * (dout.float() @ all_v.mT - delta[..., None])
        each = (ds.mT @ q.float() * scale, p.mT @ dout.float())
        dk, dv = (t.unflatten(1, (kv_heads, -1)).sum(2).to(q.dtype) for t in each)
"""
SIGNATURE = "dout, q, k, v, lse, delta, dk_ptr, dv_ptr, dout_strides"
DK = "                dk = tl.dot(ds.to(q_tile.dtype), q_tile, dk)\n"
ATOMIC = """                ds = tl.where((first + columns < keys)[:, None], ds, 0.0)
                dq = tl.dot(tl.trans(ds.to(q_tile.dtype)), k_tile) * scale
                row = (batch.to(tl.int64) * heads * group + q_head) * queries + start
                dq_ptrs = dq_ptr + (row + rows)[:, None] * HEAD_DIM + inner[None, :]
                tl.atomic_add(dq_ptrs, dq, mask=(rows < queries - start)[:, None] & (inner < HEAD_DIM)[None, :])
"""
WHOLE_KEYS = "(tl.maximum(0, first + 1 + keys - queries) if CAUSAL else keys) // TILE_K * TILE_K"
REPEATED = """    shared = q.shape[1] // max(1, k.shape[1])
    k, v = (t.repeat_interleave(shared, 1) for t in (k, v))
"""
ADDED = "    dk, dv = (t.unflatten(1, (-1, max(1, shared))).sum(2) for t in (dk, dv))\n"
COSTS = {"bytes": necessary, "flops": products,
         "peers": {"cuDNN": cudnn, "FlashAttention 2": flash, "torch": in_torch, "torch.compile": in_torch}}
TIMED = {"b": 4, "h": 32, "q": 4096, "k": 4096, "dout": "heads", "layout": "heads"}
LAYER = "gradients_of_attention"
SMALL, GROUPED = f"{LAYER},b=1,h=1,q=6,k=9,d=8,causal=False,std=0.5", "b=2,h=4,q=37,k=53,d=16,kv=2"

exercise = Exercise(
    entry="attention_backward",
    outputs=("dq", "dk", "dv"),
    inputs=left,
    reference=from_lse,
    also={LAYER: Entry(inputs=tensors, reference=through_attention, outputs=("dq", "dk", "dv"))},
    deterministic=True,
    provisional=True,
    # the library's floor is for one rounding to 16 bits: here p, ds and the result are rounded, one after the other
    tolerance={torch.bfloat16: 1e-2, torch.float16: 1.25e-3},
    cases=[
        case(b=1, h=1, q=152, k=70, d=128),  # first, so that it is compiled: the widest tiles have to fit
        case(b=2, h=4, q=37, k=53, d=16, kv=2), case(b=1, h=1, q=1, k=1, d=1),
        case(b=1, h=1, q=5, k=7, d=8, causal=False), case(b=1, h=2, q=3, k=5, d=8, kv=1),  # for finite differences
        case(b=1, h=1, q=256, k=256, d=128), case(b=1, h=2, q=128, k=256, d=64, kv=1, causal=False),
        case(b=1, h=1, q=127, k=129, d=31), case(b=1, h=1, q=129, k=257, d=33, dtype=torch.float16),
        case(b=1, h=3, q=67, k=131, d=61, causal=False), case(b=1, h=6, q=1, k=150, d=64, kv=2),
        case(b=1, h=2, q=65, k=65, d=96, dtype=torch.float16), case(b=1, h=2, q=65, k=66, d=80, kv=1),
        case(b=0, h=2, q=5, k=5, d=16), case(b=2, h=0, q=5, k=5, d=16), case(b=1, h=2, q=0, k=5, d=16),
        case(b=1, h=2, q=5, k=0, d=16),
        case(b=2, h=2, q=70, k=90, d=32, dout="heads", layout="packed"),
        case(b=2, h=2, q=70, k=90, d=32, dout="turned", layout="every_other", dtype=torch.float16),
        case(b=2, h=2, q=72, k=90, d=32, dout="same", layout="one_head"),
        # scores of some tens, so that few keys have all the weight; gradients of thousands; scores near 128 and -128
        case(b=1, h=1, q=70, k=70, d=64, std=3.0), case(b=1, h=1, q=70, k=70, d=64, dstd=1e3, dtype=torch.float16),
        case(b=1, h=1, q=70, k=70, d=64, far=1024), case(b=1, h=1, q=70, k=70, d=64, causal=False, far=-1024),
        case(entry=LAYER, b=1, h=1, q=6, k=9, d=8, causal=False, std=0.5),
        case(entry=LAYER, b=2, h=4, q=20, k=70, d=32, kv=2, std=0.5),
        case(entry=LAYER, b=1, h=2, q=20, k=70, d=32, dtype=torch.float16, dout="same", layout="packed", std=0.5),
        # a GPU alone has these: many programs on whole tiles, and more than 2^31 elements
        case(b=2, h=16, q=2048, k=2048, d=128, kv=4, needs_gb=8), case(b=2, h=16, q=2048, k=2048, d=64, needs_gb=8),
        case(b=2, h=16, q=2048, k=2048, d=128, causal=False, dtype=torch.float16, needs_gb=8),
        case(b=1, h=33, q=2**22, k=8, d=16, causal=False, needs_gb=64, slices=heads_apart),
        case(b=1, h=33, q=8, k=2**22, d=16, causal=False, needs_gb=64, slices=heads_apart),
        case(b=1, h=35, q=8, k=2**22, d=15, causal=False, needs_gb=64, slices=heads_apart),  # rows of 30 bytes
    ],
    refuses=[
        case(b=2, h=2, q=8, k=8, d=129), case(b=2, h=2, q=8, k=8, d=0),
        *[case(b=2, h=4, q=8, k=8, d=16, wrong=wrong) for wrong in WRONG],
    ],
    moves=[
        # on the diagonal a strip loads whole tiles
        Moves(case(b=1, h=2, q=384, k=384, d=16, kv=1), bytes=walks, slack=1.3, launches=3, memory=deltas),
    ],
    speed=[
        Speed(case(d=128, causal=False, **TIMED), target=0.42, **COSTS),
        Speed(case(d=128, **TIMED), target=0.36, **COSTS),
        Speed(case(d=64, causal=False, **TIMED), target=0.36, **COSTS),
        Speed(case(d=64, **TIMED), target=0.30, **COSTS),
    ],
    bugs=[
        Bug("one walk, and dq by atomic additions", (SIGNATURE, SIGNATURE.replace("dk_ptr", "dq_ptr, dk_ptr")),
            (DK, DK + ATOMIC), (WHOLE_KEYS, "0"), (END, "0"),
            ("source(delta, TILE), dk, dv", "source(delta, TILE), sums, dk, dv"),
            ("    if dk.numel() > 0:\n", "    sums = torch.zeros(q.shape, dtype=torch.float32, device=q.device)\n"
             "    if dk.numel() > 0:\n"), (RETURN, "    return sums.to(q.dtype), dk, dv\n"), rung="moves"),
        Bug("p and ds in memory", (RETURN, STORED + RETURN), rung="moves"),
        Bug("walks along all queries, whatever they see", (SOME, "0"), rung="moves"),
        Bug("walks along all keys, whatever is seen", (END, "keys"), rung="moves"),
        Bug("k and v repeated for each head of q", ("    check(dout, q, k, v, out, lse)\n",
            "    check(dout, q, k, v, out, lse)\n" + REPEATED), (RETURN, ADDED + RETURN), rung="moves"),
        Bug("copies what is not contiguous", (TENSORS, "tensors = [t.contiguous() for t in (dout, q, k, v, out)]"),
            rung="moves"),
        Bug("delta is added", (DS, DS.replace("- delta", "+ delta")), caught=GROUPED),
        Bug("delta of the first tile for all", ("load_row(delta, batch, q_head, heads * group, start,",
            "load_row(delta, batch, q_head, heads * group, 0,"), caught="b=1,h=1,q=152,k=70,d=128"),
        Bug("lse of the first head of a group for all", ("load_row(lse, batch, q_head,",
            "load_row(lse, batch, head * group,"), caught=GROUPED),
        Bug("takes lse for a logarithm to base 2", ("start, queries, TILE_Q) * LOG2E", "start, queries, TILE_Q)"),
            caught=GROUPED),
        Bug("takes exp2 for exp", (P, P.replace("(scale * LOG2E)", "scale")), caught=GROUPED),
        Bug("ds without p", (DS, DS.removeprefix("p * ")), caught=GROUPED),
        Bug("dk is not scaled", ("dk * scale", "dk"), caught=GROUPED),
        Bug("dv is scaled", ("offsets, dv,", "offsets, dv * scale,"), caught=GROUPED),
        Bug("dk from dout, not from q", ("ds.to(q_tile.dtype), q_tile,", "ds.to(q_tile.dtype), dout_tile,"),
            caught=GROUPED),
        Bug("dv from ds, not from p", ("tl.dot(p.to(dout_tile.dtype)", "tl.dot((p - 1).to(dout_tile.dtype)"),
            caught=GROUPED),
        Bug("the first head of a group alone", (MEMBERS, "for member in range(1):"), caught=GROUPED),
        Bug("takes the heads of q in turn", ("q_head = head * group + member", "q_head = head + heads * member"),
            caught=GROUPED),
        Bug("begins anew for each head of a group", (MEMBERS + "\n", MEMBERS + "\n        dk *= 0.0\n"),
            caught=GROUPED),
        Bug("begins below the diagonal", (SOME, SOME.replace("first + queries", "first + TILE_K + queries")),
            caught="b=1,h=1,q=256,k=256,d=128"),
        Bug("begins as if the mask were aligned at the first query", (SOME, SOME.replace(" + queries - keys", "")),
            caught="b=1,h=1,q=129,k=257,d=33,fp16"),
        Bug("no mask on the diagonal", (WHOLE, WHOLE.replace("first + TILE_K - 1 +", "first +")),
            caught="b=1,h=1,q=256,k=256,d=128"),
        Bug("aligns the mask at the first query", ("(start + rows + keys - queries)[None, :]",
            "(start + rows)[None, :]"), caught=GROUPED),
        Bug("multiplies by the mask", ("p = tl.where(seen, p, 0.0)\n                dout", "p *= seen.to(tl.float32)\n"
            "                dout"), caught="b=1,h=1,q=152,k=70,d=128"),
        Bug("stores keys that are not there", ("mask = (columns < keys - first)[:, None] & (inner",
            "mask = (columns < TILE_K)[:, None] & (inner"), caught=GROUPED),
        Bug("dout lies as q does", ("*strides[:4], kv_heads", "strides[1], *strides[1:4], kv_heads"),
            caught="b=2,h=2,q=70,k=90,d=32,dout=turned,layout=every_other,fp16"),
        Bug("a descriptor wherever the GPU has them", ("and aligned and last == 1", "and last == 1"),
            caught="b=1,h=1,q=129,k=257,d=33,fp16"),
        Bug("any width", ("<= 128:", "<= 256:"), caught="b=2,h=2,q=8,k=8,d=129"),
        Bug("any number of heads", ("q.shape[1] % max(1, k.shape[1]) or ", ""),
            caught="b=2,h=4,q=8,k=8,d=16,wrong=three heads of k"),
        Bug("the layer saves k for q", ("save_for_backward(q, k, v, out, lse)", "save_for_backward(k, q, v, out, lse)"),
            caught=f"{LAYER},b=2,h=4,q=20,k=70,d=32,kv=2,std=0.5"),
        Bug("the layer forgets its scale", ("*ctx.saved_tensors, ctx.scale,", "*ctx.saved_tensors, 1.0,"),
            caught=SMALL),
    ],
    variants=[
        Variant("pointers alone", ("if has_descriptors(tensor.device) and", "if False and")),
        Variant("one loop, masked throughout", ("tl.static_range(0 if CAUSAL else 1, 2)",
            "tl.static_range(0 if CAUSAL else 1, 1 if CAUSAL else 2)"),
            ("queries if WHOLE else tl.minimum(whole, queries)", "queries")),
        Variant("p as it lies, turned by tl.trans", (P, "tl.exp2(tl.dot(q_tile, k_tile.T) * (scale * LOG2E) - "
             "lse_row[:, None])"),
            ("seen = (first + columns)[:, None] <= (start + rows + keys - queries)[None, :]",
             "seen = (first + columns)[None, :] <= (start + rows + keys - queries)[:, None]"),
            ("tl.dot(p.to(dout_tile.dtype),", "tl.dot(tl.trans(p.to(dout_tile.dtype)),"),
            (DS, "p * (tl.dot(dout_tile, v_tile.T) - delta_row[:, None])"),
            ("dk = tl.dot(ds.to(q_tile.dtype),", "dk = tl.dot(tl.trans(ds.to(q_tile.dtype)),")),
        Variant("scales ds, not the result", ("ds.to(q_tile.dtype)", "(ds * scale).to(q_tile.dtype)"),
            ("dk * scale", "dk")),
    ],
)
