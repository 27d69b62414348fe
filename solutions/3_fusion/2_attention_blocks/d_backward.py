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
    ### BEGIN SOLUTION
    strips = tl.cdiv(queries, TILE_Q)
    number = (tl.program_id(0) // strips).to(tl.int64)  # of the head, through all batches
    batch, head = number // heads, number % heads
    first = tl.program_id(0) % strips * TILE_Q
    rows, columns, inner = tl.arange(0, TILE_Q), tl.arange(0, TILE_K), tl.arange(0, BLOCK_D)
    mask = (rows < queries - first)[:, None] & (inner < head_dim)[None, :]
    dout = tl.load(tile_ptrs(dout_ptr, dout_strides, batch, head, first, TILE_Q, BLOCK_D), mask=mask, other=0.0)
    out = tl.load(tile_ptrs(out_ptr, out_strides, batch, head, first, TILE_Q, BLOCK_D), mask=mask, other=0.0)
    delta = tl.sum(dout.to(tl.float32) * out.to(tl.float32), 1)
    tl.store(delta_ptr + number * queries + first + rows, delta, mask=rows < queries - first)
    p_ptrs = p_ptr + (number * queries + first) * keys + rows[:, None] * keys + columns[None, :]
    seen = tl.minimum(keys, first + TILE_Q + keys - queries) if CAUSAL else keys
    dq = tl.zeros((TILE_Q, BLOCK_D), tl.float32)
    for start in range(0, seen, TILE_K):
        mask_p = (rows < queries - first)[:, None] & (columns < keys - start)[None, :]
        mask_k = (columns < keys - start)[:, None] & (inner < head_dim)[None, :]
        p = tl.load(p_ptrs + start, mask=mask_p, other=0.0)
        k = tl.load(tile_ptrs(k_ptr, k_strides, batch, head, start, TILE_K, BLOCK_D), mask=mask_k, other=0.0)
        v = tl.load(tile_ptrs(v_ptr, v_strides, batch, head, start, TILE_K, BLOCK_D), mask=mask_k, other=0.0)
        ds = p.to(tl.float32) * (tl.dot(dout, tl.trans(v)) - delta[:, None])
        dq = tl.dot(ds.to(k.dtype), k, dq)
    dq_ptrs = dq_ptr + (number * queries + first) * head_dim + rows[:, None] * head_dim + inner[None, :]
    tl.store(dq_ptrs, dq * scale, mask=mask)
    ### END SOLUTION


@triton.jit
def keys_kernel(
    dout_ptr, q_ptr, v_ptr, p_ptr, delta_ptr, dk_ptr, dv_ptr, dout_strides, q_strides, v_strides,
    heads, queries, keys, head_dim, scale,
    CAUSAL: tl.constexpr, TILE_Q: tl.constexpr, TILE_K: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    # TODO: dk and dv of TILE_K keys of one head, over TILE_Q queries at a time, none of those before the first that
    # sees a key here. dk and dv are contiguous. Load each weight once.
    ### BEGIN SOLUTION
    strips = tl.cdiv(keys, TILE_K)
    number = (tl.program_id(0) // strips).to(tl.int64)
    batch, head = number // heads, number % heads
    first = tl.program_id(0) % strips * TILE_K
    rows, columns, inner = tl.arange(0, TILE_Q), tl.arange(0, TILE_K), tl.arange(0, BLOCK_D)
    mask = (columns < keys - first)[:, None] & (inner < head_dim)[None, :]
    v = tl.load(tile_ptrs(v_ptr, v_strides, batch, head, first, TILE_K, BLOCK_D), mask=mask, other=0.0)
    dk = tl.zeros((TILE_K, BLOCK_D), tl.float32)
    dv = tl.zeros((TILE_K, BLOCK_D), tl.float32)
    seeing = tl.maximum(0, first - (keys - queries)) // TILE_Q * TILE_Q if CAUSAL else 0
    for start in range(seeing, queries, TILE_Q):
        mask_p = (columns < keys - first)[:, None] & (rows < queries - start)[None, :]
        mask_q = (rows < queries - start)[:, None] & (inner < head_dim)[None, :]
        # tiles of p, dp and ds are turned, keys upright, as they are multiplied
        p_ptrs = p_ptr + (number * queries + start) * keys + first + rows[None, :] * keys + columns[:, None]
        p = tl.load(p_ptrs, mask=mask_p, other=0.0)
        dout = tl.load(tile_ptrs(dout_ptr, dout_strides, batch, head, start, TILE_Q, BLOCK_D), mask=mask_q, other=0.0)
        q = tl.load(tile_ptrs(q_ptr, q_strides, batch, head, start, TILE_Q, BLOCK_D), mask=mask_q, other=0.0)
        delta = tl.load(delta_ptr + number * queries + start + rows, mask=rows < queries - start, other=0.0)
        dv = tl.dot(p, dout, dv)
        ds = p.to(tl.float32) * (tl.dot(v, tl.trans(dout)) - delta[None, :])
        dk = tl.dot(ds.to(q.dtype), q, dk)
    offsets = (number * keys + first) * head_dim + columns[:, None] * head_dim + inner[None, :]
    tl.store(dk_ptr + offsets, dk * scale, mask=mask)
    tl.store(dv_ptr + offsets, dv, mask=mask)
    ### END SOLUTION


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
    ### BEGIN SOLUTION
    dq, dk, dv = (torch.empty(t.shape, dtype=t.dtype, device=t.device) for t in (q, k, v))
    delta = torch.empty((batch, heads, queries), dtype=torch.float32, device=q.device)
    sizes = (heads, queries, keys, head_dim, scale)
    TILE, BLOCK_D = 64, max(16, triton.next_power_of_2(head_dim))
    if q.numel() > 0:
        queries_kernel[(batch * heads * triton.cdiv(queries, TILE),)](
            dout, k, v, p, out, dq, delta, dout.stride(), k.stride(), v.stride(), out.stride(), *sizes,
            CAUSAL=causal, TILE_Q=TILE, TILE_K=TILE, BLOCK_D=BLOCK_D, num_warps=4, num_stages=2,
        )  # fmt: skip
    if k.numel() > 0:
        # two accumulators: half as many queries at a time leave them room in registers
        keys_kernel[(batch * heads * triton.cdiv(keys, TILE),)](
            dout, q, v, p, delta, dk, dv, dout.stride(), q.stride(), v.stride(), *sizes,
            CAUSAL=causal, TILE_Q=TILE // 2, TILE_K=TILE, BLOCK_D=BLOCK_D, num_warps=4, num_stages=3,
        )  # fmt: skip
    return dq, dk, dv
    ### END SOLUTION


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
        ### BEGIN SOLUTION
        p, out = weights_and_values(q, k, v, lengths, scale, causal)
        ctx.save_for_backward(q, k, v, p, out)
        ctx.scale, ctx.causal = scale, causal
        return out
        ### END SOLUTION

    @staticmethod
    def backward(ctx, dout):
        # TODO: a gradient for each argument of forward, None for those that have none.
        ### BEGIN SOLUTION
        return *attention_backward(dout, *ctx.saved_tensors, ctx.scale, ctx.causal), None, None, None
        ### END SOLUTION


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
