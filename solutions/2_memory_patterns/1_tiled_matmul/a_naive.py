"""Tiled matmul.

Every program makes one tile of the product, from a strip of rows of a and a strip of columns of b.
"""

import torch
import triton
import triton.language as tl


@triton.jit
def matmul_kernel(
    a_ptr, b_ptr, c_ptr, m, n, k, stride_am, stride_ak, stride_bk, stride_bn,
    TILE_M: tl.constexpr, TILE_N: tl.constexpr, TILE_K: tl.constexpr,
):  # fmt: skip
    tiles_n = tl.cdiv(n, TILE_N)
    tile_m = tl.program_id(0) // tiles_n
    tile_n = tl.program_id(0) % tiles_n
    rows = tile_m.to(tl.int64) * TILE_M + tl.arange(0, TILE_M)
    columns = tile_n.to(tl.int64) * TILE_N + tl.arange(0, TILE_N)
    inner = tl.arange(0, TILE_K)
    # TODO: `a_ptrs` [TILE_M, TILE_K] and `b_ptrs` [TILE_K, TILE_N], the addresses of the first tile of either strip:
    # of a at `rows` and `inner`, of b at `inner` and `columns`.
    ### BEGIN SOLUTION
    a_ptrs = a_ptr + rows[:, None] * stride_am + inner[None, :] * stride_ak
    b_ptrs = b_ptr + inner[:, None] * stride_bk + columns[None, :] * stride_bn
    ### END SOLUTION
    # fp32: in bf16 a sum of thousands of products would lose all but its first digits
    acc = tl.zeros((TILE_M, TILE_N), tl.float32)
    # TODO: walk along k, TILE_K at a time: load a tile of a and a tile of b, add their product to `acc`, and go on to
    # the next. What lies outside of a or b counts as 0.
    ### BEGIN SOLUTION
    for start in range(0, k, TILE_K):
        a = tl.load(a_ptrs, mask=(rows < m)[:, None] & (inner < k - start)[None, :], other=0.0)
        b = tl.load(b_ptrs, mask=(inner < k - start)[:, None] & (columns < n)[None, :], other=0.0)
        acc = tl.dot(a, b, acc)
        a_ptrs += TILE_K * stride_ak
        b_ptrs += TILE_K * stride_bk
    ### END SOLUTION
    # TODO: store the tile to c, which is contiguous, [m, n]. tl.store converts it to c's dtype.
    ### BEGIN SOLUTION
    c_ptrs = c_ptr + rows[:, None] * n + columns[None, :]
    tl.store(c_ptrs, acc, mask=(rows < m)[:, None] & (columns < n)[None, :])
    ### END SOLUTION


def matmul(a, b):
    """The product a @ b.

    a: [m, k], b: [k, n], any strides, both fp16 or both bf16. Accumulates in fp32. Returns [m, n], contiguous, the
    same dtype; zeros where k is 0.
    """
    (m, k), n = a.shape, b.shape[1]
    c = torch.empty((m, n), dtype=a.dtype, device=a.device)
    # 96 KB of tiles under way at three stages: what the smallest of our GPUs has
    TILE_M, TILE_N, TILE_K = 128, 128, 64
    # TODO: `grid`: one program a tile of c, in one dimension.
    ### BEGIN SOLUTION
    grid = (triton.cdiv(m, TILE_M) * triton.cdiv(n, TILE_N),)
    ### END SOLUTION
    if c.numel() > 0:
        matmul_kernel[grid](
            a, b, c, m, n, k, *a.stride(), *b.stride(),
            TILE_M=TILE_M, TILE_N=TILE_N, TILE_K=TILE_K, num_warps=8, num_stages=3,
        )  # fmt: skip
    return c
