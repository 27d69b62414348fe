"""Flash attention backward: dk and dv.

The whole backward, in two launches: a strip of queries walks along its keys, for dq; a strip of keys walks along the
queries of every head that shares it, for dk and dv. Both make each tile of the weights again, from q, k and the
log-sum-exp that the forward has left; every number is the sum of one program, in one order.
"""

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

LOG2E = tl.constexpr(1.4426950408889634)  # exp(x) is exp2(x * LOG2E), and exp2 an instruction


@triton.jit
def load_tile(
    x, strides, batch, head, start, tokens, HEAD_DIM: tl.constexpr, TILE: tl.constexpr, BLOCK_D: tl.constexpr
):
    """TILE tokens of one head, from `start` on: [TILE, BLOCK_D], 0 past the last token and past HEAD_DIM.

    x: a descriptor of blocks [1, 1, TILE, BLOCK_D], or a pointer to a tensor with the four strides given.
    """
    if isinstance(x, tl.tensor_descriptor):
        tile = x.load([batch, head, start, 0]).reshape(TILE, BLOCK_D)
    else:
        rows, inner = tl.arange(0, TILE), tl.arange(0, BLOCK_D)
        # 64 bits for where the tile begins, 32 for places in it
        x += tl.cast(batch, tl.int64) * strides[0] + tl.cast(head, tl.int64) * strides[1]
        x += tl.cast(start, tl.int64) * strides[2]
        mask = (rows < tokens - start)[:, None] & (inner < HEAD_DIM)[None, :]
        tile = tl.load(x + rows[:, None] * strides[2] + inner[None, :] * strides[3], mask=mask, other=0.0)
    return tile


@triton.jit
def load_row(x, batch, head, heads, start, tokens, TILE: tl.constexpr):
    """One number for each of TILE tokens of one head, from `start` on: [TILE], 0 past the last token.

    x: a descriptor of blocks [1, 1, TILE], or a pointer to [batch, heads, tokens], contiguous.
    """
    if isinstance(x, tl.tensor_descriptor):
        row = x.load([batch, head, start]).reshape(TILE)
    else:
        rows = tl.arange(0, TILE)
        x += (tl.cast(batch, tl.int64) * heads + head) * tokens + start
        row = tl.load(x + rows, mask=rows < tokens - start, other=0.0)
    return row


