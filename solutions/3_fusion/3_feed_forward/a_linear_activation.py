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
    ### BEGIN SOLUTION
    # nothing runs beside an epilogue that would hide its instructions: silu is five of them like this, 13 by tl.sigmoid
    if OP == "relu":
        return tl.where(x < 0, 0.0, x)
    elif OP == "silu":
        return libdevice.fast_dividef(x, 1 + tl.exp2(-1.4426950408889634 * x))
    elif OP == "gelu":
        a = tl.abs(x)
        p = -1.83492831e-06
        p = p * a + 6.16006127e-05
        p = p * a - 0.000930542691
        p = p * a + 0.00850795777
        p = p * a - 0.0539601946
        p = p * a - 0.458464285
        p = p * a - 1.15125108
        p = p * a - 0.999995293
        tail = tl.exp2(p)
        return x * tl.where(x < 0, tail, 1 - tail)
    elif OP == "gelu_tanh":
        # x times the sigmoid of twice what tanh is asked of, all factors and log2(e) in two
        return libdevice.fast_dividef(x, 1 + tl.exp2(x * (-2.302208198 - 0.1029432397 * x * x)))
    ### END SOLUTION


@triton.jit
def linear_kernel(
    x_ptr, w_ptr, bias_ptr, out_ptr, m, n, k, stride_xm, stride_xk, stride_wn, stride_wk, OP: tl.constexpr,
    TILE_M: tl.constexpr, TILE_N: tl.constexpr, TILE_K: tl.constexpr, GROUP_M: tl.constexpr,
):  # fmt: skip
    # TODO: one tile of out, [m, n] and contiguous: the activation of x @ w.T + bias. x is [m, k], w is [n, k], bias
    # is [n]. Tiles in groups of GROUP_M rows, as in 2.1b; everything up to the store in fp32.
    ### BEGIN SOLUTION
    tiles_m, tiles_n = tl.cdiv(m, TILE_M), tl.cdiv(n, TILE_N)
    first = tl.program_id(0) // (GROUP_M * tiles_n) * GROUP_M
    height = min(tiles_m - first, GROUP_M)
    place = tl.program_id(0) % (GROUP_M * tiles_n)
    rows = (first + place % height).to(tl.int64) * TILE_M + tl.arange(0, TILE_M)
    columns = (place // height).to(tl.int64) * TILE_N + tl.arange(0, TILE_N)
    inner = tl.arange(0, TILE_K)
    x_ptrs = x_ptr + rows[:, None] * stride_xm + inner[None, :] * stride_xk
    # w.T by its addresses: a column of the product walks along a row of w
    w_ptrs = w_ptr + inner[:, None] * stride_wk + columns[None, :] * stride_wn
    acc = tl.zeros((TILE_M, TILE_N), tl.float32)
    for start in range(0, k, TILE_K):
        x = tl.load(x_ptrs, mask=(rows < m)[:, None] & (inner < k - start)[None, :], other=0.0)
        w = tl.load(w_ptrs, mask=(inner < k - start)[:, None] & (columns < n)[None, :], other=0.0)
        acc = tl.dot(x, w, acc)
        x_ptrs += TILE_K * stride_xk
        w_ptrs += TILE_K * stride_wk
    # after the loop, in which it would hold registers
    bias = tl.load(bias_ptr + columns, mask=columns < n).to(tl.float32)
    out = activate(acc + bias[None, :], OP)
    out_ptrs = out_ptr + rows[:, None] * n + columns[None, :]
    tl.store(out_ptrs, out, mask=(rows < m)[:, None] & (columns < n)[None, :])
    ### END SOLUTION


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
        ### BEGIN SOLUTION
        # 4 warps, 128 accumulators a thread; 32 KB a stage. Two programs share a multiprocessor of Hopper: while one of
        # them activates and stores, the other one multiplies
        TILE_M, TILE_N, TILE_K = 128, 128, 64
        # 264 programs then make about a square of the product
        GROUP_M = 16
        grid = (triton.cdiv(m, TILE_M) * triton.cdiv(n, TILE_N),)
        linear_kernel[grid](
            x, w, bias, out, m, n, k, *x.stride(), *w.stride(), OP=op,
            TILE_M=TILE_M, TILE_N=TILE_N, TILE_K=TILE_K, GROUP_M=GROUP_M, num_warps=4, num_stages=3,
        )  # fmt: skip
        ### END SOLUTION
    return out
