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
    ### BEGIN SOLUTION
    columns = tile * TILE_N + tl.arange(0, TILE_N)
    acc = tl.zeros((TILE_M, TILE_N), tl.float32)
    for start in range(part * TILE_M, m, parts * TILE_M):
        rows = start + tl.arange(0, TILE_M)
        mask = (rows < m)[:, None] & (columns < n)[None, :]
        x = tl.load(x_ptr + rows[:, None] * stride_m + columns[None, :] * stride_n, mask=mask, other=0.0)
        # element by element: the rows of a tile meet once, behind the loop
        acc += x.to(tl.float32)
    tl.store(out_ptr + part * n + columns, tl.sum(acc, 0), mask=columns < n)
    ### END SOLUTION


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
    ### BEGIN SOLUTION
    TILE_M, TILE_N = 32, 128
    tiles = triton.cdiv(n, TILE_N)
    # 8 tiles for each program, and about 1024 programs: numbers that no device changes, or the bits would change too
    parts = max(1, min(triton.cdiv(m, 8 * TILE_M), triton.cdiv(1024, tiles)))
    partial = torch.empty((parts, n), dtype=torch.float32, device=x.device)
    column_sums_kernel[(tiles, parts)](x, partial, m, n, *x.stride(), TILE_M=TILE_M, TILE_N=TILE_N)
    column_sums_kernel[(tiles, 1)](partial, out, parts, n, *partial.stride(), TILE_M=TILE_M, TILE_N=TILE_N)
    return out
    ### END SOLUTION
