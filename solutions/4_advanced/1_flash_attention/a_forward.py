"""Flash attention forward.

Attention in one kernel: a program keeps a strip of queries and walks along keys and values, a tile of scores at a time.
The scores are used up as they are made, by a softmax that does not wait for the end of a row; none is ever in memory.
"""

import math

import torch
import triton
import triton.language as tl

# the lowest fp32 number: where nothing was seen yet. Unlike -inf it may be subtracted from itself
LOWEST = tl.constexpr(torch.finfo(torch.float32).min)
LN_2 = tl.constexpr(math.log(2))


@triton.jit
def tokens_of(ptr, tokens, TILE: tl.constexpr, HEAD_DIM: tl.constexpr, TMA: tl.constexpr):
    """`tokens` tokens from ptr on, HEAD_DIM numbers each, of which load_tile loads TILE at a time."""
    return tl.make_tensor_descriptor(ptr, [tokens, HEAD_DIM], [HEAD_DIM, 1], [TILE, HEAD_DIM]) if TMA else ptr


@triton.jit
def tile_ptrs(ptr, start, TILE: tl.constexpr, HEAD_DIM: tl.constexpr):
    # 64 bits for where the tile begins, 32 for places in it
    ptr += tl.cast(start, tl.int64) * HEAD_DIM
    return ptr + tl.arange(0, TILE)[:, None] * HEAD_DIM + tl.arange(0, HEAD_DIM)[None, :]


@triton.jit
def load_tile(source, start, tokens, TILE: tl.constexpr, HEAD_DIM: tl.constexpr):
    """[TILE, HEAD_DIM]: the tokens from `start` on, and 0 past the last."""
    if isinstance(source, tl.tensor_descriptor):
        tile = source.load([start, 0])
    else:
        mask = tl.arange(0, TILE)[:, None] < tokens - start
        tile = tl.load(tile_ptrs(source, start, TILE, HEAD_DIM), mask=mask, other=0.0)
    return tile


@triton.jit
def flash_attention_kernel(
    q_ptr, k_ptr, v_ptr, out_ptr, lse_ptr, heads, tokens, scale_log2,
    TILE_Q: tl.constexpr, TILE_K: tl.constexpr, HEAD_DIM: tl.constexpr,
    RAGGED: tl.constexpr, TMA: tl.constexpr, WARP_SPECIALIZE: tl.constexpr,
):  # fmt: skip
    # TODO: out and lse of TILE_Q queries of one head, from all of its keys and values, TILE_K at a time. All tensors
    # are contiguous, [heads, tokens, HEAD_DIM], lse [heads, tokens]; `heads` are those of all batches.
    # scale_log2 is scale * log2(e), above 0. RAGGED: whether the last tile of keys has some that do not exist. TMA is
    # for tokens_of, WARP_SPECIALIZE for tl.range. Compute in fp32; no NaN from scores of -inf. Programs that run
    # together should want the same keys.
    ### BEGIN SOLUTION
    strips = tl.cdiv(tokens, TILE_Q)
    # the strips of a head are neighbours: they run together and find its keys and values in the L2
    head, first = tl.program_id(0) // strips, tl.program_id(0) % strips * TILE_Q
    base = head.to(tl.int64) * tokens * HEAD_DIM
    keys = tokens_of(k_ptr + base, tokens, TILE_K, HEAD_DIM, TMA)
    values = tokens_of(v_ptr + base, tokens, TILE_K, HEAD_DIM, TMA)
    # counted through all heads: a tile may hold queries of the next one, but only its own are stored. And a scalar of
    # its own: specialised warps share the rows of a tile, and where `first` is q's coordinate, Triton (3.6, 3.7) moves
    # it for all who use it
    queries = tokens_of(q_ptr, heads * tokens, TILE_Q, HEAD_DIM, TMA)
    q = load_tile(queries, head * tokens + first, heads * tokens, TILE_Q, HEAD_DIM)
    top = tl.full((TILE_Q,), LOWEST, tl.float32)
    total = tl.zeros((TILE_Q,), tl.float32)
    acc = tl.zeros((TILE_Q, HEAD_DIM), tl.float32)
    for start in tl.range(0, tokens, TILE_K, warp_specialize=WARP_SPECIALIZE):
        k = load_tile(keys, start, tokens, TILE_K, HEAD_DIM)
        scores = tl.dot(q, k.T)
        if RAGGED:
            scores = tl.where((tl.arange(0, TILE_K) < tokens - start)[None, :], scores, float("-inf"))
        # scaled in the exponent: there it is one multiply-add with the subtraction
        higher = tl.maximum(top, tl.max(scores, 1) * scale_log2)
        exps = tl.exp2(scores * scale_log2 - higher[:, None])
        shrink = tl.exp2(top - higher)
        top = higher
        total = total * shrink + tl.sum(exps, 1)
        v = load_tile(values, start, tokens, TILE_K, HEAD_DIM)
        acc = tl.dot(exps.to(v.dtype), v, acc * shrink[:, None])
    # a row of -inf only has acc and total 0: its result is 0, and its lse LOWEST + log2(0)
    out = acc * (1 / tl.where(total == 0, 1.0, total))[:, None]
    rows = first + tl.arange(0, TILE_Q)
    tl.store(tile_ptrs(out_ptr + base, first, TILE_Q, HEAD_DIM), out, mask=(rows < tokens)[:, None])
    tl.store(lse_ptr + head.to(tl.int64) * tokens + rows, (top + tl.log2(total)) * LN_2, mask=rows < tokens)
    ### END SOLUTION


