"""Column sums.

Every program adds up a few neighbouring columns over a share of the rows, tile by tile; a second launch adds up the
shares. Each tile is read in whole sectors, and the order of the additions is fixed.
"""

import torch
import triton
import triton.language as tl


@triton.jit
def column_sums_kernel(x_ptr, out_ptr, m, n, stride_m, stride_n, TILE_M: tl.constexpr, TILE_N: tl.constexpr):
    # program (tile, part) takes TILE_N columns, and of each `parts` * TILE_M rows the TILE_M that are its part
    tile = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1).to(tl.int64)
    parts = tl.num_programs(1)
    # TODO: add up the columns of this program's tiles of x in fp32, and store the sums to row `part` of out, which is
    # contiguous and has n columns.
    tl.static_assert(False, "TODO 2.2c, blank 1")


def column_sums(x):
    """The sum of each column.

    x: [m, n], any strides (0 too), fp32, fp16 or bf16; where m is 0 the sums are 0. Adds in fp32.
    Returns [n], the same dtype, the same bits every time.
    """
    m, n = x.shape
    out = torch.empty(n, dtype=x.dtype, device=x.device)
    if n == 0:
        return out
    # TODO: TILE_M, TILE_N, and `parts`, the number of programs that share a column; then two launches of the kernel:
    # from x to `partial`, a row of sums for each part, and from `partial` to out.
    raise NotImplementedError("TODO 2.2c, blank 2")
