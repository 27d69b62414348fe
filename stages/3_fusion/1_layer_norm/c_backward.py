"""LayerNorm backward: dx, dw and db.

A program takes many rows, and adds up in registers what each of them has for dw and db. It leaves one row of partial
sums; a second launch adds up these rows. x and dy are read once, and the order of the additions is fixed.
"""

import torch
import triton
import triton.language as tl


@triton.jit
def forward_kernel(x_ptr, w_ptr, b_ptr, y_ptr, mean_ptr, rstd_ptr, n, stride_row, eps, BLOCK: tl.constexpr):
    # TODO: your kernel of 3.1a.
    tl.static_assert(False, "TODO 3.1c, blank 1")


@triton.jit
def backward_kernel(
    dy_ptr, x_ptr, w_ptr, mean_ptr, rstd_ptr, dx_ptr, partial_dw_ptr, partial_db_ptr,
    m, n, stride_dy_m, stride_dy_n, stride_x, BLOCK: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    # TODO: deal out the m rows among the programs. Of every row of this one dx, as in 3.1b; and to row tl.program_id(0)
    # of partial_dw and partial_db, n columns each, what all of its rows have for dw and db. The loop over rows has
    # STAGES stages: while one row is worked on, STAGES - 1 are on their way.
    tl.static_assert(False, "TODO 3.1c, blank 2")


@triton.jit
def add_up_kernel(partial_dw_ptr, partial_db_ptr, dw_ptr, db_ptr, parts, n, TILE_M: tl.constexpr, TILE_N: tl.constexpr):
    # TODO: TILE_N columns of dw and db: the sums of `parts` rows of partial_dw and partial_db, as in 2.2c.
    tl.static_assert(False, "TODO 3.1c, blank 3")


def check(x, **vectors):
    """Raises ValueError where x cannot be normalised, or one of `vectors` is not as long as a row of it."""
    if x.dim() != 2 or not 1 <= x.shape[1] <= 16384:
        raise ValueError(f"x is {list(x.shape)}: it has to be [m, n], and n from 1 to 16384")
    if x.shape[1] > 1 and x.stride(1) != 1:
        raise ValueError(f"the elements of a row of x lie {x.stride(1)} apart: they have to be adjacent")
    for name, vector in vectors.items():
        if vector.shape != x.shape[1:]:
            raise ValueError(f"{name} is {list(vector.shape)}: it has to be {list(x.shape[1:])}, as a row of x is")


def layer_norm_forward(x, w, b, eps):
    """As layer_norm of 3.1a, with n <= 16384: y, mean and rstd. Raises ValueError as there."""
    check(x, w=w, b=b)
    m, n = x.shape
    # TODO: as in 3.1a.
    raise NotImplementedError("TODO 3.1c, blank 4")


def layer_norm_backward(dy, x, w, mean, rstd):
    """The gradients of a loss with respect to x, w and b, from dy, that with respect to y.

    dy: [m, n], any strides (0 too). x: [m, n], 1 <= n <= 16384, its rows may lie apart, or be the same. w: [n],
    contiguous. Each fp32, fp16 or bf16. mean, rstd: [m], fp32, contiguous, of layer_norm_forward. Adds in fp32.
    Returns dx [m, n], contiguous, of x's dtype; dw [n] and db [n], of w's dtype, 0 where there are no rows; the same
    bits every time on one GPU.
    Raises ValueError for shapes and widths that do not fit, and where the elements of a row of x are not adjacent.
    """
    check(x, w=w)
    m, n = x.shape
    if dy.shape != x.shape:
        raise ValueError(f"dy is {list(dy.shape)} and x is {list(x.shape)}: they have to be alike")
    if mean.shape != (m,) or rstd.shape != (m,):
        raise ValueError(f"mean is {list(mean.shape)} and rstd is {list(rstd.shape)}: both have to be [{m}], one a row")
    # TODO: dx, dw, db and the partial sums; then two launches: as many programs as the GPU holds at one time, and one
    # for each TILE_N columns. torch.cuda.get_device_properties(x.device).multi_processor_count has an answer without a
    # GPU, too. STAGES is 3 where two blocks of x and of dy, of BLOCK elements, fit 96 KB of shared
    # memory, else 1.
    raise NotImplementedError("TODO 3.1c, blank 5")


class LayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w, b, eps):
        # TODO: y; and keep for backward what it needs.
        raise NotImplementedError("TODO 3.1c, blank 6")

    @staticmethod
    def backward(ctx, dy):
        # TODO: a gradient for each argument of forward, None for eps.
        raise NotImplementedError("TODO 3.1c, blank 7")


def layer_norm(x, w, b, eps):
    """y of layer_norm_forward, differentiable once in x, w and b."""
    return LayerNorm.apply(x, w, b, eps)


def gradients_of_layer_norm(dy, x, w, b, eps):
    """What arrives at x, w and b when dy arrives at layer_norm(x, w, b, eps)."""
    x, w, b = (t.detach().requires_grad_() for t in (x, w, b))
    return torch.autograd.grad(layer_norm(x, w, b, eps), (x, w, b), dy)
