"""Weighted values.

p @ v for every head of a batch. A program takes the whole width of a head, so that p, by far the largest of the three,
is read once; the result is laid out as tokens are, their heads side by side.
"""

import torch
import triton
import triton.language as tl


@triton.jit
def weighted_values_kernel(
    p_ptr, v_ptr, out_ptr, heads, queries, keys, head_dim,
    stride_pb, stride_ph, stride_pq, stride_pk, stride_vb, stride_vh, stride_vs, stride_vd,
    TILE_Q: tl.constexpr, TILE_K: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    # TODO: TILE_Q rows of p @ v of one head, over TILE_K keys at a time. BLOCK_D is at least head_dim. p is [batch,
    # heads, queries, keys] and v [batch, heads, keys, head_dim], with the strides given; out is contiguous, [batch,
    # queries, heads, head_dim]. Accumulate in fp32; load each weight once. Programs that run together should want the
    # same values.
    ### BEGIN SOLUTION
    strips = tl.cdiv(queries, TILE_Q)
    # the strips of a head are neighbours: they run together and find its values in the L2
    batch = (tl.program_id(0) // strips // heads).to(tl.int64)
    head = (tl.program_id(0) // strips % heads).to(tl.int64)
    rows = (tl.program_id(0) % strips).to(tl.int64) * TILE_Q + tl.arange(0, TILE_Q)
    columns, inner = tl.arange(0, BLOCK_D), tl.arange(0, TILE_K)
    p_ptr += batch * stride_pb + head * stride_ph
    v_ptr += batch * stride_vb + head * stride_vh
    p_ptrs = p_ptr + rows[:, None] * stride_pq + inner[None, :] * stride_pk
    v_ptrs = v_ptr + inner[:, None] * stride_vs + columns[None, :] * stride_vd
    acc = tl.zeros((TILE_Q, BLOCK_D), tl.float32)
    for start in range(0, keys, TILE_K):
        p = tl.load(p_ptrs, mask=(rows < queries)[:, None] & (inner < keys - start)[None, :], other=0.0)
        v = tl.load(v_ptrs, mask=(inner < keys - start)[:, None] & (columns < head_dim)[None, :], other=0.0)
        acc = tl.dot(p, v, acc)
        p_ptrs += TILE_K * stride_pk
        v_ptrs += TILE_K * stride_vs
    out_ptrs = out_ptr + ((batch * queries + rows) * heads + head)[:, None] * head_dim + columns[None, :]
    tl.store(out_ptrs, acc, mask=(rows < queries)[:, None] & (columns < head_dim)[None, :])
    ### END SOLUTION


def weighted_values(p, v):
    """The values of attention, weighted: p @ v for each head, the heads of a token side by side.

    p: [batch, heads, queries, keys], v: [batch, heads, keys, head_dim], head_dim <= 256, any strides, both fp16 or
    both bf16. Accumulates in fp32. Returns [batch, queries, heads, head_dim], contiguous, the same dtype: what the next
    layer reads as [batch, queries, heads * head_dim]. Raises ValueError where shapes or dtypes do not fit.
    """
    if p.dim() != 4 or v.shape[:3] != (*p.shape[:2], p.shape[3]) or v.dim() != 4:
        raise ValueError(f"p is {list(p.shape)}, v {list(v.shape)}: 4 sizes each, batch, heads and keys the same")
    if p.dtype not in (torch.float16, torch.bfloat16) or v.dtype != p.dtype:
        raise ValueError(f"p is {p.dtype}, v {v.dtype}: both have to be float16, or both bfloat16")
    batch, heads, queries, keys = p.shape
    head_dim = v.shape[3]
    if head_dim > 256:
        raise ValueError(f"head_dim is {head_dim}, at most 256 are allowed")
    # TODO: allocate `out`, choose the tiles, launch the kernel, one program for TILE_Q queries of a head. All tiles
    # together have to fit 99 KB of shared memory, for any head_dim.
    ### BEGIN SOLUTION
    out = torch.empty((batch, queries, heads, head_dim), dtype=p.dtype, device=p.device)
    BLOCK_D = max(16, triton.next_power_of_2(head_dim))
    # bytes at 128 wide, each of three stages: p 16 K, v 16 K
    TILE_Q, TILE_K = (128, 64) if BLOCK_D <= 128 else (64, 32)
    grid = (batch * heads * triton.cdiv(queries, TILE_Q),)
    if out.numel() > 0:
        weighted_values_kernel[grid](
            p, v, out, heads, queries, keys, head_dim, *p.stride(), *v.stride(),
            TILE_Q=TILE_Q, TILE_K=TILE_K, BLOCK_D=BLOCK_D, num_warps=8, num_stages=3,
        )  # fmt: skip
    return out
    ### END SOLUTION
