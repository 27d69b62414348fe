"""Strided access.

Every program fetches a block of elements that lie `stride` apart, and stores them side by side.
"""

import torch
import triton
import triton.language as tl

SECTOR = 32  # bytes that the memory system moves at a time


@triton.jit
def strided_copy_kernel(x_ptr, out_ptr, n, stride, BLOCK: tl.constexpr):
    # TODO: this program's BLOCK elements of out, which has n: element i is the one that x has at i * stride.
    ### BEGIN SOLUTION
    # 64 bits: the product passes 2**31 where x has more elements than that, however few there are of out
    offsets = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets * stride, mask=mask)
    tl.store(out_ptr + offsets, x, mask=mask)
    ### END SOLUTION


def strided_copy(x, stride):
    """x[::stride], laid out anew.

    x: [n], contiguous, fp32, fp16, bf16, int8 or int64. stride: in elements, at least 1; a ValueError where it is less.
    Returns [n / stride, rounded up], contiguous, the same dtype.
    """
    if stride < 1:
        raise ValueError(f"the stride is {stride}, it has to be at least 1")
    # TODO: `out`, of the right size, and the launch that fills it; x may be empty.
    ### BEGIN SOLUTION
    n, BLOCK = triton.cdiv(x.numel(), stride), 512
    out = torch.empty(n, dtype=x.dtype, device=x.device)
    if n > 0:
        # neighbouring elements of a thread share no wide load where they lie apart: fewer of them, more threads
        num_warps = 4 if stride == 1 else 8
        strided_copy_kernel[(triton.cdiv(n, BLOCK),)](x, out, n, stride, BLOCK=BLOCK, num_warps=num_warps)
    return out
    ### END SOLUTION


def predicted_share(stride, itemsize):
    """The share of a sector that is in use, on average over all sectors that the loads of strided_copy touch.

    stride: in elements, at least 1. itemsize: bytes of an element, 1, 2, 4 or 8. x begins where a sector begins, and
    is long. Returns a number above 0, at most 1, exact but for the rounding of the float.
    """
    # TODO: the share. Draw the sectors for strides of 2, 3, 8 and 9 and four bytes.
    ### BEGIN SOLUTION
    # closer than a sector, elements leave no sector out; further apart, each has a sector to itself
    return itemsize / min(stride * itemsize, SECTOR)
    ### END SOLUTION
