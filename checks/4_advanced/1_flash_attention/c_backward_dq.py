import torch
from workbook.attention import WRONG, cudnn, groups, heads_apart, left, seen, tensors, through_attention, weights
from workbook.exercise import Bug, Entry, Exercise, Moves, Speed, Variant, case, gradients


def from_lse(dout, q, k, v, out, lse, scale, causal):
    dq, delta = torch.empty_like(q), (dout * out).sum(-1).to(lse.dtype)
    for own, its in groups(q, k):
        p = torch.where(seen(q, k, causal), (scale * q[its] @ k[own].mT - lse[its][..., None]).exp(), 0.0)
        ds = p * (dout[its] @ v[own].mT - delta[its][..., None]).to(p.dtype)
        dq[its] = gradients(lambda q, k: scale * q @ k.mT, [q[its], k[own]], ds)[0]
    return dq.contiguous(), delta


def in_torch(dout, q, k, v, out, lse, scale, causal):
    p = torch.exp(scale * (q @ k.mT).float() - lse[..., None])
    if causal:
        p = p.masked_fill(~seen(q, k, causal), 0.0)
    delta = (dout.float() * out).sum(-1)
    return (p * (dout @ v.mT - delta[..., None])).to(q.dtype) @ k * scale, delta


def necessary(dout, q, k, v, out, lse, scale, causal):
    """dout, q and out read and dq written; k and v read; lse read and delta written."""
    return (4 * q.numel() + 2 * k.numel()) * q.itemsize + 2 * lse.nbytes


def walks(dout, q, k, v, out, lse, scale, causal):
    """The same with k and v loaded by each strip of 64 queries, as far as they are seen."""
    again = 2 * weights(q, k, causal) // 64 * q.shape[3] * q.itemsize
    return necessary(dout, q, k, v, out, lse, scale, causal) - 2 * k.nbytes + again


def products(dout, q, k, v, out, lse, scale, causal):
    return 3 * 2 * weights(q, k, causal) * q.shape[3]  # scores, dp, dq


# what bugs and variants change
DELTA = "tl.sum(dout_tile.to(tl.float32) * out_tile.to(tl.float32), 1)"
WHOLE = "(tl.maximum(0, first + 1 + keys - queries) if CAUSAL else keys) // TILE_K * TILE_K"
END = "tl.minimum(keys, first + TILE_Q + keys - queries) if CAUSAL else keys"
DS = "p * (tl.dot(dout_tile, v_tile.T) - delta[:, None])"
TENSORS = "tensors = (dout, q, k, v, out)"
RETURN = "    return dq, delta\n"
STORED = """    if dq.numel() and k.numel():
        all_k, all_v = (t.float().repeat_interleave(heads // t.shape[1], 1) for t in (k, v))
        p = torch.exp(scale * q.float() @ all_k.mT - lse[..., None])
        if causal:
            p.masked_fill_(torch.ones_like(p[0, 0], dtype=torch.bool).triu(1 + k.shape[2] - queries), 0.0)
        dq = (p * (dout.float() @ all_v.mT - delta[..., None]) @ all_k * scale).to(q.dtype)
"""
KERNEL = "@triton.jit\ndef queries_kernel("
DELTA_KERNEL = """@triton.jit
def delta_kernel(
    dout, out, delta_ptr, dout_strides, out_strides, heads, queries, HEAD_DIM: tl.constexpr, TILE_Q: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    strips = tl.cdiv(queries, TILE_Q)
    number, first = tl.program_id(0) // strips, tl.program_id(0) % strips * TILE_Q
    batch, head, rows = number // heads, number % heads, tl.arange(0, TILE_Q)
    dout_tile = load_tile(dout, dout_strides, batch, head, first, queries, HEAD_DIM, TILE_Q, BLOCK_D)
    out_tile = load_tile(out, out_strides, batch, head, first, queries, HEAD_DIM, TILE_Q, BLOCK_D)
    delta = tl.sum(dout_tile.to(tl.float32) * out_tile.to(tl.float32), 1)
    tl.store(delta_ptr + number.to(tl.int64) * queries + first + rows, delta, mask=rows < queries - first)


"""
COSTS = {"bytes": necessary, "flops": products,
         "peers": {"torch": in_torch, "torch.compile": in_torch, "cuDNN, with dk and dv": cudnn}}
