"""Sum, max and min.

One program reduces a row, BLOCK elements at a step. A whole tensor is cut among many programs, whose partial results
one more program reduces: the order of the additions is fixed, and so is every bit of the result.
"""

import torch
import triton
import triton.language as tl

IDENTITY = {"sum": 0.0, "max": float("-inf"), "min": float("inf")}


@triton.jit
def larger(a, b):
    # tl.max and a plain tl.maximum drop a NaN; in torch it wins
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def smaller(a, b):
    return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def reduce_kernel(x_ptr, out_ptr, n, stride_row, OP: tl.constexpr, IDENTITY: tl.constexpr, BLOCK: tl.constexpr):
    # program (row, part) takes chunk `part` of its row, and every `parts`-th chunk after that
    row = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1).to(tl.int64)
    parts = tl.num_programs(1)
    acc = tl.full((BLOCK,), IDENTITY, tl.float32)
    for start in range(part * BLOCK, n, parts * BLOCK):
        # TODO: load BLOCK elements of the row from `start` on as fp32 (row r begins at x_ptr + r * stride_row),
        # with IDENTITY in the lanes past the end, and work them into `acc`, lane by lane, as OP says.
        tl.static_assert(False, "TODO 1.2a, blank 1")
    # TODO: `out`, the one number that the BLOCK lanes of `acc` come to.
    tl.static_assert(False, "TODO 1.2a, blank 2")
    tl.store(out_ptr + row * parts + part, out)


def reduce(x, op, dim):
    """The sum, max or min of each row (dim 1), or of the whole tensor (dim None); op is "sum", "max" or "min".

    x: [m, n], fp32, fp16 or bf16, n >= 1; rows may lie apart, but where dim is None x is contiguous and not empty.
    Adds in fp32. A NaN makes the max and the min NaN. Returns [m] or [], the same dtype, the same bits every time.
    """
    m, n = x.shape
    BLOCK = 4096
    settings = {"OP": op, "IDENTITY": IDENTITY[op], "BLOCK": BLOCK, "num_warps": 8}
    if dim == 1:
        out = torch.empty(m, dtype=x.dtype, device=x.device)
        if m > 0:
            reduce_kernel[(m, 1)](x, out, n, x.stride(0), **settings)
        return out

    out = torch.empty((), dtype=x.dtype, device=x.device)
    # a number that no device changes: the bits would change with it
    parts = min(4096, triton.cdiv(m * n, BLOCK))
    # TODO: two launches of reduce_kernel. In the first, `parts` programs share x as one row of m * n elements and
    # leave a result each in `partial`, fp32; in the second, one program reduces `partial` to `out`.
    raise NotImplementedError("TODO 1.2a, blank 3")
    return out
