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
    ### BEGIN SOLUTION
    strips = tl.cdiv(queries, TILE_Q)
    # the strips of a head are neighbours: they run together and find its keys in the L2
    batch = (tl.program_id(0) // strips // heads).to(tl.int64)
    head = (tl.program_id(0) // strips % heads).to(tl.int64)
    rows = (tl.program_id(0) % strips).to(tl.int64) * TILE_Q + tl.arange(0, TILE_Q)
    columns, inner = tl.arange(0, TILE_K), tl.arange(0, BLOCK_D)
    q_ptr += batch * stride_qb + head * stride_qh
    k_ptr += batch * stride_kb + head * stride_kh
    q_ptrs = q_ptr + rows[:, None] * stride_qs + inner[None, :] * stride_qd
    k_ptrs = k_ptr + inner[:, None] * stride_kd + columns[None, :] * stride_ks
    scores_ptrs = scores_ptr + ((batch * heads + head) * queries + rows)[:, None] * keys + columns[None, :]
    q = tl.load(q_ptrs, mask=(rows < queries)[:, None] & (inner < head_dim)[None, :], other=0.0)
    for start in range(0, keys, TILE_K):
        k = tl.load(k_ptrs, mask=(inner < head_dim)[:, None] & (columns < keys - start)[None, :], other=0.0)
        scores = tl.dot(q, k) * scale
        tl.store(scores_ptrs, scores, mask=(rows < queries)[:, None] & (columns < keys - start)[None, :])
        k_ptrs += TILE_K * stride_ks
        scores_ptrs += TILE_K
    ### END SOLUTION


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
    ### BEGIN SOLUTION
    out = torch.empty((batch, heads, queries, keys), dtype=q.dtype, device=q.device)
    BLOCK_D = max(16, triton.next_power_of_2(head_dim))
    # bytes at 128 wide: q 32 K, the keys of three stages 48 K, the scores on their way out 16 K
    TILE_Q, TILE_K = (128, 64) if BLOCK_D <= 128 else (64, 32)
    grid = (batch * heads * triton.cdiv(queries, TILE_Q),)
    if out.numel() > 0:
        scores_kernel[grid](
            q, k, out, heads, queries, keys, head_dim, scale, *q.stride(), *k.stride(),
            TILE_Q=TILE_Q, TILE_K=TILE_K, BLOCK_D=BLOCK_D, num_warps=8, num_stages=3,
        )  # fmt: skip
    return out
    ### END SOLUTION
