"""Variance in one pass.

Welford's method: each lane keeps the mean of what it has seen and the squared distance from that mean, and brings
both up to date with every element; at the end the lanes are merged. A row of any length is read once.
"""

import torch
import triton
import triton.language as tl


@triton.jit
def merge(mean_a, m2_a, count_a, mean_b, m2_b, count_b):
    """Mean, sum of squared distances from it, and count of two groups together; a group may be empty."""
    # TODO: `count`, `mean` and `m2` of both groups together (the formula is in the lesson; mind count == 0).
    ### BEGIN SOLUTION
    count = count_a + count_b
    share = count_b / tl.maximum(count, 1.0)
    delta = mean_b - mean_a
    mean = mean_a + delta * share
    m2 = m2_a + m2_b + delta * delta * count_a * share
    ### END SOLUTION
    return mean, m2, count


@triton.jit
def welford_kernel(x_ptr, out_ptr, n, stride_row, correction, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, BLOCK)
    # a shift changes no variance; near 0, where fp32 is densest, a large mean costs no digits
    origin = tl.load(x_ptr + row * stride_row).to(tl.float32)
    mean = tl.zeros((BLOCK,), tl.float32)
    m2 = tl.zeros((BLOCK,), tl.float32)
    step = 0.0
    for start in range(0, n, BLOCK):
        step += 1
        mask = start + lanes < n
        x = tl.load(x_ptr + row * stride_row + start + lanes, mask=mask, other=0.0).to(tl.float32) - origin
        # TODO: bring `mean` and `m2` of each lane up to date with its element x, the `step`-th that the lane sees.
        # Lanes past the end must change nothing. One division a step will do: that by `step`.
        ### BEGIN SOLUTION
        delta = tl.where(mask, x - mean, 0.0)
        mean += delta * (1 / step)
        m2 += delta * (x - mean)
        ### END SOLUTION
    # TODO: `count`, fp32, how many of the n elements each lane has seen; then merge the lanes: `mean`, `m2`, `count`
    # become those of the whole row.
    ### BEGIN SOLUTION
    count = ((n - lanes + BLOCK - 1) // BLOCK).to(tl.float32)
    mean, m2, count = tl.reduce((mean, m2, count), 0, merge)
    ### END SOLUTION
    tl.store(out_ptr + row, m2 / (n - correction))


def welford(x, correction):
    """The variance of each row: the sum of (x - mean)**2, divided by n - correction.

    x: [m, n], fp32, fp16 or bf16, 1 <= n <= 2**30; rows may lie apart. correction: at most n; 0 / 0 is NaN, as in
    torch. Works in fp32. Returns [m], the same dtype.
    Source: Welford, Technometrics 4 (1962), the update; Chan, Golub and LeVeque, Stanford STAN-CS-79-773 (1979), the
    merge.
    """
    m, n = x.shape
    out = torch.empty(m, dtype=x.dtype, device=x.device)
    if m > 0:
        welford_kernel[(m,)](x, out, n, x.stride(0), correction, BLOCK=2048, num_warps=16)
    return out
