"""LayerNorm.

One program holds a row in registers, where it finds the mean, the variance and the normalised row: memory is read once
and written once.
"""

import torch
import triton
import triton.language as tl


@triton.jit
def layer_norm_kernel(x_ptr, w_ptr, b_ptr, y_ptr, mean_ptr, rstd_ptr, n, stride_row, eps, BLOCK: tl.constexpr):
    # TODO: row tl.program_id(0), n elements from x_ptr + row * stride_row on; the rows of y are adjacent. Store y, and
    # the row's mean and rstd. BLOCK is at least n. Each element of x is loaded once, all arithmetic is fp32, and the
    # variance holds where the mean is large beside the spread.
    tl.static_assert(False, "TODO 3.1a, blank 1")


def layer_norm(x, w, b, eps):
    """Each row of x, normalised to mean 0 and variance 1, times w, plus b (Ba, Kiros, Hinton 2016).

    x: [m, n], 1 <= n <= 32768, its rows may lie apart, or be the same. w, b: [n], contiguous. Each fp32, fp16 or bf16.
    eps: added to the variance, which is that of all there is: divided by n. Works in fp32. A row with a NaN or an inf
    in it gives NaN.
    Returns y [m, n], contiguous, of x's dtype; mean [m] and rstd [m], fp32, where rstd is 1 / sqrt(variance + eps).
    Raises ValueError for shapes and widths that do not fit, and where the elements of a row are not adjacent.
    """
    if x.dim() != 2 or not 1 <= x.shape[1] <= 32768:
        raise ValueError(f"x is {list(x.shape)}: it has to be [m, n], and n from 1 to 32768")
    m, n = x.shape
    if w.shape != (n,) or b.shape != (n,):
        raise ValueError(f"w is {list(w.shape)} and b is {list(b.shape)}: both have to be [{n}], as a row of x is")
    if n > 1 and x.stride(1) != 1:
        raise ValueError(f"the elements of a row of x lie {x.stride(1)} apart: they have to be adjacent")
    # TODO: y, mean and rstd; then, if there are rows, one program for each. `num_warps` (1, 2, 4, 8 or 16) grows with
    # the row, so that a thread has about 16 elements.
    raise NotImplementedError("TODO 3.1a, blank 2")
