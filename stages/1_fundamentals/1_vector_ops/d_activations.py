"""Activations.

Seven functions of one vector: 16 bits in memory, 32 in registers.
"""

import torch
import triton
import triton.language as tl
from triton.language.extra import libdevice


@triton.jit
def activate(x, slope, OP: tl.constexpr):
    """The activation OP of a block of fp32 numbers. slope: of "leaky_relu" below 0."""
    # TODO: return the activation of x, by OP, for each of the seven; the lesson has the formulas.
    tl.static_assert(False, "TODO 1.1d, blank 1")


@triton.jit
def activation_kernel(x_ptr, out_ptr, n, slope, OP: tl.constexpr, BLOCK: tl.constexpr):
    # TODO: load this program's block of x in fp32, and store `activate` of it; 64-bit offsets, no lane past n.
    tl.static_assert(False, "TODO 1.1d, blank 2")


def activation(x, op, slope=0.01):
    """An activation of x, element by element, computed in fp32 and rounded once.

    x: [n], contiguous (fp32, fp16 or bf16). op: "relu", "leaky_relu" (slope * x below 0), "sigmoid", "tanh", "silu",
    "gelu" (by erf) or "gelu_tanh" (its approximation by tanh). Infinities and NaN give what they give in torch.
    Returns [n], the same dtype.
    """
    out = torch.empty_like(x)
    n, BLOCK = x.numel(), 2048
    if n > 0:
        # TODO: launch activation_kernel.
        raise NotImplementedError("TODO 1.1d, blank 3")
    return out