def flash_attention(q, k, v, scale):
    """softmax(scale * q @ k.mT) @ v for each head, and the logarithm of what the softmax divides by.

    q, k, v: [batch, heads, tokens, head_dim], alike, contiguous, all fp16 or all bf16; head_dim 64 or 128. scale:
    above 0. Accumulates in fp32; the weights are rounded to 16 bits before they meet v. Returns out, contiguous, of the
    shape and dtype of q; and lse [batch, heads, tokens], fp32: of each query log(sum(exp(scale * q @ k.mT))), the
    natural logarithm. A row of scores that are all -inf has out 0 and lse -inf; one that has a NaN or inf is NaN.
    Allocates nothing else, whatever the number of tokens. Raises ValueError where shapes, dtypes, strides or scale do
    not fit. Source: Dao et al., FlashAttention, arXiv:2205.14135 (2022); the loop of Dao, FlashAttention-2,
    arXiv:2307.08691 (2023), algorithm 1.
    """
    if q.dim() != 4 or not q.shape == k.shape == v.shape:
        shapes = f"q is {list(q.shape)}, k {list(k.shape)}, v {list(v.shape)}"
        raise ValueError(f"{shapes}: they have to be alike, [batch, heads, tokens, head_dim]")
    if q.dtype not in (torch.float16, torch.bfloat16) or {k.dtype, v.dtype} != {q.dtype}:
        raise ValueError(f"q is {q.dtype}, k {k.dtype}, v {v.dtype}: all have to be float16, or all bfloat16")
    if not (q.is_contiguous() and k.is_contiguous() and v.is_contiguous()):
        raise ValueError("q, k and v have to be contiguous: for other strides there is 4.1b")
    batch, heads, tokens, head_dim = q.shape
    if head_dim not in (64, 128):
        raise ValueError(f"head_dim is {head_dim}: it has to be 64 or 128")
    if scale <= 0:
        raise ValueError(f"scale is {scale}: it has to be above 0; for one below, negate q")
    # TODO: allocate out and lse; choose tiles, warps and stages for the GPU at hand; give Triton an allocator, without
    # which no descriptor can be made on a GPU; launch the kernel. TMA is for compute capability 9 and 10, which
    # torch.cuda.get_device_properties(q.device).major tells even without a GPU, and for q, k and v that begin at a
    # multiple of 16 bytes. All tiles together have to fit 227 KB there, 99 KB elsewhere.
    ### BEGIN SOLUTION
    out = torch.empty_like(q)
    lse = torch.empty((batch, heads, tokens), dtype=torch.float32, device=q.device)
    hopper = torch.cuda.get_device_properties(q.device).major in (9, 10)
    TMA = hopper and all(t.data_ptr() % 16 == 0 for t in (q, k, v))
    # descriptors are made by each program, in memory that Triton asks for here
    triton.set_allocator(lambda size, alignment, stream: torch.empty(size, dtype=torch.int8, device=q.device))
    if TMA and head_dim == 128:
        TILE_Q, TILE_K, num_warps, num_stages = 128, 128, 4, 2
    elif TMA:
        TILE_Q, TILE_K, num_warps, num_stages = 64, 128, 4, 2
    else:
        TILE_Q, TILE_K, num_warps, num_stages = 128, 64, 8, 2
    if out.numel() > 0:
        flash_attention_kernel[(batch * heads * triton.cdiv(tokens, TILE_Q),)](
            q, k, v, out, lse, batch * heads, tokens, scale * math.log2(math.e),
            TILE_Q=TILE_Q, TILE_K=TILE_K, HEAD_DIM=head_dim, RAGGED=tokens % TILE_K > 0,
            TMA=TMA, WARP_SPECIALIZE=TMA and head_dim == 128, num_warps=num_warps, num_stages=num_stages,
        )  # fmt: skip
    return out, lse
    ### END SOLUTION
