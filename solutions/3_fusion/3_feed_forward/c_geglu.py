"""GeGLU, forward and backward, as an operator.

The kernels of SwiGLU with another gate, by erf or by its approximation with tanh, made known to torch: autograd and
torch.compile see the kernels, and not a function that they cannot look into.
"""

import torch
import triton
import triton.language as tl
from torch.library import triton_op, wrap_triton


@triton.jit
def normal_cdf(x):
    """The share of a normal distribution that lies below x: a block of fp32 numbers."""
    # The tail beyond |x| is 2 to the power of nearly a polynomial, fitted on 0 to 6: off by 3e-7 of 1 at most, and in
    # half of the instructions that tl.erf takes.
    a = tl.abs(x)
    p = -1.23168524e-08
    p = p * a + 4.1466140e-07
    p = p * a - 5.93835011e-06
    p = p * a + 4.52726708e-05
    p = p * a - 0.000164244324
    p = p * a - 0.000260720728
    p = p * a + 0.00729999412
    p = p * a - 0.052711688
    p = p * a - 0.459117234
    p = p * a - 1.15111935
    p = p * a - 0.999999642
    tail = tl.exp2(p)
    return tl.where(x < 0, tail, 1 - tail)


@triton.jit
def share_and_slope(x, APPROXIMATE: tl.constexpr):
    """P and its derivative, where gelu(x) = x * P(x): a block of fp32 numbers each. APPROXIMATE: "none" or "tanh"."""
    # TODO: P is normal_cdf for "none"; for "tanh" it is (1 + tanh(u)) / 2 with u = 0.7978845608 * (x + 0.044715 * x³),
    # which is a sigmoid. Return P and its derivative.
    ### BEGIN SOLUTION
    if APPROXIMATE == "tanh":
        share = tl.sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))
        slope = share * (1 - share) * 1.5957691216057308 * (1 + 0.134145 * x * x)
    else:
        share = normal_cdf(x)
        slope = 0.3989422804014327 * tl.exp2(-0.7213475204444817 * x * x)  # the density of the distribution
    return share, slope
    ### END SOLUTION


