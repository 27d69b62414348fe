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
    ### BEGIN SOLUTION
    scale_a = tl.load(scale_a_ptr + rows, mask=rows < m, other=0.0)
    scale_b = tl.load(scale_b_ptr + columns, mask=columns < n, other=0.0)
    out = acc.to(tl.float32) * scale_a[:, None] * scale_b[None, :]
    if bias_ptr is not None:
        out += tl.load(bias_ptr + columns, mask=columns < n, other=0.0).to(tl.float32)[None, :]
    return out
    ### END SOLUTION


@triton.jit
def matmul_kernel(
    a_ptr, b_ptr, out_ptr, scale_a_ptr, scale_b_ptr, bias_ptr, m, n, k, stride_am, stride_ak, stride_bk, stride_bn,
    DESCRIPTORS: tl.constexpr, TILE_M: tl.constexpr, TILE_N: tl.constexpr, TILE_K: tl.constexpr, GROUP_M: tl.constexpr,
):  # fmt: skip
    # TODO: the tiles of out, [m, n] and contiguous, dealt out among the programs as in 4.2a. DESCRIPTORS: tiles of a, b
    # and out are moved by descriptors, made here, and some warps load while others multiply and scale. Otherwise a and
    # b have any strides, and pointers do it.
    ### BEGIN SOLUTION
    if DESCRIPTORS:
        a_desc = tl.make_tensor_descriptor(a_ptr, [m, k], [stride_am, 1], [TILE_M, TILE_K])
        b_desc = tl.make_tensor_descriptor(b_ptr, [n, k], [stride_bn, 1], [TILE_N, TILE_K])
        out_desc = tl.make_tensor_descriptor(out_ptr, [m, n], [n, 1], [TILE_M, TILE_N])
    tiles_m, tiles_n = tl.cdiv(m, TILE_M), tl.cdiv(n, TILE_N)
    for number in tl.range(tl.program_id(0), tiles_m * tiles_n, tl.num_programs(0), warp_specialize=DESCRIPTORS):
        first = number // (GROUP_M * tiles_n) * GROUP_M
        height = min(tiles_m - first, GROUP_M)
        place = number % (GROUP_M * tiles_n)
        tile_m, tile_n = first + place % height, place // height
        row, column = tile_m * TILE_M, tile_n * TILE_N
        # in 64 bits, and not from `row`: where a number places a tile and is part of an address as well, the compiler
        # (triton 3.6, 3.7) moves the second half of the tile twice when it splits it between two groups of warps
        rows = tile_m.to(tl.int64) * TILE_M + tl.arange(0, TILE_M)
        columns = tile_n.to(tl.int64) * TILE_N + tl.arange(0, TILE_N)
        acc = tl.zeros((TILE_M, TILE_N), tl.int32)
        for start in range(0, k, TILE_K):
            if DESCRIPTORS:
                a = a_desc.load([row, start])
                b = b_desc.load([column, start]).T
            else:
                inner = start + tl.arange(0, TILE_K)
                a_ptrs = a_ptr + rows[:, None] * stride_am + inner[None, :] * stride_ak
                b_ptrs = b_ptr + inner[:, None] * stride_bk + columns[None, :] * stride_bn
                a = tl.load(a_ptrs, mask=(rows < m)[:, None] & (inner < k)[None, :], other=0)
                b = tl.load(b_ptrs, mask=(inner < k)[:, None] & (columns < n)[None, :], other=0)
            acc = tl.dot(a, b, acc, out_dtype=tl.int32)
        out = scaled(acc, scale_a_ptr, scale_b_ptr, bias_ptr, rows, columns, m, n).to(out_ptr.dtype.element_ty)
        if DESCRIPTORS:
            out_desc.store([row, column], out)
        else:
            out_ptrs = out_ptr + rows[:, None] * n + columns[None, :]
            tl.store(out_ptrs, out, mask=(rows < m)[:, None] & (columns < n)[None, :])
    ### END SOLUTION


def has_descriptors(*matrices):
    """Whether the tiles of all these matrices can be moved by descriptors."""
    # TODO: as in 4.2a: on Hopper (`major` is 9 among the properties of the device), where the elements of a row are
    # adjacent, rows do not overlap and begin at multiples of 16 bytes, and there are elements at all.
    ### BEGIN SOLUTION
    hopper = torch.cuda.get_device_properties(matrices[0].device).major == 9
    rows = all(t.numel() > 0 and t.stride(1) == 1 and t.stride(0) >= t.shape[1] for t in matrices)
    aligned = all(t.data_ptr() % 16 == 0 and t.stride(0) * t.element_size() % 16 == 0 for t in matrices)
    return hopper and rows and aligned
    ### END SOLUTION


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
        ### BEGIN SOLUTION
        DESCRIPTORS = has_descriptors(a, b.T, out)
        if DESCRIPTORS:
            triton.set_allocator(lambda size, alignment, stream: torch.empty(size, dtype=torch.int8, device=a.device))
            # two groups of 4 warps have 64 rows each, 128 sums a thread; the warps that load come on top
            tiles = {"TILE_M": 128, "TILE_N": 256, "TILE_K": 128, "GROUP_M": 8, "num_warps": 4, "num_stages": 3}
        else:
            tiles = {"TILE_M": 128, "TILE_N": 128, "TILE_K": 128, "GROUP_M": 8, "num_warps": 8, "num_stages": 3}
        multiprocessors = torch.cuda.get_device_properties(a.device).multi_processor_count
        programs = min(multiprocessors, triton.cdiv(m, tiles["TILE_M"]) * triton.cdiv(n, tiles["TILE_N"]))
        matmul_kernel[(programs,)](
            a, b, out, scale_a, scale_b, bias, m, n, k, *a.stride(), *b.stride(), DESCRIPTORS=DESCRIPTORS, **tiles
        )
        ### END SOLUTION
    return out
