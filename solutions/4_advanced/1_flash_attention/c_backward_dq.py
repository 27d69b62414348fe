"""Flash attention backward: delta and dq.

A program has a strip of queries of one head and walks along their keys. It makes each tile of the weights again, from
q, k and the log-sum-exp that the forward has left, turns it into a tile of ds and adds that to dq.
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
def queries_kernel(
    dout, q, k, v, out, lse_ptr, dq_ptr, delta_ptr, dout_strides, q_strides, k_strides, v_strides, out_strides,
    heads, group, queries, keys, scale,
    CAUSAL: tl.constexpr, HEAD_DIM: tl.constexpr, TILE_Q: tl.constexpr, TILE_K: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    # TODO: delta and dq of TILE_Q queries of one head, over TILE_K keys at a time, none that no query here sees. dout,
    # q, k, v and out are for load_tile; the others are contiguous. `group` heads of queries share one of k and v.
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


def has_descriptors(device):
    """Whether the GPU copies whole tiles by itself: sm_90 and sm_100, of those that have 227 KB."""
    return torch.cuda.get_device_properties(device).major in (9, 10)


def source(tensor, *block):
    """What load_tile takes: a descriptor of blocks [1, 1, *block] where the GPU has them and the tensor lies as they
    ask, elements side by side in rows that begin at multiples of 16 bytes; else the tensor.
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


def attention_backward_dq(dout, q, k, v, out, lse, scale, causal):
    """The gradient of q, and delta, from what the forward of flash attention has left.

    dout, q, out: [batch, heads, queries, head_dim], k, v: [batch, kv_heads, keys, head_dim], head_dim from 1 to 128,
    any strides (of dout 0 too, as a sum hands it down), all fp16 or all bf16. kv_heads divides heads: each head of k
    and v serves heads // kv_heads neighbours of q. lse: [batch, heads, queries], fp32, contiguous: the natural
    logarithm of the sum of exp(scale * q @ k.mT) over the keys that a query sees, -inf where it sees none. causal:
    query i sees no key after i + keys - queries. Accumulates in fp32; the same bits at every call.
    Returns dq, contiguous, of q's shape and dtype, and delta: [batch, heads, queries], fp32, the sums of dout * out.
    Raises ValueError where shapes, dtypes or strides do not fit.
    """
    check(dout, q, k, v, out, lse)
    batch, heads, queries, head_dim = q.shape
    # TODO: allocate dq and delta, and launch, with dout, q, k, v and out each as its source(). All tiles have to fit
    # 99 KB of shared memory, and a thread's numbers, without descriptors its addresses too, 255 registers.
    ### BEGIN SOLUTION
    dq = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    delta = torch.empty(lse.shape, dtype=torch.float32, device=q.device)
    if dq.numel() > 0:
        TILE, BLOCK_D = 64, max(16, triton.next_power_of_2(head_dim))
        tensors = (dout, q, k, v, out)
        queries_kernel[(batch * heads * triton.cdiv(queries, TILE),)](
            *(source(t, TILE, BLOCK_D) for t in tensors), lse, dq, delta, *(t.stride() for t in tensors),
            heads, heads // k.shape[1], queries, k.shape[2], scale,
            CAUSAL=causal, HEAD_DIM=head_dim, TILE_Q=TILE, TILE_K=TILE, BLOCK_D=BLOCK_D,
            num_warps=4 if has_descriptors(q.device) else 8, num_stages=2,  # sm_80's products take more registers
        )  # fmt: skip
    return dq, delta
    ### END SOLUTION


def out_and_lse(q, k, v, scale, causal):
    """The forward in torch, with all weights in memory: put your own 4.1b here once both pass."""
    queries, keys, group = q.shape[2], k.shape[2], q.shape[1] // k.shape[1]
    k, v = (t.float().repeat_interleave(group, 1) for t in (k, v))
    scores = scale * q.float() @ k.mT
    if causal:
        scores = scores.masked_fill(scores.new_ones(queries, keys).triu(1 + keys - queries).bool(), -torch.inf)
    return (torch.ops.aten._safe_softmax(scores, -1) @ v).to(q.dtype), scores.logsumexp(-1)


def attention_backward_dk_dv(dout, q, k, v, lse, delta, scale, causal):
    """The other half in torch, 128 queries at a time: 4.1d makes a kernel of it."""
    queries, keys, group = q.shape[2], k.shape[2], q.shape[1] // k.shape[1]
    full_k, full_v = (t.float().repeat_interleave(group, 1) for t in (k, v))
    dk, dv = torch.zeros_like(full_k), torch.zeros_like(full_v)
    columns = torch.arange(keys, device=q.device)
    for rows in torch.arange(queries, device=q.device).split(128):
        some_dout, some_q = dout[:, :, rows].float(), q[:, :, rows].float()
        p = torch.exp(scale * some_q @ full_k.mT - lse[:, :, rows, None])
        if causal:
            p = p.masked_fill(columns > rows[:, None] + keys - queries, 0.0)
        ds = p * (some_dout @ full_v.mT - delta[:, :, rows, None])
        dk += scale * ds.mT @ some_q
        dv += p.mT @ some_dout
    return tuple(t.unflatten(1, (k.shape[1], group)).sum(2).to(k.dtype) for t in (dk, dv))


class Attention(torch.autograd.Function):
    """attention(), with dq of our own."""

    @staticmethod
    def forward(ctx, q, k, v, scale, causal):
        out, lse = out_and_lse(q, k, v, scale, causal)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.scale, ctx.causal = scale, causal
        return out

    @staticmethod
    def backward(ctx, dout):
        q, k, v, out, lse = ctx.saved_tensors
        dq, delta = attention_backward_dq(dout, q, k, v, out, lse, ctx.scale, ctx.causal)
        dk, dv = attention_backward_dk_dv(dout, q, k, v, lse, delta, ctx.scale, ctx.causal)
        return dq, dk, dv, None, None


def attention(q, k, v, scale, causal):
    """softmax(scale * q @ k.mT) @ v for each head, as 4.1b defines it."""
    return Attention.apply(q, k, v, scale, causal)


def gradients_of_attention(dout, q, k, v, scale, causal):
    """dq, dk and dv as autograd finds them, through attention()."""
    q, k, v = (t.detach().requires_grad_() for t in (q, k, v))
    return torch.autograd.grad(attention(q, k, v, scale, causal), (q, k, v), dout)
