"""Vector add.

Every program adds one block of BLOCK elements; a mask keeps the last one inside the vectors.
"""

import torch
import triton
import triton.language as tl


@triton.jit
def add_kernel(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):
    # 64 bits, because an index past 2**31 does not fit in the 32 that program_id has
    start = tl.program_id(0).to(tl.int64) * BLOCK
    offsets = start + tl.arange(0, BLOCK)
    # TODO: `mask`, true where offsets < n. Load x and y under it, and store their sum under it.
    tl.static_assert(False, "TODO 1.1a, blank 1")


def add(x, y):
    """x + y, element by element.

    x, y: [n], contiguous, one dtype (fp32, fp16 or bf16). Returns [n], the same dtype.
    """
    out = torch.empty_like(x)
    n, BLOCK = x.numel(), 1024
    # TODO: `grid`, a tuple with the number of programs: enough blocks of BLOCK elements for n.
    raise NotImplementedError("TODO 1.1a, blank 2")
    if n > 0:
        add_kernel[grid](x, y, out, n, BLOCK=BLOCK)
    return out
