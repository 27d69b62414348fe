"""Int4 matmul.

What every program does, in one or two sentences.
"""

import torch
import triton
import triton.language as tl


@triton.jit
def int4_matmul_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    start = tl.program_id(0).to(tl.int64) * BLOCK
    offsets = start + tl.arange(0, BLOCK)
    mask = offsets < n
    # TODO: what is to be written here, naming the variables that the rest uses.
    tl.static_assert(False, "TODO 4.3b, blank 1")


def int4_matmul(x):
    """2 x, element by element.

    x: [n], contiguous, fp32. Returns [n], the same dtype.
    """
    out = torch.empty_like(x)
    n, BLOCK = x.numel(), 1024
    if n > 0:  # a launch of no programs is an error
        int4_matmul_kernel[(triton.cdiv(n, BLOCK),)](x, out, n, BLOCK=BLOCK)
    return out