@triton.jit
def forward_kernel(gate_ptr, up_ptr, h_ptr, n, stride_gate, stride_up, APPROXIMATE: tl.constexpr, BLOCK: tl.constexpr):
    # TODO: blocks, offsets and rounding as in 3.3b; store gelu(gate) * up to h.
    ### BEGIN SOLUTION
    blocks = tl.cdiv(n, BLOCK)
    row = (tl.program_id(0) // blocks).to(tl.int64)
    columns = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    mask = columns < n
    gate = tl.load(gate_ptr + row * stride_gate + columns, mask=mask).to(tl.float32)
    up = tl.load(up_ptr + row * stride_up + columns, mask=mask).to(tl.float32)
    share, _ = share_and_slope(gate, APPROXIMATE)
    tl.store(h_ptr + row * n + columns, gate * share * up, mask=mask)
    ### END SOLUTION


@triton.jit
def backward_kernel(
    dh_ptr, gate_ptr, up_ptr, dgate_ptr, dup_ptr, n, stride_dh_m, stride_dh_n, stride_gate, stride_up,
    APPROXIMATE: tl.constexpr, BLOCK: tl.constexpr,
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
    share, slope = share_and_slope(gate, APPROXIMATE)
    tl.store(dgate_ptr + row * n + columns, dh * up * (share + gate * slope), mask=mask)
    tl.store(dup_ptr + row * n + columns, dh * gate * share, mask=mask)
    ### END SOLUTION


def check(approximate, gate, up, dh=None):
    """Raises ValueError where the arguments of the operators below do not fit together."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f'approximate is "{approximate}": it has to be "none" or "tanh"')
    if gate.dim() != 2 or up.shape != gate.shape or (dh is not None and dh.shape != gate.shape):
        shapes = ", ".join(str(tuple(t.shape)) for t in (gate, up, dh) if t is not None)
        raise ValueError(f"the shapes are {shapes}: all have to be the same [m, n]")
    if up.dtype != gate.dtype:
        raise ValueError(f"gate is {gate.dtype}, up is {up.dtype}: they have to be of one dtype")
    if gate.shape[1] > 1 and (gate.stride(1) != 1 or up.stride(1) != 1):
        raise ValueError("the elements of a row lie apart: rows of gate and up have to be contiguous")


@triton_op("workbook::geglu", mutates_args=())
def geglu(gate: torch.Tensor, up: torch.Tensor, approximate: str) -> torch.Tensor:
    """gelu(gate) * up, element by element, with gradients for gate and up.

    gate, up: [m, n], one dtype (fp32, fp16 or bf16); rows are contiguous and may lie apart, as those of the halves of
    one tensor do. approximate: "none" (by erf) or "tanh", as torch names them. Works in fp32. Returns [m, n],
    contiguous, the same dtype. Raises ValueError where the shapes or dtypes differ, the elements of a row lie apart, or
    approximate is something else. Source: Shazeer, GLU Variants Improve Transformer, arXiv:2002.05202.
    """
    check(approximate, gate, up)
    # TODO: allocate the result, launch forward_kernel in a way that a tracer can follow, unless there is nothing to do,
    # and return the result.
    ### BEGIN SOLUTION
    m, n = gate.shape
    h = torch.empty((m, n), dtype=gate.dtype, device=gate.device)
    if h.numel() > 0:
        BLOCK = 512
        grid = (m * triton.cdiv(n, BLOCK),)
        strides = gate.stride(0), up.stride(0)
        wrap_triton(forward_kernel)[grid](gate, up, h, n, *strides, APPROXIMATE=approximate, BLOCK=BLOCK)
    return h
    ### END SOLUTION


@triton_op("workbook::geglu_backward", mutates_args=())
def geglu_backward(
    dh: torch.Tensor, gate: torch.Tensor, up: torch.Tensor, approximate: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradients of gate and up, where geglu(gate, up, approximate) has the gradient dh.

    dh: [m, n], any strides (0 too, as an expanded gradient has). The others: as geglu took them. Works in fp32.
    Returns dgate and dup, [m, n] each, contiguous, the dtype of gate. Raises ValueError as geglu does.
    """
    check(approximate, gate, up, dh)
    # TODO: allocate both results, launch backward_kernel in a way that a tracer can follow, unless there is nothing to
    # do, and return the results.
    ### BEGIN SOLUTION
    m, n = gate.shape
    dgate = torch.empty((m, n), dtype=gate.dtype, device=gate.device)
    dup = torch.empty_like(dgate)
    if dgate.numel() > 0:
        BLOCK = 512
        grid = (m * triton.cdiv(n, BLOCK),)
        arguments = dh, gate, up, dgate, dup, n, *dh.stride(), gate.stride(0), up.stride(0)
        wrap_triton(backward_kernel)[grid](*arguments, APPROXIMATE=approximate, BLOCK=BLOCK)
    return dgate, dup
    ### END SOLUTION


def setup_context(ctx, inputs, output):
    # TODO: inputs are the arguments of geglu. Keep for the backward what it needs and nothing more: tensors by
    # ctx.save_for_backward, anything else as an attribute of ctx.
    ### BEGIN SOLUTION
    gate, up, ctx.approximate = inputs
    ctx.save_for_backward(gate, up)
    ### END SOLUTION


def backward(ctx, dh):
    # TODO: return a gradient for each argument of geglu, None for what has none, by calling an operator.
    ### BEGIN SOLUTION
    dgate, dup = geglu_backward(dh, *ctx.saved_tensors, ctx.approximate)
    return dgate, dup, None
    ### END SOLUTION


geglu.register_autograd(backward, setup_context=setup_context)


def gradients_of_geglu(dh, gate, up, approximate, compiled):
    """The gradients of gate and up by autograd, where geglu has the gradient dh; compiled: through torch.compile."""
    operator = torch.compile(geglu, fullgraph=True) if compiled else geglu
    inputs = [t.detach().requires_grad_() for t in (gate, up)]
    return torch.autograd.grad(operator(*inputs, approximate), inputs, dh)
