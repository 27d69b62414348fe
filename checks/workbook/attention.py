"""What the specs of attention's backward share: what a forward leaves, what makes no sense, and who else does it."""

import torch

from .exercise import gradients, normal
from .layouts import HEADS

WRONG = {  # calls that make no sense; of dout, q, k, v, out, lse
    "no heads": lambda do, q, k, v, o, lse: [*(t[:, 0] for t in (do, q, k, v, o)), lse],
    "three heads of k": lambda do, q, k, v, o, lse: (do, q, k[:, :3], v[:, :3], o, lse),
    "no head of k": lambda do, q, k, v, o, lse: (do, q, k[:, :0], v[:, :0], o, lse),
    "keys of v": lambda do, q, k, v, o, lse: (do, q, k, v[:, :, 1:], o, lse),
    "width of k": lambda do, q, k, v, o, lse: (do, q, k[..., 1:], v[..., 1:], o, lse),
    "queries of dout": lambda do, q, k, v, o, lse: (do[:, :, 1:], q, k, v, o, lse),
    "queries of lse": lambda do, q, k, v, o, lse: (do, q, k, v, o, lse[:, :, 1:]),
    "lse turned": lambda do, q, k, v, o, lse: (do, q, k, v, o, lse.mT.contiguous().mT),
    "lse in 16 bits": lambda do, q, k, v, o, lse: (do, q, k, v, o, lse.to(q.dtype)),
    "dtypes": lambda do, q, k, v, o, lse: (do.float(), q, k, v, o, lse),
    "fp32": lambda do, q, k, v, o, lse: [t.float() for t in (do, q, k, v, o, lse)],
}


def tensors(
    b, h, q, k, d, kv=None, causal=True, far=0, dtype=torch.bfloat16, dout="tokens", layout="tokens", std=1.0, dstd=1.0
):
    """dout, q, k, v, scale, causal. kv: heads of k and v, None: h. dout, layout: where it lies, where the others lie.

    far: a number of q, which adds scale * far to all scores.
    """
    kv, place = h if kv is None else kv, HEADS[layout]
    upstream = normal(b, h, q, d, dtype=dtype, scale=dstd, strides=HEADS[dout](h, q, d))
    queries = normal(b, h, q, d, dtype=dtype, scale=std, strides=place(h, q, d))
    keys, values = (normal(b, kv, k, d, dtype=dtype, scale=std, strides=place(kv, k, d)) for _ in range(2))
    if far:
        queries[..., 0], keys[..., 0] = far, 1.0
    return upstream, queries, keys, values, max(1, d) ** -0.5, causal


def seen(q, k, causal):
    """[queries, keys]: which keys a query sees."""
    queries, keys = q.shape[2], k.shape[2]
    rows, columns = torch.arange(queries, device=q.device)[:, None], torch.arange(keys, device=q.device)
    return columns <= rows + keys - queries if causal else (columns < keys).expand(queries, keys)


def groups(q, k):
    """For each head of k its place, and that of its heads of q: all weights at once would take too much memory."""
    group = q.shape[1] // max(1, k.shape[1])
    for head in range(0 if k.is_meta else k.shape[1]):  # without data there is nothing to fill
        yield (slice(None), slice(head, head + 1)), (slice(None), slice(head * group, head * group + group))


def left(wrong=None, **sizes):
    """What a forward pass has left."""
    dout, q, k, v, scale, causal = tensors(**sizes)
    out, lse = torch.empty_like(q), torch.empty(q.shape[:3])
    for own, its in groups(q, k):
        scores = (scale * q[its].float() @ k[own].float().mT).masked_fill(~seen(q, k, causal), -torch.inf)
        out[its] = (torch.ops.aten._safe_softmax(scores, -1) @ v[own].float()).to(q.dtype)
        lse[its] = scores.logsumexp(-1)
    given = [dout, q, k, v, out, lse]
    return *(WRONG[wrong](*given) if wrong else given), scale, causal


def through_attention(dout, q, k, v, scale, causal):
    def attention(q, k, v):
        k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
        return torch.ops.aten._safe_softmax((scale * q @ k.mT).masked_fill(~seen(q, k, causal), -torch.inf), -1) @ v

    return gradients(attention, [q, k, v], dout)


def heads_apart(inputs):
    *tensors, scale, causal = inputs
    for head in range(tensors[0].shape[1]):
        place = slice(None), slice(head, head + 1)
        yield [*(t[place] for t in tensors), scale, causal], place


def cudnn(dout, q, k, v, out, lse, scale, causal):
    none = torch.zeros((), dtype=torch.int64, device=q.device)  # of dropout
    backward = torch.ops.aten._scaled_dot_product_cudnn_attention_backward
    tokens = q.shape[2], k.shape[2]
    return backward(dout, q, k, v, out, lse[..., None], none, none, None, None, None, *tokens, 0.0, causal, scale=scale)


def weights(q, k, causal):
    """How many weights are seen, by all queries."""
    queries, keys = q.shape[2], k.shape[2]
    row = sum(min(max(i + 1 + keys - queries, 0), keys) for i in range(queries)) if causal else queries * keys
    return q.shape[0] * q.shape[1] * row
