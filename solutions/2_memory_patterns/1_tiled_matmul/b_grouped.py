"""Grouped ordering.

The tiled matmul again, its tiles numbered so that programs that run together share strips: of a and of b, in the L2.
"""

import torch
import triton
import triton.language as tl


@triton.jit
def matmul_kernel(
    a_ptr, b_ptr, c_ptr, m, n, k, stride_am, stride_ak, stride_bk, stride_bn,
    TILE_M: tl.constexpr, TILE_N: tl.constexpr, TILE_K: tl.constexpr, GROUP_M: tl.constexpr,
):  # fmt: skip
    # TODO: `tile_m` and `tile_n`, which tile of c this program makes. A group is GROUP_M rows of tiles; its tiles are
    # numbered down its columns, one column after the other, and groups follow each other from the top. The last group
    # may have fewer rows.
    ### BEGIN SOLUTION
    tiles_m, tiles_n = tl.cdiv(m, TILE_M), tl.cdiv(n, TILE_N)
    first = tl.program_id(0) // (GROUP_M * tiles_n) * GROUP_M
    height = min(tiles_m - first, GROUP_M)
    place = tl.program_id(0) % (GROUP_M * tiles_n)
    tile_m = first + place % height
    tile_n = place // height
    ### END SOLUTION
    # TODO: make that tile, with your own lines of 2.1a.
    ### BEGIN SOLUTION
    rows = tile_m.to(tl.int64) * TILE_M + tl.arange(0, TILE_M)
    columns = tile_n.to(tl.int64) * TILE_N + tl.arange(0, TILE_N)
    inner = tl.arange(0, TILE_K)
    a_ptrs = a_ptr + rows[:, None] * stride_am + inner[None, :] * stride_ak
    b_ptrs = b_ptr + inner[:, None] * stride_bk + columns[None, :] * stride_bn
    acc = tl.zeros((TILE_M, TILE_N), tl.float32)
    for start in range(0, k, TILE_K):
        a = tl.load(a_ptrs, mask=(rows < m)[:, None] & (inner < k - start)[None, :], other=0.0)
        b = tl.load(b_ptrs, mask=(inner < k - start)[:, None] & (columns < n)[None, :], other=0.0)
        acc = tl.dot(a, b, acc)
        a_ptrs += TILE_K * stride_ak
        b_ptrs += TILE_K * stride_bk
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
    TILE_M, TILE_N, TILE_K = 128, 128, 64
    # TODO: `GROUP_M`, the rows of tiles in a group: so many that a wave of programs, one a multiprocessor, loads as few
    # strips as can be. And `grid`, as in 2.1a.
    ### BEGIN SOLUTION
    GROUP_M = 8
    grid = (triton.cdiv(m, TILE_M) * triton.cdiv(n, TILE_N),)
    ### END SOLUTION
    if c.numel() > 0:
        matmul_kernel[grid](
            a, b, c, m, n, k, *a.stride(), *b.stride(),
            TILE_M=TILE_M, TILE_N=TILE_N, TILE_K=TILE_K, GROUP_M=GROUP_M, num_warps=8, num_stages=3,
        )  # fmt: skip
    return c