@triton.jit
def queries_kernel(
    dout, q, k, v, out, lse_ptr, dq_ptr, delta_ptr, dout_strides, q_strides, k_strides, v_strides, out_strides,
    heads, group, queries, keys, scale,
    CAUSAL: tl.constexpr, HEAD_DIM: tl.constexpr, TILE_Q: tl.constexpr, TILE_K: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    # TODO: as in 4.1c.
    tl.static_assert(False, "TODO 4.1d, blank 1")


@triton.jit
def keys_kernel(
    dout, q, k, v, lse, delta, dk_ptr, dv_ptr, dout_strides, q_strides, k_strides, v_strides,
    heads, group, queries, keys, scale,
    CAUSAL: tl.constexpr, HEAD_DIM: tl.constexpr, TILE_Q: tl.constexpr, TILE_K: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    # TODO: dk and dv of TILE_K keys of one of `heads` heads of k and v, over TILE_Q queries at a time of each of the
    # `group` heads of q that share it, none of those before the first that sees a key here. dout, q, k and v are for
    # load_tile, lse and delta for load_row; dk and dv are contiguous.
    tl.static_assert(False, "TODO 4.1d, blank 2")


def has_descriptors(device):
    """Whether the GPU copies whole tiles by itself: sm_90 and sm_100, of those that have 227 KB."""
    return torch.cuda.get_device_properties(device).major in (9, 10)


def source(tensor, *block):
    """What load_tile and load_row take: a descriptor of blocks [1, 1, *block] where the GPU has them and the tensor
    lies as they ask, elements side by side in rows that begin at multiples of 16 bytes; else the tensor.
    """
    *steps, last = tensor.stride()
    aligned = all(x % 16 == 0 for x in (tensor.data_ptr(), *(step * tensor.element_size() for step in steps)))
    if has_descriptors(tensor.device) and aligned and last == 1 and tensor.numel() > 0:
        return TensorDescriptor.from_tensor(tensor, [1, 1, *block])
    return tensor


def check(dout, q, k, v, out, lse):
    """Raises ValueError where shapes, dtypes or strides do not fit."""
    if q.dim() != 4 or k.dim() != 4 or v.shape != k.shape or (k.shape[0], k.shape[3]) != (q.shape[0], q.shape[3]):
        shapes = f"q is {list(q.shape)}, k {list(k.shape)}, v {list(v.shape)}"
        raise ValueError(f"{shapes}: 4 sizes each, k and v the same, with q's batch and head_dim")
    if q.shape[1] % max(1, k.shape[1]) or (q.shape[1] > 0) != (k.shape[1] > 0):
        raise ValueError(f"q has {q.shape[1]} heads and k has {k.shape[1]}: k's have to divide q's")
    if not q.shape == out.shape == dout.shape or lse.shape != q.shape[:3]:
        shapes = f"dout is {list(dout.shape)}, out {list(out.shape)}, lse {list(lse.shape)}"
        raise ValueError(f"{shapes}: the first two need q's {list(q.shape)}, lse needs {list(q.shape[:3])}")
    if q.dtype not in (torch.float16, torch.bfloat16) or {t.dtype for t in (dout, k, v, out)} != {q.dtype}:
        raise ValueError("dout, q, k, v and out all have to be float16, or all bfloat16")
    if lse.dtype != torch.float32 or not lse.is_contiguous():
        raise ValueError(f"lse is {lse.dtype} with strides {list(lse.stride())}: it has to be float32 and contiguous")
    if not 1 <= q.shape[3] <= 128:
        raise ValueError(f"head_dim is {q.shape[3]}, 1 to 128 are allowed")


def attention_backward(dout, q, k, v, out, lse, scale, causal):
    """The gradients of q, k and v, from what the forward of flash attention has left.

    dout, q, out: [batch, heads, queries, head_dim], k, v: [batch, kv_heads, keys, head_dim], head_dim from 1 to 128,
    any strides (of dout 0 too, as a sum hands it down), all fp16 or all bf16. kv_heads divides heads: each head of k
    and v serves heads // kv_heads neighbours of q. lse: [batch, heads, queries], fp32, contiguous: the natural
    logarithm of the sum of exp(scale * q @ k.mT) over the keys that a query sees, -inf where it sees none. causal:
    query i sees no key after i + keys - queries. Accumulates in fp32; the same bits at every call.
    Returns dq, dk and dv, contiguous, of the shapes and the dtype of q, k and v. Raises ValueError where shapes, dtypes
    or strides do not fit.
    """
    check(dout, q, k, v, out, lse)
    batch, heads, queries, head_dim = q.shape
    kv_heads, keys = k.shape[1:3]
    # TODO: allocate dq, dk, dv and delta, and launch the two kernels, with tensors as their source().
    raise NotImplementedError("TODO 4.1d, blank 3")


def out_and_lse(q, k, v, scale, causal):
    """The forward in torch, with all weights in memory: put your own 4.1b here once both pass."""
    queries, keys, group = q.shape[2], k.shape[2], q.shape[1] // k.shape[1]
    k, v = (t.float().repeat_interleave(group, 1) for t in (k, v))
    scores = scale * q.float() @ k.mT
    if causal:
        scores = scores.masked_fill(scores.new_ones(queries, keys).triu(1 + keys - queries).bool(), -torch.inf)
    return (torch.ops.aten._safe_softmax(scores, -1) @ v).to(q.dtype), scores.logsumexp(-1)


class Attention(torch.autograd.Function):
    """attention(), with a backward pass of our own."""

    @staticmethod
    def forward(ctx, q, k, v, scale, causal):
        out, lse = out_and_lse(q, k, v, scale, causal)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.scale, ctx.causal = scale, causal
        return out

    @staticmethod
    def backward(ctx, dout):
        # TODO: a gradient for each argument of forward, None for those that have none.
        raise NotImplementedError("TODO 4.1d, blank 4")


def attention(q, k, v, scale, causal):
    """softmax(scale * q @ k.mT) @ v for each head, of the keys that a query sees, as 4.1b defines it.

    q: [batch, heads, queries, head_dim], k, v: [batch, kv_heads, keys, head_dim], all fp16 or all bf16. Returns q's
    shape and dtype.
    """
    return Attention.apply(q, k, v, scale, causal)


def gradients_of_attention(dout, q, k, v, scale, causal):
    """dq, dk and dv as autograd finds them, through attention()."""
    q, k, v = (t.detach().requires_grad_() for t in (q, k, v))
    return torch.autograd.grad(attention(q, k, v, scale, causal), (q, k, v), dout)
