"""Calls that a learner's benchmark measures on a GPU, and has not seen before."""

from collections.abc import Callable

import torch
import triton
import triton.language as tl


@triton.jit
def copy_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + offsets, tl.load(x_ptr + offsets, mask=offsets < n), mask=offsets < n)


def copy(size: int, device: str = "cuda") -> Callable[[], None]:
    """A call that moves `size` bytes: half of them are read, half written."""
    n, BLOCK = size // 8, 4096
    x, out = torch.ones(n, device=device), torch.empty(n, device=device)

    def call():
        copy_kernel[(triton.cdiv(n, BLOCK),)](x, out, n, BLOCK=BLOCK, num_warps=8)

    return call
