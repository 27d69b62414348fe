"""A kernel that keeps the GPU busy for most of a minute, and nothing on the CPU."""
# says: no answer within|right on the CPU, wrong on the GPU
# needs: gpu

import torch
import triton
import triton.language as tl


@triton.jit
def spin_kernel(out_ptr, rounds):
    done = tl.zeros((), tl.int64)
    while done < rounds:
        tl.store(out_ptr, done.to(tl.float32))
        done += 1


def add(x, y):
    out = torch.empty_like(x)
    rounds = 1 if x.device.type == "cpu" else 2**36
    spin_kernel[(1,)](out, rounds)
    return out
