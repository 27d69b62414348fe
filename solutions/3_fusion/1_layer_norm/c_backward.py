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
    ### BEGIN SOLUTION
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    mask = columns < n
    x = tl.load(x_ptr + row * stride_row + columns, mask=mask, other=0.0).to(tl.float32)
    mean = tl.sum(x, 0) / n
    centred = tl.where(mask, x - mean, 0.0)
    rstd = tl.rsqrt(tl.sum(centred * centred, 0) / n + eps)
    # not before the sums: until then they would hold registers, and they come from the L2, where other rows left them
    w = tl.load(w_ptr + columns, mask=mask).to(tl.float32)
    b = tl.load(b_ptr + columns, mask=mask).to(tl.float32)
    tl.store(y_ptr + row * n + columns, centred * rstd * w + b, mask=mask)
    tl.store(mean_ptr + row, mean)
    tl.store(rstd_ptr + row, rstd)
    ### END SOLUTION


@triton.jit
def backward_kernel(
    dy_ptr, x_ptr, w_ptr, mean_ptr, rstd_ptr, dx_ptr, partial_dw_ptr, partial_db_ptr,
    m, n, stride_dy_m, stride_dy_n, stride_x, BLOCK: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    # TODO: deal out the m rows among the programs. Of every row of this one dx, as in 3.1b; and to row tl.program_id(0)
    # of partial_dw and partial_db, n columns each, what all of its rows have for dw and db. The loop over rows has
    # STAGES stages: while one row is worked on, STAGES - 1 are on their way.
    ### BEGIN SOLUTION
    first = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    mask = columns < n
    w = tl.load(w_ptr + columns, mask=mask, other=0.0).to(tl.float32)
    dw = tl.zeros((BLOCK,), tl.float32)
    db = tl.zeros((BLOCK,), tl.float32)
    # programs that run together take rows that lie together
    for row in tl.range(first, m, tl.num_programs(0), num_stages=STAGES):
        x = tl.load(x_ptr + row * stride_x + columns, mask=mask, other=0.0).to(tl.float32)
        dy_ptrs = dy_ptr + row * stride_dy_m + columns.to(tl.int64) * stride_dy_n
        dy = tl.load(dy_ptrs, mask=mask, other=0.0).to(tl.float32)
        rstd = tl.load(rstd_ptr + row)
        normalised = (x - tl.load(mean_ptr + row)) * rstd
        g = dy * w
        dx = rstd * (g - tl.sum(g, 0) / n - normalised * (tl.sum(g * normalised, 0) / n))
        tl.store(dx_ptr + row * n + columns, dx, mask=mask)
        dw += dy * normalised
        db += dy
    tl.store(partial_dw_ptr + first * n + columns, dw, mask=mask)
    tl.store(partial_db_ptr + first * n + columns, db, mask=mask)
    ### END SOLUTION


@triton.jit
def add_up_kernel(partial_dw_ptr, partial_db_ptr, dw_ptr, db_ptr, parts, n, TILE_M: tl.constexpr, TILE_N: tl.constexpr):
    # TODO: TILE_N columns of dw and db: the sums of `parts` rows of partial_dw and partial_db, as in 2.2c.
    ### BEGIN SOLUTION
    columns = tl.program_id(0) * TILE_N + tl.arange(0, TILE_N)
    dw = tl.zeros((TILE_M, TILE_N), tl.float32)
    db = tl.zeros((TILE_M, TILE_N), tl.float32)
    for start in range(0, parts, TILE_M):
        rows = start + tl.arange(0, TILE_M)
        offsets = rows[:, None] * n + columns[None, :]
        mask = (rows < parts)[:, None] & (columns < n)[None, :]
        dw += tl.load(partial_dw_ptr + offsets, mask=mask, other=0.0)
        db += tl.load(partial_db_ptr + offsets, mask=mask, other=0.0)
    tl.store(dw_ptr + columns, tl.sum(dw, 0), mask=columns < n)
    tl.store(db_ptr + columns, tl.sum(db, 0), mask=columns < n)
    ### END SOLUTION


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
    ### BEGIN SOLUTION
    y = torch.empty((m, n), dtype=x.dtype, device=x.device)
    mean = torch.empty(m, dtype=torch.float32, device=x.device)
    rstd = torch.empty_like(mean)
    if m > 0:
        BLOCK = triton.next_power_of_2(n)
        num_warps = min(max(BLOCK // 512, 1), 16)
        forward_kernel[(m,)](x, w, b, y, mean, rstd, n, x.stride(0), eps, BLOCK=BLOCK, num_warps=num_warps)
    return y, mean, rstd
    ### END SOLUTION


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
    ### BEGIN SOLUTION
    BLOCK = triton.next_power_of_2(n)
    num_warps = min(max(BLOCK // 512, 1), 32)
    # 16 elements a thread, of x, dy, w, dw and db: the registers of a multiprocessor hold 16 such warps
    multiprocessors = torch.cuda.get_device_properties(x.device).multi_processor_count
    programs = min(m, multiprocessors * max(16 // num_warps, 1))
    # two rows of x and of dy on their way, each in a block, where 99 KB of shared memory hold them
    STAGES = 3 if 2 * BLOCK * (x.element_size() + dy.element_size()) <= 98304 else 1
    dx = torch.empty((m, n), dtype=x.dtype, device=x.device)
    dw, db = torch.empty_like(w), torch.empty_like(w)
    partial_dw = torch.empty((programs, n), dtype=torch.float32, device=x.device)
    partial_db = torch.empty_like(partial_dw)
    if m > 0:
        backward_kernel[(programs,)](
            dy, x, w, mean, rstd, dx, partial_dw, partial_db,
            m, n, *dy.stride(), x.stride(0), BLOCK=BLOCK, STAGES=STAGES, num_warps=num_warps,
        )  # fmt: skip
    TILE_M, TILE_N = 64, 32
    add_up_kernel[(triton.cdiv(n, TILE_N),)](partial_dw, partial_db, dw, db, programs, n, TILE_M=TILE_M, TILE_N=TILE_N)
    return dx, dw, db
    ### END SOLUTION


class LayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w, b, eps):
        # TODO: y; and keep for backward what it needs.
        ### BEGIN SOLUTION
        y, mean, rstd = layer_norm_forward(x, w, b, eps)
        ctx.save_for_backward(x, w, mean, rstd)
        return y
        ### END SOLUTION

    @staticmethod
    def backward(ctx, dy):
        # TODO: a gradient for each argument of forward, None for eps.
        ### BEGIN SOLUTION
        return *layer_norm_backward(dy, *ctx.saved_tensors), None
        ### END SOLUTION


def layer_norm(x, w, b, eps):
    """y of layer_norm_forward, differentiable once in x, w and b."""
    return LayerNorm.apply(x, w, b, eps)


def gradients_of_layer_norm(dy, x, w, b, eps):
    """What arrives at x, w and b when dy arrives at layer_norm(x, w, b, eps)."""
    x, w, b = (t.detach().requires_grad_() for t in (x, w, b))
    return torch.autograd.grad(layer_norm(x, w, b, eps), (x, w, b), dy)
