"""Backward of the three blocks.

The gradients of q, k and v from the stored weights p, in two launches: one walks along the keys of its queries, one
along the queries of its keys. The gradients of p and of the scores, as large as p, are never in memory.
"""

import torch
import triton
import triton.language as tl


@triton.jit
def tile_ptrs(ptr, strides, batch, head, start, TILE: tl.constexpr, BLOCK_D: tl.constexpr):
    """Pointers to TILE tokens of one head, from `start` on, in a tensor with the four strides given."""
    # 64 bits for where the tile begins, 32 for places in it
    ptr += batch * strides[0] + head * strides[1] + tl.cast(start, tl.int64) * strides[2]
    return ptr + tl.arange(0, TILE)[:, None] * strides[2] + tl.arange(0, BLOCK_D)[None, :] * strides[3]


@triton.jit
def queries_kernel(
    dout_ptr, k_ptr, v_ptr, p_ptr, out_ptr, dq_ptr, delta_ptr, dout_strides, k_strides, v_strides, out_strides,
    heads, queries, keys, head_dim, scale,
    CAUSAL: tl.constexpr, TILE_Q: tl.constexpr, TILE_K: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    # TODO: delta and dq of TILE_Q queries of one head, over TILE_K keys at a time, none that no query here sees.
    # BLOCK_D is at least head_dim. p, dq and delta are contiguous: delta is [batch, heads, queries], fp32, and is left
    # for the other kernel. Load each weight once.
    tl.static_assert(False, "TODO 3.2d, blank 1")


@triton.jit
def keys_kernel(
    dout_ptr, q_ptr, v_ptr, p_ptr, delta_ptr, dk_ptr, dv_ptr, dout_strides, q_strides, v_strides,
    heads, queries, keys, head_dim, scale,
    CAUSAL: tl.constexpr, TILE_Q: tl.constexpr, TILE_K: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    # TODO: dk and dv of TILE_K keys of one head, over TILE_Q queries at a time, none of those before the first that
    # sees a key here. dk and dv are contiguous. Load each weight once.
    tl.static_assert(False, "TODO 3.2d, blank 2")


def attention_backward(dout, q, k, v, p, out, scale, causal):
    """The gradients of attention, from the weights that its forward has stored.

    dout, q, out: [batch, heads, queries, head_dim], k, v: [batch, heads, keys, head_dim], head_dim <= 128, any strides
    (of dout 0 too, as a sum hands it down). p: [batch, heads, queries, keys], contiguous: the softmax of scale * q @
    k.mT, 0 where it is masked. out = p @ v: delta, of which ds = p * (dp - delta), is the sum of dout * out. causal:
    query i sees no key after i + keys - queries. All fp16 or all bf16. Accumulates in fp32; the same bits at every
    call. Returns dq, dk and dv, contiguous, of the shapes and the dtype of q, k and v. Raises ValueError where shapes,
    dtypes or strides do not fit.
    """
    if q.dim() != 4 or k.dim() != 4 or v.shape != k.shape or (*k.shape[:2], k.shape[3]) != (*q.shape[:2], q.shape[3]):
        shapes = f"q is {list(q.shape)}, k {list(k.shape)}, v {list(v.shape)}"
        raise ValueError(f"{shapes}: 4 sizes each, k and v the same, of which only the third may differ from q's")
    if not q.shape == out.shape == dout.shape or p.shape != (*q.shape[:3], k.shape[2]):
        shapes = f"dout is {list(dout.shape)}, out {list(out.shape)}, p {list(p.shape)}"
        raise ValueError(f"{shapes}: the first two need q's {list(q.shape)}, p needs {[*q.shape[:3], k.shape[2]]}")
    if q.dtype not in (torch.float16, torch.bfloat16) or {t.dtype for t in (dout, k, v, p, out)} != {q.dtype}:
        raise ValueError("dout, q, k, v, p and out all have to be float16, or all bfloat16")
    if not p.is_contiguous():
        raise ValueError(f"p has strides {list(p.stride())}: it has to be contiguous, as its forward wrote it")
    batch, heads, queries, head_dim = q.shape
    keys = k.shape[2]
    if head_dim > 128:
        raise ValueError(f"head_dim is {head_dim}, at most 128 are allowed")
    # TODO: allocate dq, dk, dv and delta, choose tiles and warps, launch the two kernels. All tiles of a launch have to
    # fit 99 KB of shared memory, and a thread's share of its accumulators the 255 registers that it may have.
    raise NotImplementedError("TODO 3.2d, blank 3")


def weights_and_values(q, k, v, lengths, scale, causal):
    """p and out in torch: put your own 3.2a, 3.2b and 3.2c here once all four pass."""
    queries, keys = q.shape[2], k.shape[2]
    seen = lengths[:, None, None, None]
    if causal:
        seen = seen.minimum(torch.arange(1 + keys - queries, 1 + keys, device=q.device)[:, None])
    masked = torch.arange(keys, device=q.device) >= seen
    scores = (scale * q.float() @ k.float().mT).masked_fill(masked, -torch.inf)
    p = torch.ops.aten._safe_softmax(scores, -1).to(q.dtype)
    return p, p @ v


class Attention(torch.autograd.Function):
    """attention(), with a backward pass of our own."""

    @staticmethod
    def forward(ctx, q, k, v, lengths, scale, causal):
        # TODO: p and out; keep for the backward pass what it needs; return out.
        raise NotImplementedError("TODO 3.2d, blank 4")

    @staticmethod
    def backward(ctx, dout):
        # TODO: a gradient for each argument of forward, None for those that have none.
        raise NotImplementedError("TODO 3.2d, blank 5")


def attention(q, k, v, lengths, scale, causal):
    """softmax(scale * q @ k.mT) @ v for each head, of the keys that a query sees, as 3.2b defines them.

    q: [batch, heads, queries, head_dim], k, v: [batch, heads, keys, head_dim], all fp16 or all bf16. lengths: [batch],
    int32 or int64. Returns [batch, heads, queries, head_dim], the same dtype.
    """
    return Attention.apply(q, k, v, lengths, scale, causal)


def gradients_of_attention(dout, q, k, v, lengths, scale, causal):
    """dq, dk and dv as autograd finds them, through attention()."""
    q, k, v = (t.detach().requires_grad_() for t in (q, k, v))
    return torch.autograd.grad(attention(q, k, v, lengths, scale, causal), (q, k, v), dout)
