"""Causal flash attention, of real shapes.

Tiles that are masked throughout are not even loaded, and only those that a mask cuts are masked. Heads of queries share
heads of keys, queries and keys differ in number, heads have any width up to 128, and tensors lie as layers leave them.
"""

import math

import torch
import triton
import triton.language as tl

# the lowest fp32 number: where nothing was seen yet. Unlike -inf it may be subtracted from itself
LOWEST = tl.constexpr(torch.finfo(torch.float32).min)
LN_2 = tl.constexpr(math.log(2))


@triton.jit
def tokens_of(
    ptr, strides, batch, head, tokens, head_dim, TILE: tl.constexpr, BLOCK_D: tl.constexpr, TMA: tl.constexpr
):
    """One head of [batch, heads, tokens, head_dim], of which tiles [TILE, BLOCK_D] are loaded or stored."""
    ptr += batch * strides[0] + head * strides[1]
    return tl.make_tensor_descriptor(ptr, [tokens, head_dim], [strides[2], 1], [TILE, BLOCK_D]) if TMA else ptr


@triton.jit
def tile_ptrs(ptr, strides, start, TILE: tl.constexpr, BLOCK_D: tl.constexpr):
    # 64 bits for where the tile begins, 32 for places in it
    ptr += tl.cast(start, tl.int64) * strides[2]
    return ptr + tl.arange(0, TILE)[:, None] * strides[2] + tl.arange(0, BLOCK_D)[None, :] * strides[3]


@triton.jit
def load_tile(source, strides, start, tokens, head_dim, TILE: tl.constexpr, BLOCK_D: tl.constexpr):
    """[TILE, BLOCK_D]: the tokens from `start` on, and 0 past the last and past their width."""
    if isinstance(source, tl.tensor_descriptor):
        tile = source.load([start, 0])
    else:
        mask = (tl.arange(0, TILE) < tokens - start)[:, None] & (tl.arange(0, BLOCK_D) < head_dim)[None, :]
        tile = tl.load(tile_ptrs(source, strides, start, TILE, BLOCK_D), mask=mask, other=0.0)
    return tile


@triton.jit
def store_tile(target, strides, tile, start, tokens, head_dim, TILE: tl.constexpr, BLOCK_D: tl.constexpr):
    """Stores a tile, from token `start` on, but for what lies past the last token or past their width."""
    if isinstance(target, tl.tensor_descriptor):
        target.store([start, 0], tile)
    else:
        mask = (tl.arange(0, TILE) < tokens - start)[:, None] & (tl.arange(0, BLOCK_D) < head_dim)[None, :]
        tl.store(tile_ptrs(target, strides, start, TILE, BLOCK_D), tile, mask=mask)


@triton.jit
def walk(
    q, keys_of, values_of, k_strides, v_strides, acc, top, total,
    begin, end, first, queries, keys, head_dim, scale_log2,
    TILE_Q: tl.constexpr, TILE_K: tl.constexpr, BLOCK_D: tl.constexpr, MASKED: tl.constexpr, CAUSAL: tl.constexpr,
):  # fmt: skip
    # TODO: acc, top and total after the keys from `begin` to `end`, TILE_K at a time: the loop of 4.1a. MASKED: whether
    # some of these keys do not exist, or are not seen by some query. The queries are those from `first` on.
    tl.static_assert(False, "TODO 4.1b, blank 1")


@triton.jit
def flash_attention_kernel(
    q_ptr, k_ptr, v_ptr, out_ptr, lse_ptr, q_strides, k_strides, v_strides, out_strides,
    all_heads, heads, shared, queries, keys, head_dim, scale_log2,
    TILE_Q: tl.constexpr, TILE_K: tl.constexpr, BLOCK_D: tl.constexpr, GROUP: tl.constexpr,
    CAUSAL: tl.constexpr, TMA: tl.constexpr,
):  # fmt: skip
    # TODO: out and lse of TILE_Q queries of one head, from the keys that they see: first the tiles that all of them see
    # throughout, then those that are cut. There are `all_heads` of queries, `heads` in a batch, and `shared` in a row
    # share a head of keys and values. BLOCK_D is at least head_dim. lse is contiguous. Take GROUP heads at a time: of
    # these, what takes longest should begin first.
    tl.static_assert(False, "TODO 4.1b, blank 2")


def describable(t):
    """Whether a descriptor can say how the tokens of t lie: 16-byte steps from a 16-byte address, numbers adjacent."""
    steps = [stride * t.element_size() for stride in t.stride()[:3]]
    aligned = t.data_ptr() % 16 == 0 and all(step % 16 == 0 for step in steps)
    return t.numel() > 0 and aligned and steps[2] > 0 and t.stride(3) == 1


def flash_attention(q, k, v, scale, causal):
    """softmax(scale * q @ k.mT) @ v for each head, of the keys that a query sees, and what the softmax divides by.

    q: [batch, heads, queries, head_dim], k, v: [batch, key_heads, keys, head_dim], any strides, all fp16 or all bf16;
    1 <= head_dim <= 128, and heads a multiple of key_heads: query head h sees key head h // (heads // key_heads).
    causal: query i sees no key after i + keys - queries, so that the last one sees all. scale: above 0. Values that a
    query does not see have to be finite, as in torch. Accumulates in fp32. Returns out, contiguous, of the shape and
    dtype of q; and lse [batch, heads, queries], fp32, the natural logarithm of the sum of exp(scale * q @ k.mT). Where
    a query sees no key, or only scores of -inf, out is 0 and lse -inf; a NaN or inf among them gives NaN. Copies and
    allocates nothing else. Raises ValueError where shapes, dtypes or scale do not fit. Source: Dao, FlashAttention-2,
    arXiv:2307.08691 (2023), section 3.1.
    """
    if q.dim() != 4 or k.dim() != 4 or k.shape != v.shape or (k.shape[0], k.shape[3]) != (q.shape[0], q.shape[3]):
        shapes = f"q is {list(q.shape)}, k {list(k.shape)}, v {list(v.shape)}"
        raise ValueError(f"{shapes}: 4 sizes each, k and v the same, q's batch and head_dim the same as theirs")
    if q.dtype not in (torch.float16, torch.bfloat16) or {k.dtype, v.dtype} != {q.dtype}:
        raise ValueError(f"q is {q.dtype}, k {k.dtype}, v {v.dtype}: all have to be float16, or all bfloat16")
    batch, heads, queries, head_dim = q.shape
    key_heads, keys = k.shape[1:3]
    if heads != key_heads and (key_heads == 0 or heads % key_heads):
        raise ValueError(f"q has {heads} heads, k and v {key_heads}: theirs have to divide q's")
    if not 1 <= head_dim <= 128:
        raise ValueError(f"head_dim is {head_dim}: it has to be from 1 to 128")
    if scale <= 0:
        raise ValueError(f"scale is {scale}: it has to be above 0; for one below, negate q")
    # TODO: allocate out and lse; choose tiles, warps and stages for the GPU at hand; launch the kernel. TMA needs
    # compute capability 9 or 10, as in 4.1a, and tensors that are describable. All tiles together have to fit 227 KB
    # there, 99 KB elsewhere, for any head_dim.
    raise NotImplementedError("TODO 4.1b, blank 3")
