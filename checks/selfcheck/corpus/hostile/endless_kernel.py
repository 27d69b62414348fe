"""A kernel whose loop does not end."""
# says: no answer within 3 s: an endless loop\?

import torch
import triton
import triton.language as tl


@triton.jit
def spin_kernel(out_ptr, rounds):
    done = 0
    while done < rounds:
        tl.store(out_ptr, 0.0)
        done += 1


def add(x, y):
    out = torch.empty_like(x)
    spin_kernel[(1,)](out, 100_000)  # some 50 s where it is interpreted
    return out
