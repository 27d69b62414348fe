"""Online softmax.

A row that fits no block is read twice: once for its maximum and its sum, which every lane keeps up to date together,
and once to write. One large program a multiprocessor keeps the rows in work in the L2 cache, where the second read
finds them.
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
def online_softmax_kernel(x_ptr, out_ptr, n, stride_row, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, BLOCK)
    # TODO: `top`, the row's maximum, and `total`, its sum of exp(x - top), from one pass over the row, BLOCK elements
    # at a step, in fp32. A row may begin with any number of -inf, and lanes past the end must change nothing.
    ### BEGIN SOLUTION
    tops = tl.full((BLOCK,), LOWEST, tl.float32)
    totals = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, n, BLOCK):
        columns = start + lanes
        x_ptrs = x_ptr + row * stride_row + columns
        x = tl.load(x_ptrs, mask=columns < n, other=float("-inf"), eviction_policy="evict_last").to(tl.float32)
        higher = tl.maximum(tops, x)
        totals = totals * exp(tops - higher) + exp(x - higher)
        tops = higher
    top = tl.max(tops, 0)
    total = tl.sum(totals * exp(tops - top), 0)
    ### END SOLUTION
    scale = 1 / total
    # TODO: a second pass that stores the row's softmax; the rows of out are adjacent.
    ### BEGIN SOLUTION
    for start in range(0, n, BLOCK):
        columns = start + lanes
        x_ptrs = x_ptr + row * stride_row + columns
        x = tl.load(x_ptrs, mask=columns < n, eviction_policy="evict_first").to(tl.float32)
        out = exp(x - top) * scale
        # nobody reads the result here: it need not push rows out of the cache
        tl.store(out_ptr + row * n + columns, out, mask=columns < n, eviction_policy="evict_first")
    ### END SOLUTION


def online_softmax(x):
    """The softmax of each row, however long.

    x: [m, n], fp32, fp16 or bf16, n <= 2**30; rows may lie apart, or be the same. Works in fp32. -inf gives 0; a row
    of -inf only, or with a NaN or an inf in it, gives NaN, as in torch. Returns [m, n], contiguous, the same dtype.
    Source: Milakov and Gimelshein, Online normalizer calculation for softmax, arXiv:1805.02867 (2018).
    """
    m, n = x.shape
    out = torch.empty((m, n), dtype=x.dtype, device=x.device)
    if x.numel() > 0:
        # TODO: one program a row, so large that it fills a multiprocessor: the rows in work then fit into the L2 cache.
        ### BEGIN SOLUTION
        # 1024 threads, and 64 registers of each, are all that it has
        online_softmax_kernel[(m,)](x, out, n, x.stride(0), BLOCK=16384, num_warps=32)
        ### END SOLUTION
    return out
