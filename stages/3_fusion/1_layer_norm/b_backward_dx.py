"""LayerNorm backward: dx.

One program holds a row of x and of dy in registers, finds the two means that the gradient needs, and stores dx.
"""

import torch
import triton
import triton.language as tl


@triton.jit
def layer_norm_backward_dx_kernel(
    dy_ptr, x_ptr, w_ptr, mean_ptr, rstd_ptr, dx_ptr, n, stride_dy_m, stride_dy_n, stride_x, BLOCK: tl.constexpr
):
    # TODO: dx of row tl.program_id(0), n elements, with the row's mean and rstd. dy has two strides, and either may be
    # 0; the rows of x lie stride_x apart, those of dx are adjacent. BLOCK is at least n. Each element is loaded once,
    # all arithmetic is fp32.
    tl.static_assert(False, "TODO 3.1b, blank 1")


def layer_norm_backward_dx(dy, x, w, mean, rstd):
    """The gradient of a loss with respect to the x of 3.1a, from dy, that with respect to its y.

    dy: [m, n], any strides (0 too). x: [m, n], 1 <= n <= 32768, its rows may lie apart, or be the same. w: [n],
    contiguous. Each fp32, fp16 or bf16. mean, rstd: [m], fp32, contiguous, as 3.1a returned them. Works in fp32. A row
    with a NaN in it gives NaN.
    Returns dx [m, n], contiguous, of x's dtype, the same bits every time.
    Raises ValueError for shapes and widths that do not fit, and where the elements of a row of x are not adjacent.
    """
    if x.dim() != 2 or not 1 <= x.shape[1] <= 32768:
        raise ValueError(f"x is {list(x.shape)}: it has to be [m, n], and n from 1 to 32768")
    m, n = x.shape
    if dy.shape != x.shape:
        raise ValueError(f"dy is {list(dy.shape)} and x is {list(x.shape)}: they have to be alike")
    if w.shape != (n,):
        raise ValueError(f"w is {list(w.shape)}: it has to be [{n}], as a row of x is")
    if mean.shape != (m,) or rstd.shape != (m,):
        raise ValueError(f"mean is {list(mean.shape)} and rstd is {list(rstd.shape)}: both have to be [{m}], one a row")
    if n > 1 and x.stride(1) != 1:
        raise ValueError(f"the elements of a row of x lie {x.stride(1)} apart: they have to be adjacent")
    # TODO: dx; then, if there are rows, one program for each. A thread has two rows to hold now: about 16 elements of
    # each will do.
    raise NotImplementedError("TODO 3.1b, blank 2")
