import torch
from workbook.exercise import Bug, Entry, Exercise, Moves, Speed, Variant, case, gradients, normal

LAYOUTS = {  # (heads, tokens, head_dim) -> the strides of [batch, heads, tokens, head_dim], in elements
    "heads": lambda h, s, d: (h * s * d, s * d, d, 1),
    "tokens": lambda h, s, d: (s * h * d, d, h * d, 1),  # tokens hold their heads side by side
    "packed": lambda h, s, d: (3 * s * h * d, d, 3 * h * d, 1),  # and q, k and v of them all
    "turned": lambda h, s, d: (h * d * s, d * s, 1, s),
    "one_head": lambda h, s, d: (s * d, 0, d, 1),
    "same": lambda h, s, d: (0, 0, 0, 0),  # the gradient that a sum hands down
}
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
    place = LAYOUTS[layout]
    upstream = normal(b, h, q, d, dtype=dtype, scale=dstd, strides=LAYOUTS[dout](h, q, d))
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
    """From p and out as they were stored, rounded: where dp and delta nearly cancel, their roundings are what is left."""
    dp, dv = gradients(lambda p, v: p @ v, [p, v], dout)
    ds = p * (dp - (dout * out).sum(-1, keepdim=True))
    dq, dk = gradients(lambda q, k: scale * q @ k.mT, [q, k], ds)
    return dq, dk, dv


def through_attention(dout, q, k, v, lengths, scale, causal):
    return gradients(lambda q, k, v: weights(q, k, lengths, scale, causal) @ v, [q, k, v], dout)


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
    return necessary(dout, q, k, v, p, out, scale, causal) + seen(p, causal) * p.itemsize + 8 * q[..., 0].numel()


def products(dout, q, k, v, p, out, scale, causal):
    return 4 * 2 * seen(p, causal) * q.shape[3]  # dv, dp, dq, dk


COSTS = {"bytes": necessary, "flops": products, "peers": {"torch": in_torch, "torch.compile": in_torch}}
LAYER = "gradients_of_attention"

exercise = Exercise(
    entry="attention_backward",
    outputs=("dq", "dk", "dv"),
    inputs=stored,
    reference=block_by_block,
    also={LAYER: Entry(inputs=tensors, reference=through_attention, outputs=("dq", "dk", "dv"))},
    deterministic=True,
    provisional=True,
    cases=[
        case(b=1, h=1, q=130, k=70, d=128),  # first, so that it is compiled: the widest tiles have to fit
        case(b=2, h=2, q=37, k=53, d=16, pad=9), case(b=1, h=1, q=1, k=1, d=1), case(b=1, h=1, q=3, k=4, d=2),
    ],
)
