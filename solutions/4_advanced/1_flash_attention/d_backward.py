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
    ### BEGIN SOLUTION
    strips = tl.cdiv(queries, TILE_Q)
    number = tl.program_id(0) // strips  # of the head, through all batches
    batch, head = number // heads, number % heads
    first = tl.program_id(0) % strips * TILE_Q
    rows, columns, inner = tl.arange(0, TILE_Q), tl.arange(0, TILE_K), tl.arange(0, BLOCK_D)
    mask = rows < queries - first
    row = number.to(tl.int64) * queries + first  # of the first query here, through all heads
    dout_tile = load_tile(dout, dout_strides, batch, head, first, queries, HEAD_DIM, TILE_Q, BLOCK_D)
    out_tile = load_tile(out, out_strides, batch, head, first, queries, HEAD_DIM, TILE_Q, BLOCK_D)
    delta = tl.sum(dout_tile.to(tl.float32) * out_tile.to(tl.float32), 1)
    tl.store(delta_ptr + row + rows, delta, mask=mask)
    q_tile = load_tile(q, q_strides, batch, head, first, queries, HEAD_DIM, TILE_Q, BLOCK_D)
    lse = tl.load(lse_ptr + row + rows, mask=mask, other=0.0) * LOG2E
    dq = tl.zeros((TILE_Q, BLOCK_D), tl.float32)
    # the first `whole` keys are seen by every query here, those from `end` on by none
    whole = (tl.maximum(0, first + 1 + keys - queries) if CAUSAL else keys) // TILE_K * TILE_K
    end = tl.minimum(keys, first + TILE_Q + keys - queries) if CAUSAL else keys
    for MASKED in tl.static_range(2):  # two loops, of which the long one has no mask
        for start in range(whole if MASKED else 0, end if MASKED else whole, TILE_K):
            k_tile = load_tile(k, k_strides, batch, head // group, start, keys, HEAD_DIM, TILE_K, BLOCK_D)
            v_tile = load_tile(v, v_strides, batch, head // group, start, keys, HEAD_DIM, TILE_K, BLOCK_D)
            p = tl.exp2(tl.dot(q_tile, k_tile.T) * (scale * LOG2E) - lse[:, None])
            if MASKED:
                seen = (start + columns < keys)[None, :]
                if CAUSAL:
                    seen &= (start + columns)[None, :] <= (first + rows + keys - queries)[:, None]
                p = tl.where(seen, p, 0.0)  # chosen, not multiplied: where a query sees no key, p is inf
            ds = p * (tl.dot(dout_tile, v_tile.T) - delta[:, None])
            dq = tl.dot(ds.to(k_tile.dtype), k_tile, dq)
    dq_ptrs = dq_ptr + (row + rows)[:, None] * HEAD_DIM + inner[None, :]
    tl.store(dq_ptrs, dq * scale, mask=mask[:, None] & (inner < HEAD_DIM)[None, :])
    ### END SOLUTION


@triton.jit
def keys_kernel(
    dout, q, k, v, lse, delta, dk_ptr, dv_ptr, dout_strides, q_strides, k_strides, v_strides,
    heads, group, queries, keys, scale,
    CAUSAL: tl.constexpr, HEAD_DIM: tl.constexpr, TILE_Q: tl.constexpr, TILE_K: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    # TODO: dk and dv of TILE_K keys of one of `heads` heads of k and v, over TILE_Q queries at a time of each of the
    # `group` heads of q that share it, none of those before the first that sees a key here. dout, q, k and v are for
    # load_tile, lse and delta for load_row; dk and dv are contiguous.
    ### BEGIN SOLUTION
    strips = tl.cdiv(keys, TILE_K)
    number = tl.program_id(0) // strips  # of the head, through all batches
    batch, head = number // heads, number % heads
    first = tl.program_id(0) % strips * TILE_K
    rows, columns, inner = tl.arange(0, TILE_Q), tl.arange(0, TILE_K), tl.arange(0, BLOCK_D)
    k_tile = load_tile(k, k_strides, batch, head, first, keys, HEAD_DIM, TILE_K, BLOCK_D)
    v_tile = load_tile(v, v_strides, batch, head, first, keys, HEAD_DIM, TILE_K, BLOCK_D)
    dk = tl.zeros((TILE_K, BLOCK_D), tl.float32)
    dv = tl.zeros((TILE_K, BLOCK_D), tl.float32)
    # the queries before `some` see no key here, those from `whole` on see every one
    some = tl.maximum(0, first + queries - keys) // TILE_Q * TILE_Q if CAUSAL else 0
    whole = tl.cdiv(tl.maximum(0, first + TILE_K - 1 + queries - keys), TILE_Q) * TILE_Q if CAUSAL else 0
    for member in range(group):
        q_head = head * group + member
        for WHOLE in tl.static_range(0 if CAUSAL else 1, 2):
            for start in range(whole if WHOLE else some, queries if WHOLE else tl.minimum(whole, queries), TILE_Q):
                q_tile = load_tile(q, q_strides, batch, q_head, start, queries, HEAD_DIM, TILE_Q, BLOCK_D)
                lse_row = load_row(lse, batch, q_head, heads * group, start, queries, TILE_Q) * LOG2E
                # tiles of p, dp and ds are turned, keys upright, as they are multiplied. Past the last query p is 1 and
                # what it is multiplied with is 0.
                p = tl.exp2(tl.dot(k_tile, q_tile.T) * (scale * LOG2E) - lse_row[None, :])
                if not WHOLE:
                    seen = (first + columns)[:, None] <= (start + rows + keys - queries)[None, :]
                    p = tl.where(seen, p, 0.0)
                dout_tile = load_tile(dout, dout_strides, batch, q_head, start, queries, HEAD_DIM, TILE_Q, BLOCK_D)
                dv = tl.dot(p.to(dout_tile.dtype), dout_tile, dv)
                delta_row = load_row(delta, batch, q_head, heads * group, start, queries, TILE_Q)
                ds = p * (tl.dot(v_tile, dout_tile.T) - delta_row[None, :])
                dk = tl.dot(ds.to(q_tile.dtype), q_tile, dk)
    offsets = (number.to(tl.int64) * keys + first + columns)[:, None] * HEAD_DIM + inner[None, :]
    mask = (columns < keys - first)[:, None] & (inner < HEAD_DIM)[None, :]
    tl.store(dk_ptr + offsets, dk * scale, mask=mask)
    tl.store(dv_ptr + offsets, dv, mask=mask)
    ### END SOLUTION


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
    ### BEGIN SOLUTION
    dq, dk, dv = (torch.empty(t.shape, dtype=t.dtype, device=t.device) for t in (q, k, v))
    delta = torch.empty(lse.shape, dtype=torch.float32, device=q.device)
    TILE, BLOCK_D = 64, max(16, triton.next_power_of_2(head_dim))
    tensors = (dout, q, k, v, out)
    tiles, strides = [source(t, TILE, BLOCK_D) for t in tensors], [t.stride() for t in tensors]
    sizes = (heads // max(1, kv_heads), queries, keys, scale)
    options = {"CAUSAL": causal, "HEAD_DIM": head_dim, "TILE_Q": TILE, "TILE_K": TILE, "BLOCK_D": BLOCK_D}
    options |= {"num_warps": 4 if has_descriptors(q.device) else 8, "num_stages": 2}  # as in 4.1c
    if dq.numel() > 0:
        queries_kernel[(batch * heads * triton.cdiv(queries, TILE),)](
            *tiles, lse, dq, delta, *strides, heads, *sizes, **options
        )
    if dk.numel() > 0:
        keys_kernel[(batch * kv_heads * triton.cdiv(keys, TILE),)](
            *tiles[:4], source(lse, TILE), source(delta, TILE), dk, dv, *strides[:4], kv_heads, *sizes, **options
        )
    return dq, dk, dv
    ### END SOLUTION


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
        ### BEGIN SOLUTION
        return *attention_backward(dout, *ctx.saved_tensors, ctx.scale, ctx.causal), None, None
        ### END SOLUTION


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
