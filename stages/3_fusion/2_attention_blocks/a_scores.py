"""Scores.

Scaled q @ k.mT for every head of a batch, wherever the heads lie. A program keeps a strip of queries and walks along
the keys: what it writes is far more than all that it reads.
"""

import torch
import triton
import triton.language as tl


@triton.jit
def scores_kernel(
    q_ptr, k_ptr, scores_ptr, heads, queries, keys, head_dim, scale,
    stride_qb, stride_qh, stride_qs, stride_qd, stride_kb, stride_kh, stride_ks, stride_kd,
    TILE_Q: tl.constexpr, TILE_K: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    # TODO: the scores of TILE_Q queries of one head with all of its keys, TILE_K keys at a time. BLOCK_D is at least
    # head_dim. q and k are [batch, heads, tokens, head_dim] with the strides stride_*b, _h, _s, _d; the scores are
    # contiguous, [batch, heads, queries, keys]. Accumulate and scale in fp32; load each query once. Programs that run
    # together should want the same keys.
    tl.static_assert(False, "TODO 3.2a, blank 1")


def scores(q, k, scale):
    """The scores of attention: scale * q @ k.mT for each head.

    q: [batch, heads, queries, head_dim], k: [batch, heads, keys, head_dim], head_dim <= 256, both fp16 or both bf16.
    Any strides: tokens that hold their heads side by side, transposed; heads that share one, of stride 0. Accumulates
    and scales in fp32. Returns [batch, heads, queries, keys], contiguous, the same dtype. Raises ValueError where
    shapes or dtypes do not fit.
    """
    if q.dim() != 4 or (*k.shape[:2], *k.shape[3:]) != (*q.shape[:2], q.shape[3]):
        raise ValueError(f"q is {list(q.shape)}, k {list(k.shape)}: 4 sizes each, of which only the third may differ")
    if q.dtype not in (torch.float16, torch.bfloat16) or k.dtype != q.dtype:
        raise ValueError(f"q is {q.dtype}, k {k.dtype}: both have to be float16, or both bfloat16")
    batch, heads, queries, head_dim = q.shape
    keys = k.shape[2]
    if head_dim > 256:
        raise ValueError(f"head_dim is {head_dim}, at most 256 are allowed")
    # TODO: allocate `out`, choose the tiles, launch the kernel, one program for TILE_Q queries of a head. A block of
    # tl.dot has at least 16 on each side. All tiles together have to fit 99 KB of shared memory, for any head_dim.
    raise NotImplementedError("TODO 3.2a, blank 2")
