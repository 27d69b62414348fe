"""Transpose.

Every program reads one tile of the matrix and stores it where the transposed one has it: both in whole sectors.
"""

import torch
import triton
import triton.language as tl


@triton.jit
def transpose_kernel(x_ptr, out_ptr, m, n, stride_m, stride_n, TILE_M: tl.constexpr, TILE_N: tl.constexpr):
    # tiles are numbered down the columns of x: programs that run together then fill whole rows of out
    tiles_m = tl.cdiv(m, TILE_M)
    tile_m = (tl.program_id(0) % tiles_m).to(tl.int64)
    tile_n = (tl.program_id(0) // tiles_m).to(tl.int64)
    # TODO: `rows` [TILE_M] and `columns` [TILE_N], the indices in x of this tile's rows and columns, and
    # `mask` [TILE_M, TILE_N], true where an element of the tile lies in x.
    tl.static_assert(False, "TODO 1.3a, blank 1")
    # TODO: load the tile from x, which has the strides stride_m and stride_n; store it to out, which is
    # contiguous, [n, m], and has at row j, column i what x has at row i, column j.
    tl.static_assert(False, "TODO 1.3a, blank 2")


def transpose(x):
    """x transposed, laid out anew.

    x: [m, n], any strides (0 too), fp32, fp16, bf16 or int8. Returns [n, m], contiguous, the same dtype.
    """
    m, n = x.shape
    out = torch.empty((n, m), dtype=x.dtype, device=x.device)
    TILE_M, TILE_N = 64, 64
    # TODO: `grid`: one program a tile, in one dimension.
    raise NotImplementedError("TODO 1.3a, blank 3")
    if x.numel() > 0:
        transpose_kernel[grid](x, out, m, n, *x.stride(), TILE_M=TILE_M, TILE_N=TILE_N, num_warps=8)
    return out
