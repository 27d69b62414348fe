"""Kernels that keep the GPU busy for most of a minute, and nothing on the CPU."""
# says: no answer within
# seconds: 8
# needs: gpu

import torch
import triton
import triton.language as tl


@triton.jit
def add_kernel(x_ptr, y_ptr, out_ptr, n, rounds, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    total = tl.load(x_ptr + offsets, mask=mask) + tl.load(y_ptr + offsets, mask=mask)
    tl.store(out_ptr + offsets, total, mask=mask)
    done = tl.zeros((), tl.int64)
    while done < rounds:
        tl.store(out_ptr + offsets, total + done.to(tl.float32), mask=mask)
        done += 1


def add(x, y):
    out = torch.empty_like(x)
    rounds = 2**36 if x.is_cuda else 0
    if x.numel():
        add_kernel[(triton.cdiv(x.numel(), 1024),)](x, y, out, x.numel(), rounds, BLOCK=1024)
    return out
