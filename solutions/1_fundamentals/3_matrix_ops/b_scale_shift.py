"""Scale and shift.

A row and a column, broadcast over a matrix: every program works on one tile, and stretches its pieces of the row and of
the column in registers, not in memory.
"""

import torch
import triton
import triton.language as tl


@triton.jit
def scale_shift_kernel(
    x_ptr, row_ptr, column_ptr, out_ptr, m, n, stride_m, stride_n, stride_row, stride_column,
    TILE_M: tl.constexpr, TILE_N: tl.constexpr,
):  # fmt: skip
    # TODO: `rows` [TILE_M] and `columns` [TILE_N] of this program's tile, in 64 bits, and `mask` [TILE_M, TILE_N].
    # Number the tiles along the rows of x this time, so that programs that run together fill whole rows of out.
    ### BEGIN SOLUTION
    tiles_n = tl.cdiv(n, TILE_N)
    rows = (tl.program_id(0) // tiles_n).to(tl.int64) * TILE_M + tl.arange(0, TILE_M)
    columns = (tl.program_id(0) % tiles_n).to(tl.int64) * TILE_N + tl.arange(0, TILE_N)
    mask = (rows < m)[:, None] & (columns < n)[None, :]
    ### END SOLUTION
    # TODO: `x` [TILE_M, TILE_N], `row` [TILE_N] and `column` [TILE_M], loaded and converted to fp32.
    ### BEGIN SOLUTION
    x = tl.load(x_ptr + rows[:, None] * stride_m + columns[None, :] * stride_n, mask=mask).to(tl.float32)
    row = tl.load(row_ptr + columns * stride_row, mask=columns < n).to(tl.float32)
    column = tl.load(column_ptr + rows * stride_column, mask=rows < m).to(tl.float32)
    ### END SOLUTION
    # TODO: `out` [TILE_M, TILE_N]: x times the row, plus the column.
    ### BEGIN SOLUTION
    out = x * row[None, :] + column[:, None]
    ### END SOLUTION
    tl.store(out_ptr + rows[:, None] * n + columns[None, :], out, mask=mask)  # rounds to out's dtype


def scale_shift(x, row, column):
    """out[i, j] = x[i, j] * row[j] + column[i], computed in fp32 and rounded once.

    x: [m, n], row: [n], column: [m], any strides (0 too), one dtype (fp32, fp16 or bf16).
    Returns [m, n], contiguous, the same dtype.
    """
    m, n = x.shape
    out = torch.empty((m, n), dtype=x.dtype, device=x.device)
    if x.numel() > 0:
        TILE_M, TILE_N = 16, 256
        strides = *x.stride(), *row.stride(), *column.stride()
        # TODO: launch the kernel, one program a tile, in one dimension.
        ### BEGIN SOLUTION
        grid = (triton.cdiv(m, TILE_M) * triton.cdiv(n, TILE_N),)
        scale_shift_kernel[grid](x, row, column, out, m, n, *strides, TILE_M=TILE_M, TILE_N=TILE_N)
        ### END SOLUTION
    return out