TIMED = {"b": 4, "h": 32, "q": 4096, "k": 4096, "dout": "heads", "layout": "heads"}
LAYER = "gradients_of_attention"
GROUPED, BELOW = "b=2,h=4,q=37,k=53,d=16,kv=2", "b=1,h=1,q=152,k=70,d=128"

exercise = Exercise(
    entry="attention_backward_dq",
    outputs=("dq", "delta"),
    inputs=left,
    reference=from_lse,
    also={LAYER: Entry(inputs=tensors, reference=through_attention, outputs=("dq", "dk", "dv"))},
    deterministic=True,
    provisional=True,
    # the library's floor is for one rounding to 16 bits: here ds and the result are rounded, one after the other
    tolerance={torch.bfloat16: 1e-2, torch.float16: 1.25e-3},
    cases=[
        case(b=1, h=1, q=152, k=70, d=128),  # first, so that it is compiled: the widest tiles have to fit
        case(b=2, h=4, q=37, k=53, d=16, kv=2), case(b=1, h=1, q=1, k=1, d=1),
        case(b=1, h=1, q=5, k=7, d=8, causal=False), case(b=1, h=2, q=3, k=5, d=8, kv=1),  # for finite differences
        case(b=1, h=1, q=256, k=256, d=128), case(b=1, h=2, q=128, k=256, d=64, kv=1, causal=False),
        case(b=1, h=1, q=127, k=129, d=31), case(b=1, h=1, q=129, k=257, d=33, dtype=torch.float16),
        case(b=2, h=3, q=67, k=131, d=61, causal=False), case(b=1, h=6, q=1, k=150, d=64, kv=2),
        case(b=1, h=2, q=65, k=65, d=96, dtype=torch.float16), case(b=1, h=2, q=65, k=66, d=80, kv=1),
        case(b=0, h=2, q=5, k=5, d=16), case(b=2, h=0, q=5, k=5, d=16), case(b=1, h=2, q=0, k=5, d=16),
        case(b=1, h=2, q=5, k=0, d=16),
        case(b=2, h=3, q=70, k=90, d=32, dout="heads", layout="packed"),
        case(b=2, h=3, q=70, k=90, d=32, dout="turned", layout="every_other", dtype=torch.float16),
        case(b=2, h=3, q=70, k=90, d=32, dout="same", layout="one_head"),
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
        Moves(case(b=1, h=2, q=384, k=384, d=16), bytes=walks, slack=1.4, launches=2),
    ],
    speed=[
        Speed(case(d=128, causal=False, **TIMED), target=0.60, **COSTS),
        Speed(case(d=128, **TIMED), target=0.55, **COSTS),
        Speed(case(d=64, causal=False, **TIMED), target=0.55, **COSTS),
        Speed(case(d=64, **TIMED), target=0.50, **COSTS),
    ],
    bugs=[
        Bug("p and ds in memory", (RETURN, STORED + RETURN), rung="moves"),
        Bug("loads all keys, whatever is seen", (END, "keys"), rung="moves"),
        Bug("tiles of 16", ("TILE, BLOCK_D = 64,", "TILE, BLOCK_D = 16,"), rung="moves"),
        Bug("copies what is not contiguous", (TENSORS, "tensors = [t.contiguous() for t in (dout, q, k, v, out)]"),
            rung="moves"),
        Bug("no delta", (DELTA, "0.0 * " + DELTA), caught=GROUPED),
        Bug("delta is added", (DS, DS.replace("- delta", "+ delta")), caught=GROUPED),
        Bug("delta from dout alone", (DELTA, "tl.sum(dout_tile.to(tl.float32), 1)"), caught=GROUPED),
        Bug("takes lse for a logarithm to base 2", ("other=0.0) * LOG2E", "other=0.0)"), caught=GROUPED),
        Bug("takes exp2 for exp", ("(scale * LOG2E) - lse", "scale - lse"), caught=GROUPED),
        Bug("p without lse", ("(scale * LOG2E) - lse[:, None]", "(scale * LOG2E)"), caught=GROUPED),
        Bug("ds without p", (DS, DS.removeprefix("p * ")), caught=GROUPED),
        Bug("a softmax that is element by element: p * (1 - p)", (DS, "p * (1 - p) * tl.dot(dout_tile, v_tile.T)"),
            caught=GROUPED),
        Bug("dq is not scaled", ("dq * scale", "dq"), caught=GROUPED),
        Bug("dq from v, not from k", ("ds.to(k_tile.dtype), k_tile,", "ds.to(k_tile.dtype), v_tile,"), caught=GROUPED),
        Bug("multiplies by the mask", ("tl.where(seen, p, 0.0)", "p * seen.to(tl.float32)"), caught=BELOW),
        Bug("no mask past the last key", ("seen = (start + columns < keys)", "seen = (columns < TILE_K)"),
            caught="b=1,h=1,q=70,k=70,d=64,causal=False,far=-1024"),
        Bug("no mask on the diagonal", (WHOLE, WHOLE.replace("first + 1 +", "first + TILE_Q +")),
            caught="b=1,h=1,q=256,k=256,d=128"),
        Bug("aligns the mask at the first query", ("(first + rows + keys - queries)[:, None]",
            "(first + rows)[:, None]"), caught=GROUPED),
        Bug("ends as if the mask were aligned at the first query", (END, END.replace(" + keys - queries", "")),
            caught="b=1,h=1,q=129,k=257,d=33,fp16"),
        Bug("causal, asked or not", ("CAUSAL=causal,", "CAUSAL=True,"), caught="b=2,h=3,q=67,k=131,d=61,causal=False"),
        Bug("deals heads of k out in turn", ("batch, head = number // heads, number % heads\n",
            "batch, head = number // heads, number % heads\n    kv_head = head % (heads // group)\n"),
            ("k_strides, batch, head // group", "k_strides, batch, kv_head"),
            ("v_strides, batch, head // group", "v_strides, batch, kv_head"), caught=GROUPED),
        Bug("stores queries that are not there", ("mask=mask[:, None] & (inner", "mask=(inner"), caught=BELOW),
        Bug("all lie as dout does", ("*(t.stride() for t in tensors)", "*(dout.stride() for t in tensors)"),
            caught="b=2,h=3,q=70,k=90,d=32,dout=turned,layout=every_other,fp16"),
        Bug("a descriptor wherever the GPU has them", ("and aligned and last == 1", "and last == 1"),
            caught="b=1,h=1,q=129,k=257,d=33,fp16"),
        Bug("any width", ("<= 128:", "<= 256:"), caught="b=2,h=2,q=8,k=8,d=129"),
        Bug("any lse", ("lse.dtype != torch.float32 or not lse.is_contiguous()", "lse.dtype != torch.float32"),
            caught="b=2,h=4,q=8,k=8,d=16,wrong=lse turned"),
    ],
    variants=[
        Variant("keys 32 at a time", ("TILE_K=TILE", "TILE_K=32"),
            ("source(t, TILE, BLOCK_D)", "source(t, 32 if t is k or t is v else TILE, BLOCK_D)")),
        Variant("pointers alone", ("if has_descriptors(tensor.device) and", "if False and")),
        Variant("one loop, masked throughout", (WHOLE, "0")),
        Variant("scales ds, not the result", ("ds.to(k_tile.dtype)", "(ds * scale).to(k_tile.dtype)"),
            ("dq * scale", "dq")),
        Variant("delta by a kernel of its own", (DELTA, "tl.load(delta_ptr + row + rows, mask=mask, other=0.0)"),
            ("    tl.store(delta_ptr + row + rows, delta, mask=mask)\n", ""), (KERNEL, DELTA_KERNEL + KERNEL),
            ("        queries_kernel[(", """        delta_kernel[(batch * heads * triton.cdiv(queries, TILE),)](
            source(dout, TILE, BLOCK_D), source(out, TILE, BLOCK_D), delta, dout.stride(), out.stride(),
            heads, queries, head_dim, TILE, BLOCK_D,
        )
        queries_kernel[(""")),
    ],
)
