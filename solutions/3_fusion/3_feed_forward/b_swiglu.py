"""SwiGLU, forward and backward.

Element by element, in one pass each way. The backward computes silu again from the gate, which it has to read anyway:
beside its two inputs, the forward leaves nothing behind.
"""

import torch
import triton
import triton.language as tl


@triton.jit
def forward_kernel(gate_ptr, up_ptr, h_ptr, n, stride_gate, stride_up, BLOCK: tl.constexpr):
    # TODO: the programs go through h in the order of memory: cdiv(n, BLOCK) of them share a row. Load BLOCK elements of
    # a row of gate and up, whose rows lie stride_gate and stride_up apart; store silu(gate) * up to h, which is
    # contiguous, computed in fp32 and rounded once. 64-bit offsets.
    ### BEGIN SOLUTION
    blocks = tl.cdiv(n, BLOCK)
    row = (tl.program_id(0) // blocks).to(tl.int64)
    columns = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    mask = columns < n
    gate = tl.load(gate_ptr + row * stride_gate + columns, mask=mask).to(tl.float32)
    up = tl.load(up_ptr + row * stride_up + columns, mask=mask).to(tl.float32)
    tl.store(h_ptr + row * n + columns, gate * tl.sigmoid(gate) * up, mask=mask)
    ### END SOLUTION


@triton.jit
def backward_kernel(
    dh_ptr, gate_ptr, up_ptr, dgate_ptr, dup_ptr, n, stride_dh_m, stride_dh_n, stride_gate, stride_up,
    BLOCK: tl.constexpr,
):  # fmt: skip
    # TODO: the same blocks. Load dh, which may have any strides, gate and up; store dgate and dup, which are
    # contiguous.
    ### BEGIN SOLUTION
    blocks = tl.cdiv(n, BLOCK)
    row = (tl.program_id(0) // blocks).to(tl.int64)
    columns = (tl.program_id(0) % blocks).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = columns < n
    dh = tl.load(dh_ptr + row * stride_dh_m + columns * stride_dh_n, mask=mask).to(tl.float32)
    gate = tl.load(gate_ptr + row * stride_gate + columns, mask=mask).to(tl.float32)
    up = tl.load(up_ptr + row * stride_up + columns, mask=mask).to(tl.float32)
    share = tl.sigmoid(gate)
    tl.store(dgate_ptr + row * n + columns, dh * up * share * (1 + gate * (1 - share)), mask=mask)
    tl.store(dup_ptr + row * n + columns, dh * gate * share, mask=mask)
    ### END SOLUTION


def check(gate, up, dh=None):
    """Raises ValueError where the arguments of the functions below do not fit together."""
    if gate.dim() != 2 or up.shape != gate.shape or (dh is not None and dh.shape != gate.shape):
        shapes = ", ".join(str(tuple(t.shape)) for t in (gate, up, dh) if t is not None)
        raise ValueError(f"the shapes are {shapes}: all have to be the same [m, n]")
    if up.dtype != gate.dtype:
        raise ValueError(f"gate is {gate.dtype}, up is {up.dtype}: they have to be of one dtype")
    if gate.shape[1] > 1 and (gate.stride(1) != 1 or up.stride(1) != 1):
        raise ValueError("the elements of a row lie apart: rows of gate and up have to be contiguous")


def swiglu_forward(gate, up):
    """silu(gate) * up, element by element.

    gate, up: [m, n], one dtype (fp32, fp16 or bf16); rows are contiguous and may lie apart, as those of the halves
    x[:, :n] and x[:, n:] of one tensor do. Works in fp32. Returns [m, n], contiguous, the same dtype. Raises ValueError
    where the shapes or dtypes differ, or the elements of a row lie apart.
    Source: Shazeer, GLU Variants Improve Transformer, arXiv:2002.05202.
    """
    check(gate, up)
    # TODO: allocate the result, launch forward_kernel, unless there is nothing to do, and return the result.
    ### BEGIN SOLUTION
    m, n = gate.shape
    h = torch.empty((m, n), dtype=gate.dtype, device=gate.device)
    if h.numel() > 0:
        BLOCK = 512
        grid = (m * triton.cdiv(n, BLOCK),)
        forward_kernel[grid](gate, up, h, n, gate.stride(0), up.stride(0), BLOCK=BLOCK)
    return h
    ### END SOLUTION


def swiglu_backward(dh, gate, up):
    """The gradients of gate and up, where swiglu_forward(gate, up) has the gradient dh.

    dh: [m, n], any strides (0 too, as an expanded gradient has). gate, up: as the forward took them. Works in fp32.
    Returns dgate and dup, [m, n] each, contiguous, the dtype of gate. Raises ValueError as the forward does.
    """
    check(gate, up, dh)
    # TODO: allocate both results, launch backward_kernel, unless there is nothing to do, and return the results.
    ### BEGIN SOLUTION
    m, n = gate.shape
    dgate = torch.empty((m, n), dtype=gate.dtype, device=gate.device)
    dup = torch.empty_like(dgate)
    if dgate.numel() > 0:
        BLOCK = 512
        grid = (m * triton.cdiv(n, BLOCK),)
        strides = *dh.stride(), gate.stride(0), up.stride(0)
        backward_kernel[grid](dh, gate, up, dgate, dup, n, *strides, BLOCK=BLOCK)
    return dgate, dup
    ### END SOLUTION


class SwiGLU(torch.autograd.Function):
    """swiglu_forward and swiglu_backward as one operation that autograd knows."""

    @staticmethod
    def forward(ctx, gate, up):
        # TODO: keep for the backward what it needs and nothing more; return the result.
        ### BEGIN SOLUTION
        ctx.save_for_backward(gate, up)
        return swiglu_forward(gate, up)
        ### END SOLUTION

    @staticmethod
    def backward(ctx, dh):
        # TODO: return a gradient for each argument of `forward`.
        ### BEGIN SOLUTION
        return swiglu_backward(dh, *ctx.saved_tensors)
        ### END SOLUTION


def swiglu(gate, up):
    """swiglu_forward, with gradients for gate and up."""
    return SwiGLU.apply(gate, up)


def gradients_of_swiglu(dh, gate, up):
    """The gradients of gate and up by autograd, where swiglu(gate, up) has the gradient dh."""
    inputs = [t.detach().requires_grad_() for t in (gate, up)]
    return torch.autograd.grad(swiglu(*inputs), inputs, dh)
