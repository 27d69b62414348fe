"""INT4 matmul.

Weights of four bits are unpacked in registers, just before they are multiplied: memory moves a quarter of the bytes.
For few rows of x that is all that counts, and the warps of a program share k among them; for many, tiles are large.
"""

import torch
import triton
import triton.language as tl


@triton.jit
def plane(words, j: tl.constexpr, zeros):
    """16 weights of each column and group, nibble j of its 16 words, less its zero point: exact, of zeros' dtype."""
    # TODO: words are int32, zeros fp16 or bf16, and broadcast to their shape.
    ### BEGIN SOLUTION
    nibbles = (words >> 4 * j) & 15
    # Integers are slow to convert. The last digit of a bf16 is worth 1 from 128 to 256, that of an fp16 from 1024 to
    # 2048: there a nibble is added by writing it into the bits.
    if zeros.dtype == tl.bfloat16:
        return (nibbles | 0x4300).to(tl.int16).to(tl.bfloat16, bitcast=True) - (zeros + 128)
    else:
        return (nibbles | 0x6400).to(tl.int16).to(tl.float16, bitcast=True) - (zeros + 1024)
    ### END SOLUTION


@triton.jit
def few_rows_kernel(
    x_ptr, packed_ptr, scales_ptr, zeros_ptr, out_ptr, m, n, k, stride_xm, stride_xk,
    SHARES: tl.constexpr, TILE_M: tl.constexpr, TILE_N: tl.constexpr,
):  # fmt: skip
    # TODO: TILE_N columns of TILE_M rows of out, [m, n] and contiguous. The groups of k are dealt out in SHARES shares,
    # each of which has a product of its own, all at once: tl.dot takes a batch. They are added up at the end.
    ### BEGIN SOLUTION
    rows = tl.program_id(1) * TILE_M + tl.arange(0, TILE_M)
    columns = tl.program_id(0) * TILE_N + tl.arange(0, TILE_N)
    inner = tl.arange(0, 16)
    groups = k // 128
    steps = tl.cdiv(groups, SHARES)
    group = tl.arange(0, SHARES).to(tl.int64) * steps  # of each share the first; a warp has a share
    offsets = group[:, None] * n + columns[None, :]
    words_ptrs = packed_ptr + (group[:, None, None] * 16 + inner[None, None, :]) * n + columns[None, :, None]
    x_offsets = (group[:, None] * 128 + inner)[:, :, None] * stride_xk + rows.to(tl.int64)[None, None, :] * stride_xm
    x_ptrs = x_ptr + x_offsets
    acc = tl.zeros((SHARES, TILE_N, TILE_M), tl.float32)
    for step in range(0, steps):
        there = group + step < groups
        mask = there[:, None] & (columns < n)[None, :]
        scales = tl.load(scales_ptr + offsets + step * n, mask=mask, other=0.0)
        zeros = tl.load(zeros_ptr + offsets + step * n, mask=mask, other=0).to(x_ptr.dtype.element_ty)
        words = tl.load(words_ptrs, mask=mask[:, :, None], other=0)
        sums = tl.zeros((SHARES, TILE_N, TILE_M), tl.float32)
        for j in tl.static_range(8):
            x_mask = there[:, None, None] & (rows < m)[None, None, :]
            x = tl.load(x_ptrs + j * 16 * stride_xk, mask=x_mask, other=0.0)
            sums = tl.dot(plane(words, j, zeros[:, :, None]), x, sums)
        acc += sums * scales.to(tl.float32)[:, :, None]
        words_ptrs += 16 * n
        x_ptrs += 128 * stride_xk
    out_ptrs = out_ptr + rows[None, :] * n + columns[:, None]
    tl.store(out_ptrs, tl.sum(acc, 0), mask=(rows < m)[None, :] & (columns < n)[:, None])
    ### END SOLUTION


