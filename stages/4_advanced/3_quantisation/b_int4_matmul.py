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
    tl.static_assert(False, "TODO 4.3b, blank 1")


@triton.jit
def few_rows_kernel(
    x_ptr, packed_ptr, scales_ptr, zeros_ptr, out_ptr, m, n, k, stride_xm, stride_xk,
    SHARES: tl.constexpr, TILE_M: tl.constexpr, TILE_N: tl.constexpr,
):  # fmt: skip
    # TODO: TILE_N columns of TILE_M rows of out, [m, n] and contiguous. The groups of k are dealt out in SHARES shares,
    # each of which has a product of its own, all at once: tl.dot takes a batch. They are added up at the end.
    tl.static_assert(False, "TODO 4.3b, blank 2")


@triton.jit
def many_rows_kernel(
    x_ptr, packed_ptr, scales_ptr, zeros_ptr, out_ptr, m, n, k, stride_xm, stride_xk,
    TILE_M: tl.constexpr, TILE_N: tl.constexpr,
):  # fmt: skip
    # TODO: a tile of out, [m, n] and contiguous, TILE_M rows of it and TILE_N columns. Multiply the weights by x, not x
    # by the weights: it is the first factor of tl.dot that the tensor cores take from registers.
    tl.static_assert(False, "TODO 4.3b, blank 3")


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
        raise NotImplementedError("TODO 4.3b, blank 4")
    return out
