"""RMSNorm with the residual add.

The sum that the next block needs is formed where it is normalised, and its gradient is added where the other one
arises: neither addition has a pass over memory of its own.
"""

import torch
import triton
import triton.language as tl

LIMIT = 16384  # elements of a row, which a program holds in registers


@triton.jit
def forward_kernel(
    x_ptr, residual_ptr, w_ptr, y_ptr, s_ptr, rstd_ptr, n, stride_x, stride_residual, eps, BLOCK: tl.constexpr,
):  # fmt: skip
    # TODO: row tl.program_id(0) of y, s and rstd, [n], [n] and a number; BLOCK is at least n. Without a residual
    # residual_ptr is None, s is x, and is not stored.
    tl.static_assert(False, "TODO 3.1d, blank 1")


@triton.jit
def backward_kernel(
    dy_ptr, ds_ptr, s_ptr, w_ptr, rstd_ptr, dx_ptr, partial_ptr, m, n,
    stride_dy_m, stride_dy_n, stride_ds_m, stride_ds_n, stride_s, BLOCK: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    # TODO: dx of every tl.num_programs(0)th row, from tl.program_id(0) on; then, in this program's row of partial,
    # [programs, n], what these rows add to dw. Without a gradient of the sum ds_ptr is None. The loop over rows has
    # STAGES stages, as in 3.1c.
    tl.static_assert(False, "TODO 3.1d, blank 2")


@triton.jit
def column_sums_kernel(partial_ptr, dw_ptr, programs, n, TILE_M: tl.constexpr, TILE_N: tl.constexpr):
    # TODO: TILE_N elements of dw: the sums of these columns of partial, added up in an order that never changes.
    tl.static_assert(False, "TODO 3.1d, blank 3")


def check(w, rows, gradients):
    """Raises ValueError where shapes do not fit, rows are too long, or the elements of one are not adjacent.

    w: asked to be [n]. rows, gradients: tensors, or None, by name; the first says what [m, n] is for all of them.
    """
    name, first = next(iter(rows.items()))
    if first.dim() != 2 or not 1 <= first.shape[1] <= LIMIT:
        raise ValueError(f"{name} is {list(first.shape)}: it has to be [m, n], and n from 1 to {LIMIT}")
    if w.shape != first.shape[1:]:
        raise ValueError(f"w is {list(w.shape)}: it has to be [{first.shape[1]}], as a row of {name} is")
    for other, t in (rows | gradients).items():
        if t is not None and t.shape != first.shape:
            raise ValueError(f"{other} is {list(t.shape)}: it has to be {list(first.shape)}, as {name} is")
    for other, t in rows.items():
        if t is not None and t.shape[1] > 1 and t.stride(1) != 1:
            raise ValueError(f"the elements of a row of {other} lie {t.stride(1)} apart: they have to be adjacent")


def rms_norm_forward(x, residual, w, eps):
    """RMSNorm of a sum: s = x + residual, rstd = 1 / sqrt(mean of s**2 in a row + eps), y = s * rstd * w.

    x: [m, n], fp32, fp16 or bf16, n from 1 to 16384; rows may lie apart, or be the same. residual: the same, or None,
    which makes s x itself. w: [n], contiguous. eps: a number. Works in fp32; what is normalised may be s before it is
    rounded to x's dtype, or after.
    Returns y and s, [m, n], contiguous, x's dtype (s is the tensor x where there is no residual), and rstd, [m], fp32.
    Raises ValueError where shapes and widths do not fit, and where the elements of a row are not adjacent.
    Source: Zhang and Sennrich, Root Mean Square Layer Normalization, arXiv:1910.07467 (2019).
    """
    check(w, {"x": x, "residual": residual}, {})
    # TODO: allocate y, s and rstd, launch a program a row, return them. Beware of m = 0.
    raise NotImplementedError("TODO 3.1d, blank 4")


def rms_norm_backward(dy, ds, s, w, rstd):
    """The gradients of rms_norm_forward, where y has the gradient dy, and s has ds.

    dy: [m, n], any strides (0 too, as an expanded gradient has). ds: the same, or None where the sum was used no
    further. s, w, rstd: as the forward took and returned them; rows of s may lie apart. Works in fp32.
    Returns dx, [m, n], contiguous, s's dtype, which is the gradient of x and of the residual alike, and dw, [n], w's
    dtype; the same bits every time on one GPU. Raises ValueError as the forward does.
    """
    check(w, {"s": s}, {"dy": dy, "ds": ds})
    # TODO: allocate dx, dw and partial, launch both kernels, return dx and dw. With m = 0, dw is 0. STAGES is 3 where
    # two blocks of each matrix that is read, of BLOCK elements, fit 96 KB of shared memory, else 1.
    raise NotImplementedError("TODO 3.1d, blank 5")


class RMSNorm(torch.autograd.Function):
    """rms_norm_forward and rms_norm_backward as one operation that autograd knows."""

    @staticmethod
    def forward(ctx, x, residual, w, eps):
        # TODO: keep for the backward what it needs and nothing more. Return y and s, or y alone where residual is None.
        raise NotImplementedError("TODO 3.1d, blank 6")

    @staticmethod
    def backward(ctx, dy, ds=None):
        # TODO: return a gradient for each argument of `forward`, None for what has none.
        raise NotImplementedError("TODO 3.1d, blank 7")


def rms_norm(x, residual, w, eps):
    """y and s of rms_norm_forward, or y alone where residual is None, with gradients for x, residual and w."""
    return RMSNorm.apply(x, residual, w, eps)


def plain_forward(x, w, eps):
    """y and rstd of rms_norm_forward without a residual: what is timed beside libraries."""
    y, _, rstd = rms_norm_forward(x, None, w, eps)
    return y, rstd


def gradients_of_rms_norm(dy, ds, x, residual, w, eps):
    """The gradients of x, residual and w by autograd, where y has the gradient dy, and s has ds."""
    inputs = [t.detach().requires_grad_() for t in (x, residual, w)]
    return torch.autograd.grad(rms_norm(*inputs, eps), inputs, (dy, ds))


def gradients_of_plain(dy, x, w, eps):
    """The gradients of x and w by autograd, where there is no residual."""
    x, w = (t.detach().requires_grad_() for t in (x, w))
    return torch.autograd.grad(rms_norm(x, None, w, eps), (x, w), dy)