@triton.jit
def many_rows_kernel(
    x_ptr, packed_ptr, scales_ptr, zeros_ptr, out_ptr, m, n, k, stride_xm, stride_xk,
    TILE_M: tl.constexpr, TILE_N: tl.constexpr,
):  # fmt: skip
    # TODO: a tile of out, [m, n] and contiguous, TILE_M rows of it and TILE_N columns. Multiply the weights by x, not x
    # by the weights: it is the first factor of tl.dot that the tensor cores take from registers.
    ### BEGIN SOLUTION
    rows = tl.program_id(1) * TILE_M + tl.arange(0, TILE_M)
    columns = tl.program_id(0) * TILE_N + tl.arange(0, TILE_N)
    inner = tl.arange(0, 16)
    x_ptrs = x_ptr + inner[:, None] * stride_xk + rows[None, :].to(tl.int64) * stride_xm
    words_ptrs = packed_ptr + inner[None, :] * n + columns[:, None]
    acc = tl.zeros((TILE_N, TILE_M), tl.float32)
    for group in range(0, k // 128):
        scales = tl.load(scales_ptr + group * n + columns, mask=columns < n, other=0.0)
        zeros = tl.load(zeros_ptr + group * n + columns, mask=columns < n, other=0).to(x_ptr.dtype.element_ty)
        words = tl.load(words_ptrs, mask=(columns < n)[:, None], other=0)
        sums = tl.zeros((TILE_N, TILE_M), tl.float32)
        for j in tl.static_range(8):
            x = tl.load(x_ptrs + j * 16 * stride_xk, mask=(rows < m)[None, :], other=0.0)
            sums = tl.dot(plane(words, j, zeros[:, None]), x, sums)
        acc += sums * scales.to(tl.float32)[:, None]
        words_ptrs += 16 * n
        x_ptrs += 128 * stride_xk
    out_ptrs = out_ptr + rows[None, :].to(tl.int64) * n + columns[:, None]
    tl.store(out_ptrs, acc, mask=(rows < m)[None, :] & (columns < n)[:, None])
    ### END SOLUTION


def int4_matmul(x, packed, scales, zeros):
    """The product of x and weights of four bits, x @ ((weights - zeros) * scales).

    x: [m, k], any strides, fp16 or bf16, k a multiple of 128. packed: [k / 8, n], int32: 128 weights of a column, a
    group, are in 16 words below each other, weight 16 * j + i in bits 4 * j to 4 * j + 3 of word i. scales, of x's
    dtype, and zeros, int8, from 0 to 15: [k / 128, n], one for each group and column. All three contiguous. Adds in
    fp32 and rounds once; the same bits at every call. Returns [m, n], contiguous, of x's dtype. Raises ValueError where
    shapes, dtypes or strides do not go together.
    """
    (m, k), n = x.shape, packed.shape[1]
    if k % 128:
        raise ValueError(f"k is {k}: it has to be a multiple of 128, so that it ends with a group")
    if packed.shape[0] != k // 8 or scales.shape != (k // 128, n) or zeros.shape != scales.shape:
        shapes = f"packed {list(packed.shape)}, scales {list(scales.shape)}, zeros {list(zeros.shape)}"
        raise ValueError(f"x {[m, k]} wants packed [{k // 8}, n], scales and zeros [{k // 128}, n], not {shapes}")
    if x.dtype not in (torch.float16, torch.bfloat16) or scales.dtype != x.dtype:
        raise ValueError(f"x and scales are both fp16 or both bf16, not {x.dtype} and {scales.dtype}")
    if packed.dtype != torch.int32 or zeros.dtype != torch.int8:
        raise ValueError(f"packed is int32 and zeros int8, not {packed.dtype} and {zeros.dtype}")
    if not packed.is_contiguous() or not scales.is_contiguous() or not zeros.is_contiguous():
        raise ValueError("packed, scales and zeros have to be contiguous")
    out = torch.empty((m, n), dtype=x.dtype, device=x.device)
    if out.numel() > 0:
        # TODO: launch one of the kernels. A warp of few_rows_kernel takes a share: choose how many, and tiles so small
        # that all of a GPU's multiprocessors have programs where n and k are 8192.
        ### BEGIN SOLUTION
        arguments = (x, packed, scales, zeros, out, m, n, k, *x.stride())
        if m <= 64:
            TILE_M, TILE_N = max(8, triton.next_power_of_2(m)), 16
            SHARES = min(8, 128 // TILE_M)
            few_rows_kernel[(triton.cdiv(n, TILE_N), triton.cdiv(m, TILE_M))](
                *arguments, SHARES=SHARES, TILE_M=TILE_M, TILE_N=TILE_N, num_warps=SHARES, num_stages=3
            )
        else:
            TILE_M, TILE_N = 128, 128
            many_rows_kernel[(triton.cdiv(n, TILE_N), triton.cdiv(m, TILE_M))](
                *arguments, TILE_M=TILE_M, TILE_N=TILE_N, num_warps=8, num_stages=3
            )
        ### END SOLUTION
    return out
