"""Column softmax.

Tiles of a row-major matrix are read in whole sectors. Its rows are cut into chunks: one launch finds the maximum and
the sum of every column of every chunk, a second one merges those of a column and writes.
"""

import torch
import triton
import triton.language as tl

# the lowest fp32 number: where nothing was seen yet. Unlike -inf it may be subtracted from itself
LOWEST = tl.constexpr(torch.finfo(torch.float32).min)


@triton.jit
def exp(a):
    # 2**(a * log2(e)): tl.exp is the same and three instructions more, for results below 2**-126
    return tl.exp2(a * 1.4426950408889634)


@triton.jit
def merge(tops, totals):
    """Of groups of numbers, [GROUPS, TILE_N], the maximum and the sum of exp(x - maximum): both of each column.

    A group in which there is nothing has LOWEST and 0.
    """
    # TODO: `top` and `total`, [TILE_N], of all groups of a column together; the lesson derives the rule.
    ### BEGIN SOLUTION
    top = tl.max(tops, 0)
    total = tl.sum(totals * exp(tops - top[None, :]), 0)
    ### END SOLUTION
    return top, total


@triton.jit
def stats_kernel(
    x_ptr, top_ptr, total_ptr, m, n, stride_m, CHUNKS: tl.constexpr, TILE_M: tl.constexpr, TILE_N: tl.constexpr
):
    columns = tl.program_id(0).to(tl.int64) * TILE_N + tl.arange(0, TILE_N)
    chunk = tl.program_id(1).to(tl.int64)
    chunk_rows = tl.cdiv(m, CHUNKS * TILE_M) * TILE_M
    first = chunk * chunk_rows
    # TODO: `top` and `total`, [TILE_N]: the maximum of each of these columns, and its sum of exp(x - top), over the
    # chunk_rows rows from `first` on, TILE_M at a step, in fp32. Rows and columns past the end must change nothing.
    ### BEGIN SOLUTION
    # a maximum and a sum for each element of the tile: threads need not talk to each other before the end
    tops = tl.full((TILE_M, TILE_N), LOWEST, tl.float32)
    totals = tl.zeros((TILE_M, TILE_N), tl.float32)
    for step in range(0, chunk_rows, TILE_M):
        rows = first + step + tl.arange(0, TILE_M)
        mask = (rows < m)[:, None] & (columns < n)[None, :]
        x_ptrs = x_ptr + rows[:, None] * stride_m + columns[None, :]
        x = tl.load(x_ptrs, mask=mask, other=float("-inf")).to(tl.float32)
        higher = tl.maximum(tops, x)
        totals = totals * exp(tops - higher) + exp(x - higher)
        tops = higher
    top, total = merge(tops, totals)
    ### END SOLUTION
    tl.store(top_ptr + chunk * n + columns, top, mask=columns < n)
    tl.store(total_ptr + chunk * n + columns, total, mask=columns < n)


@triton.jit
def normalise_kernel(
    x_ptr, top_ptr, total_ptr, out_ptr, m, n, stride_m, CHUNKS: tl.constexpr, TILE_M: tl.constexpr, TILE_N: tl.constexpr
):
    columns = tl.program_id(0).to(tl.int64) * TILE_N + tl.arange(0, TILE_N)
    chunk_rows = tl.cdiv(m, CHUNKS * TILE_M) * TILE_M
    first = tl.program_id(1).to(tl.int64) * chunk_rows
    stats = tl.arange(0, CHUNKS)[:, None] * n + columns[None, :]
    tops = tl.load(top_ptr + stats, mask=(columns < n)[None, :])
    totals = tl.load(total_ptr + stats, mask=(columns < n)[None, :])
    # TODO: merge the chunks; then load this chunk of x tile by tile, and store its softmax to out, whose rows are
    # adjacent. From the last tile to the first: what the first launch has read last is still in the L2 cache.
    ### BEGIN SOLUTION
    top, total = merge(tops, totals)
    scale = 1 / total
    for start in range(first + chunk_rows - TILE_M, first - 1, -TILE_M):
        rows = start + tl.arange(0, TILE_M)
        mask = (rows < m)[:, None] & (columns < n)[None, :]
        x = tl.load(x_ptr + rows[:, None] * stride_m + columns[None, :], mask=mask).to(tl.float32)
        out = exp(x - top[None, :]) * scale[None, :]
        tl.store(out_ptr + rows[:, None] * n + columns[None, :], out, mask=mask)
    ### END SOLUTION


def column_softmax(x):
    """The softmax of each column of a row-major matrix.

    x: [m, n], fp32, fp16 or bf16; rows may lie apart, or be the same. Works in fp32. -inf gives 0; a column of -inf
    only, or with a NaN or an inf in it, gives NaN, as in torch. Returns [m, n], contiguous, the same dtype.
    Source: Milakov and Gimelshein, Online normalizer calculation for softmax, arXiv:1805.02867 (2018).
    """
    m, n = x.shape
    out = torch.empty((m, n), dtype=x.dtype, device=x.device)
    if x.numel() > 0:
        TILE_N = 256 // x.element_size()  # so that rows of a tile are eight sectors
        TILE_M = 2048 // TILE_N
        # one for every 64 rows, but 16 at most: each program of the second launch reads the stats of all
        CHUNKS = min(triton.next_power_of_2(triton.cdiv(m, 64)), 16)
        tops = torch.empty((CHUNKS, n), dtype=torch.float32, device=x.device)
        totals = torch.empty_like(tops)
        tiles = {"CHUNKS": CHUNKS, "TILE_M": TILE_M, "TILE_N": TILE_N, "num_warps": 4}
        # TODO: the two launches; for each chunk a program for every TILE_N columns.
        ### BEGIN SOLUTION
        grid = (triton.cdiv(n, TILE_N), CHUNKS)
        stats_kernel[grid](x, tops, totals, m, n, x.stride(0), **tiles)
        normalise_kernel[grid](x, tops, totals, out, m, n, x.stride(0), **tiles)
        ### END SOLUTION
    return out
