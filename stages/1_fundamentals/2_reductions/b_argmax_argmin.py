"""Argmax and argmin.

What is reduced is a pair, a value and its column, by a rule of our own for which of two pairs wins.
"""

import torch
import triton
import triton.language as tl


@triton.jit
def first_largest(v, i, w, j):
    """The winner of the pairs (v, i) and (w, j): the larger value, a NaN above all; of equals the lower index."""
    # TODO: `takes_w`, true where (w, j) wins. Two NaN are equals here, although NaN == NaN is false.
    tl.static_assert(False, "TODO 1.2b, blank 1")
    return tl.where(takes_w, w, v), tl.where(takes_w, j, i)


@triton.jit
def argreduce_kernel(x_ptr, out_ptr, n, stride_row, SIGN: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, BLOCK)
    best = tl.full((BLOCK,), float("-inf"), tl.float32)
    index = tl.zeros((BLOCK,), tl.int32)
    for start in range(0, n, BLOCK):
        # TODO: load BLOCK elements of the row from `start` on as fp32. Multiplied by SIGN, -1 for argmin, the smallest
        # is the largest; lanes past the end must lose. Where an element is better than `best`, it and its column
        # become the lane's `best` and `index`; a lane's columns only grow, so that no equal is better.
        tl.static_assert(False, "TODO 1.2b, blank 2")
    # TODO: store the index that the BLOCK pairs (best, index) come to, in element `row` of the output.
    tl.static_assert(False, "TODO 1.2b, blank 3")


def argreduce(x, op):
    """The column of each row's largest ("max") or smallest ("min") element, as torch's argmax and argmin say it.

    x: [m, n], fp32, fp16 or bf16, 1 <= n <= 2**30; rows may lie apart. Of equals the first counts, and the first NaN
    before all else. Returns [m], int64.
    """
    m, n = x.shape
    out = torch.empty(m, dtype=torch.int64, device=x.device)
    if m > 0:
        argreduce_kernel[(m,)](x, out, n, x.stride(0), SIGN=1 if op == "max" else -1, BLOCK=512)
    return out
