"""INT8 matmul.

Products of 8-bit numbers, added up exactly in int32. A scale for each row of a and one for each column of b make real
numbers of a tile of sums, while it is still in registers.
"""

import torch
import triton
import triton.language as tl


@triton.jit
def scaled(acc, scale_a_ptr, scale_b_ptr, bias_ptr, rows, columns, m, n):
    """What a tile of sums stands for: scaled by its rows and its columns, with its bias."""
    # TODO: acc is int32; return fp32. scale_a is [m], scale_b and bias are [n]. bias_ptr may be None.
    tl.static_assert(False, "TODO 4.3a, blank 1")


@triton.jit
def matmul_kernel(
    a_ptr, b_ptr, out_ptr, scale_a_ptr, scale_b_ptr, bias_ptr, m, n, k, stride_am, stride_ak, stride_bk, stride_bn,
    DESCRIPTORS: tl.constexpr, TILE_M: tl.constexpr, TILE_N: tl.constexpr, TILE_K: tl.constexpr, GROUP_M: tl.constexpr,
):  # fmt: skip
    # TODO: the tiles of out, [m, n] and contiguous, dealt out among the programs as in 4.2a. DESCRIPTORS: tiles of a, b
    # and out are moved by descriptors, made here, and some warps load while others multiply and scale. Otherwise a and
    # b have any strides, and pointers do it.
    tl.static_assert(False, "TODO 4.3a, blank 2")


def has_descriptors(*matrices):
    """Whether the tiles of all these matrices can be moved by descriptors."""
    # TODO: as in 4.2a: on Hopper (`major` is 9 among the properties of the device), where the elements of a row are
    # adjacent, rows do not overlap and begin at multiples of 16 bytes, and there are elements at all.
    raise NotImplementedError("TODO 4.3a, blank 3")


def int8_matmul(a, b, scale_a, scale_b, bias):
    """The product of two quantised matrices, (scale_a[:, None] * a) @ (scale_b * b) + bias.

    a: [m, k], b: [k, n], int8, any strides, neither copied, k <= 131071, so that no sum leaves int32. Fastest where k
    is contiguous in both, as in the weights of torch.nn.Linear, transposed. scale_a: [m], scale_b: [n], fp32,
    contiguous. bias: [n], fp16 or bf16, contiguous, or None. Sums are exact, what follows is fp32, rounded once.
    Returns [m, n], contiguous, of the bias's dtype; of bf16 without one. Raises ValueError where shapes or dtypes do
    not go together.
    """
    (m, k), n = a.shape, b.shape[1]
    vectors = [t for t in (scale_a, scale_b, bias) if t is not None]
    if b.shape[0] != k or [t.shape for t in vectors] != [(m,), (n,), (n,)][: len(vectors)]:
        shapes = [list(t.shape) for t in (b, *vectors)]
        raise ValueError(f"a {[m, k]} wants b [{k}, n], scale_a [{m}], scale_b [n], and bias [n] or None, not {shapes}")
    if k > 131071:
        raise ValueError(f"k is {k}: more than 131071 products of -128 and -128 leave int32")
    if {a.dtype, b.dtype} != {torch.int8} or {scale_a.dtype, scale_b.dtype} != {torch.float32}:
        raise ValueError(f"a, b are int8, scales fp32, not {a.dtype}, {b.dtype}, {scale_a.dtype}, {scale_b.dtype}")
    if bias is not None and bias.dtype not in (torch.float16, torch.bfloat16):
        raise ValueError(f"bias is fp16, bf16 or None, not {bias.dtype}")
    out = torch.empty((m, n), dtype=torch.bfloat16 if bias is None else bias.dtype, device=a.device)
    if out.numel() > 0:
        # TODO: launch matmul_kernel, with at most a program a multiprocessor. By descriptors where a, b.T and out have
        # them: triton.set_allocator gets them their memory. Choose tiles, warps and stages for either way, for pointers
        # within 101,376 bytes of shared memory.
        raise NotImplementedError("TODO 4.3a, blank 4")
    return out
