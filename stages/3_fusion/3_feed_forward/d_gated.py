"""Gated feed-forward.

The gate and the up projection as one product, in which their columns take turns: a tile of x is loaded once for both,
and SwiGLU halves the sums before anything is stored.
"""

import torch
import triton
import triton.language as tl
from triton.language.extra import libdevice


@triton.jit
def gated_kernel(
    x_ptr, w_ptr, out_ptr, m, n, k, stride_xm, stride_xk, stride_wn, stride_wk,
    TILE_M: tl.constexpr, TILE_N: tl.constexpr, TILE_K: tl.constexpr, GROUP_M: tl.constexpr,
):  # fmt: skip
    # TODO: one tile [TILE_M, TILE_N] of out, [m, n] and contiguous: silu(x @ gate.T) * (x @ up.T). x is [m, k]; gate is
    # the first n rows of w, up the n rows below. Each tile of x is loaded once for both. Tiles in groups of GROUP_M
    # rows, as in 3.3a; everything up to the store in fp32.
    tl.static_assert(False, "TODO 3.3d, blank 1")


def gated(x, w):
    """What a gated feed-forward network makes of x before its down projection: silu(x @ gate.T) * (x @ up.T).

    x: [m, k], w: [2 n, k], any strides, gate in its first n rows and up in the others; both fp16 or both bf16. Works in
    fp32 and rounds once. Returns [m, n], contiguous, the same dtype. Raises ValueError where shapes or dtypes do not go
    together.
    """
    (m, k), n = x.shape, w.shape[0] // 2
    if w.shape != (2 * n, k):
        raise ValueError(f"x {list(x.shape)} wants w [2 n, {k}], gate above up, not {list(w.shape)}")
    if x.dtype not in (torch.float16, torch.bfloat16) or x.dtype != w.dtype:
        raise ValueError(f"x and w are both fp16 or both bf16, not {x.dtype} and {w.dtype}")
    out = torch.empty((m, n), dtype=x.dtype, device=x.device)
    if out.numel() > 0:
        # TODO: launch gated_kernel, one program a tile. Choose the tile, the group, the warps and the stages: a program
        # has as many registers and as much shared memory as in 3.3a.
        raise NotImplementedError("TODO 3.3d, blank 2")
    return out
