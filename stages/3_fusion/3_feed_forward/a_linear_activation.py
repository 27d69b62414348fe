"""Linear layer with activation.

A matmul whose tiles get their bias and their activation while they are still in registers: the product is written once,
finished.
"""

import torch
import triton
import triton.language as tl
from triton.language.extra import libdevice


@triton.jit
def activate(x, OP: tl.constexpr):
    """The activation OP of a tile of fp32 numbers."""
    # TODO: return the activation of x, by OP, for each of the four, with your own lines of 1.1d.
    tl.static_assert(False, "TODO 3.3a, blank 1")


@triton.jit
def linear_kernel(
    x_ptr, w_ptr, bias_ptr, out_ptr, m, n, k, stride_xm, stride_xk, stride_wn, stride_wk, OP: tl.constexpr,
    TILE_M: tl.constexpr, TILE_N: tl.constexpr, TILE_K: tl.constexpr, GROUP_M: tl.constexpr,
):  # fmt: skip
    # TODO: one tile of out, [m, n] and contiguous: the activation of x @ w.T + bias. x is [m, k], w is [n, k], bias
    # is [n]. Tiles in groups of GROUP_M rows, as in 2.1b; everything up to the store in fp32.
    tl.static_assert(False, "TODO 3.3a, blank 2")


def linear_activation(x, w, bias, op):
    """The activation of x @ w.T + bias.

    x: [m, k], w: [n, k], as torch.nn.Linear keeps it, any strides; bias: [n], contiguous; all fp16 or all bf16.
    op: "relu", "silu", "gelu" (by erf) or "gelu_tanh". Works in fp32 and rounds once. Returns [m, n], contiguous, the
    same dtype. Raises ValueError where shapes or dtypes do not go together, or op is another.
    """
    (m, k), n = x.shape, w.shape[0]
    if w.shape[1] != k or bias.shape != (n,):
        raise ValueError(f"x {list(x.shape)} wants w [n, {k}] and bias [n], not {list(w.shape)} and {list(bias.shape)}")
    if x.dtype not in (torch.float16, torch.bfloat16) or not x.dtype == w.dtype == bias.dtype:
        raise ValueError(f"x, w and bias are all fp16 or all bf16, not {x.dtype}, {w.dtype} and {bias.dtype}")
    if op not in ("relu", "silu", "gelu", "gelu_tanh"):
        raise ValueError(f'op is "relu", "silu", "gelu" or "gelu_tanh", not {op!r}')
    out = torch.empty((m, n), dtype=x.dtype, device=x.device)
    if out.numel() > 0:
        # TODO: launch linear_kernel, one program a tile. Choose the tile, the group, the warps and the stages for a
        # product as large as 8192 x 4096 times 4096 x 14336, and for 101,376 bytes of shared memory before Hopper.
        raise NotImplementedError("TODO 3.3a, blank 3")
    return out
