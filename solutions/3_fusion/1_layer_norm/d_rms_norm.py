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
    ### BEGIN SOLUTION
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    mask = columns < n
    w = tl.load(w_ptr + columns, mask=mask).to(tl.float32)
    s = tl.load(x_ptr + row * stride_x + columns, mask=mask, other=0.0).to(tl.float32)
    if residual_ptr is not None:
        s += tl.load(residual_ptr + row * stride_residual + columns, mask=mask, other=0.0).to(tl.float32)
        tl.store(s_ptr + row * n + columns, s, mask=mask)
    rstd = tl.rsqrt(tl.sum(s * s, 0) / n + eps)
    tl.store(rstd_ptr + row, rstd)
    tl.store(y_ptr + row * n + columns, s * rstd * w, mask=mask)
    ### END SOLUTION


@triton.jit
def backward_kernel(
    dy_ptr, ds_ptr, s_ptr, w_ptr, rstd_ptr, dx_ptr, partial_ptr, m, n,
    stride_dy_m, stride_dy_n, stride_ds_m, stride_ds_n, stride_s, BLOCK: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    # TODO: dx of every tl.num_programs(0)th row, from tl.program_id(0) on; then, in this program's row of partial,
    # [programs, n], what these rows add to dw. Without a gradient of the sum ds_ptr is None. The loop over rows has
    # STAGES stages, as in 3.1c.
    ### BEGIN SOLUTION
    program = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK).to(tl.int64)  # those of a transposed gradient lie m apart
    mask = columns < n
    w = tl.load(w_ptr + columns, mask=mask, other=0.0).to(tl.float32)
    dw = tl.zeros((BLOCK,), tl.float32)
    for row in tl.range(program, m, tl.num_programs(0), num_stages=STAGES):
        dy = tl.load(dy_ptr + row * stride_dy_m + columns * stride_dy_n, mask=mask, other=0.0).to(tl.float32)
        s = tl.load(s_ptr + row * stride_s + columns, mask=mask, other=0.0).to(tl.float32)
        ds = 0.0
        if ds_ptr is not None:  # before the reduction, in which threads wait for each other: so they wait once
            ds = tl.load(ds_ptr + row * stride_ds_m + columns * stride_ds_n, mask=mask).to(tl.float32)
        rstd = tl.load(rstd_ptr + row)
        normed = s * rstd
        dw += dy * normed
        g = dy * w
        dx = (g - normed * (tl.sum(g * normed, 0) / n)) * rstd + ds
        tl.store(dx_ptr + row * n + columns, dx, mask=mask)
    tl.store(partial_ptr + program * n + columns, dw, mask=mask)
    ### END SOLUTION


@triton.jit
def column_sums_kernel(partial_ptr, dw_ptr, programs, n, TILE_M: tl.constexpr, TILE_N: tl.constexpr):
    # TODO: TILE_N elements of dw: the sums of these columns of partial, added up in an order that never changes.
    ### BEGIN SOLUTION
    columns = tl.program_id(0) * TILE_N + tl.arange(0, TILE_N)
    acc = tl.zeros((TILE_M, TILE_N), tl.float32)
    for start in range(0, programs, TILE_M):
        rows = start + tl.arange(0, TILE_M)
        mask = (rows < programs)[:, None] & (columns < n)[None, :]
        acc += tl.load(partial_ptr + rows[:, None] * n + columns[None, :], mask=mask, other=0.0)
    tl.store(dw_ptr + columns, tl.sum(acc, 0), mask=columns < n)
    ### END SOLUTION


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
    ### BEGIN SOLUTION
    m, n = x.shape
    y = torch.empty((m, n), dtype=x.dtype, device=x.device)
    rstd = torch.empty(m, dtype=torch.float32, device=x.device)
    s, stride_residual = (x, 0) if residual is None else (torch.empty_like(y), residual.stride(0))
    if m > 0:
        BLOCK = triton.next_power_of_2(n)
        strides = x.stride(0), stride_residual
        num_warps = min(max(BLOCK // 1024, 1), 16)
        forward_kernel[(m,)](x, residual, w, y, s, rstd, n, *strides, eps, BLOCK=BLOCK, num_warps=num_warps)
    return y, s, rstd
    ### END SOLUTION


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
    ### BEGIN SOLUTION
    m, n = s.shape
    BLOCK = triton.next_power_of_2(n)
    num_warps = min(max(BLOCK // 512, 1), 16)
    # 16 warps in work on each multiprocessor, to which its registers leave 128 a thread
    multiprocessors = torch.cuda.get_device_properties(s.device).multi_processor_count
    programs = min(m, multiprocessors * (16 // num_warps))
    # two rows of each on their way, where 99 KB of shared memory hold them
    size = sum(t.element_size() for t in (dy, ds, s) if t is not None)
    STAGES = 3 if 2 * BLOCK * size <= 98304 else 1
    dx = torch.empty((m, n), dtype=s.dtype, device=s.device)
    dw = torch.empty_like(w)
    partial = torch.empty((programs, n), dtype=torch.float32, device=s.device)
    if m > 0:
        strides = *dy.stride(), *((0, 0) if ds is None else ds.stride()), s.stride(0)
        backward_kernel[(programs,)](
            dy, ds, s, w, rstd, dx, partial, m, n, *strides, BLOCK=BLOCK, STAGES=STAGES, num_warps=num_warps
        )
    TILE_M, TILE_N = 128, 32
    column_sums_kernel[(triton.cdiv(n, TILE_N),)](partial, dw, programs, n, TILE_M=TILE_M, TILE_N=TILE_N)
    return dx, dw
    ### END SOLUTION


class RMSNorm(torch.autograd.Function):
    """rms_norm_forward and rms_norm_backward as one operation that autograd knows."""

    @staticmethod
    def forward(ctx, x, residual, w, eps):
        # TODO: keep for the backward what it needs and nothing more. Return y and s, or y alone where residual is None.
        ### BEGIN SOLUTION
        y, s, rstd = rms_norm_forward(x, residual, w, eps)
        ctx.save_for_backward(s, w, rstd)
        ctx.alone = residual is None
        return y if ctx.alone else (y, s)
        ### END SOLUTION

    @staticmethod
    def backward(ctx, dy, ds=None):
        # TODO: return a gradient for each argument of `forward`, None for what has none.
        ### BEGIN SOLUTION
        dx, dw = rms_norm_backward(dy, ds, *ctx.saved_tensors)
        return dx, None if ctx.alone else dx, dw, None
        ### END SOLUTION


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
