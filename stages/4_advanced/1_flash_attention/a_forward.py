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
    tl.static_assert(False, "TODO 4.1a, blank 1")


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
    raise NotImplementedError("TODO 4.1a, blank 2")
