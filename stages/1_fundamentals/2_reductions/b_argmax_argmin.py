"""Argmax and argmin.

Every lane keeps its best value and the chunk where it found it. Across the lanes two plain reductions follow: the best
of all, then the lowest column that holds it.
"""

import torch
import triton
import triton.language as tl


@triton.jit
def larger(a, b):
    # TODO: return the larger of a and b; where one of them is a NaN, a NaN.
    tl.static_assert(False, "TODO 1.2b, blank 1")


@triton.jit
def argreduce_kernel(x_ptr, out_ptr, n, stride_row, SIGN: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, BLOCK)
    best = tl.full((BLOCK,), float("-inf"), tl.float32)
    index = tl.zeros((BLOCK,), tl.int32)
    for start in range(0, n, BLOCK):
        # TODO: load BLOCK elements of the row from `start` on as fp32, times SIGN, -1 for argmin, which makes the
        # smallest the largest; lanes past the end must lose. Where an element is better than `best`, it becomes the
        # lane's `best`, and `start` its `index`; a lane's columns only grow, so that no equal is better.
        tl.static_assert(False, "TODO 1.2b, blank 2")
    # TODO: add `lanes` to `index`, which makes columns of it. `top`, the best of all lanes; store the lowest index
    # among the lanes that hold it in element `row` of the output. If `top` is a NaN, those are the lanes with a NaN.
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
