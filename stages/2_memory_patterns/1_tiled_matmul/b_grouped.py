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
    tl.static_assert(False, "TODO 2.1b, blank 1")
    # TODO: make that tile, with your own lines of 2.1a.
    tl.static_assert(False, "TODO 2.1b, blank 2")


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
    raise NotImplementedError("TODO 2.1b, blank 3")
    if c.numel() > 0:
        matmul_kernel[grid](
            a, b, c, m, n, k, *a.stride(), *b.stride(),
            TILE_M=TILE_M, TILE_N=TILE_N, TILE_K=TILE_K, GROUP_M=GROUP_M, num_warps=8, num_stages=3,
        )  # fmt: skip
    return c
