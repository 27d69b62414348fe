"""Persistent matmul.

One program a multiprocessor makes one tile after the other, and loads the next while it stores the last. Where the
GPU can, tensor descriptors hand the moving of tiles to its copy engine; elsewhere pointers do.
"""

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor


@triton.jit
def load(x, strides, row, column, m, n, TILE_M: tl.constexpr, TILE_N: tl.constexpr, PATH: tl.constexpr):
    # TODO: return the tile [TILE_M, TILE_N] of a matrix [m, n] that begins at `row` and `column`, zeros outside of the
    # matrix. `x` is what `path_to` made of the matrix, and PATH says what that is.
    tl.static_assert(False, "TODO 4.2a, blank 1")


@triton.jit
def store(x, tile, row, column, m, n, TILE_M: tl.constexpr, TILE_N: tl.constexpr, PATH: tl.constexpr):
    # TODO: store `tile` to a contiguous matrix [m, n], at `row` and `column`, nothing outside of it.
    tl.static_assert(False, "TODO 4.2a, blank 2")


@triton.jit
def matmul_kernel(
    a, b, c, a_strides, b_strides, m, n, k, A_PATH: tl.constexpr, B_PATH: tl.constexpr, C_PATH: tl.constexpr,
    TILE_M: tl.constexpr, TILE_N: tl.constexpr, TILE_K: tl.constexpr, GROUP_M: tl.constexpr,
):  # fmt: skip
    # TODO: make every tile of c whose number is tl.program_id(0), or that and a multiple of the number of programs.
    # Tiles are numbered in groups of GROUP_M rows, as in 2.1b. Let the compiler run on from one tile into the next.
    tl.static_assert(False, "TODO 4.2a, blank 3")


def path_to(x):
    """How a kernel reaches tiles of a matrix x: "rows", by a descriptor of x; "columns", of x.T; or "pointers"."""
    # TODO: descriptors where the GPU has them and x lies as they ask. Those of compute capability 9 and 10 have, and
    # room in shared memory for what they carry. x lies so if its rows or else its columns are without gaps inside, do
    # not overlap, and begin at multiples of 16 bytes; and if no size is 0.
    # torch.cuda.get_device_properties(x.device).major has an answer without a GPU, too.
    raise NotImplementedError("TODO 4.2a, blank 4")


def described(x, path, tile):
    """What a kernel is handed to take that path to tiles of x, of `tile` elements, [rows, columns]."""
    # TODO: a descriptor of x or of x.T, or x itself.
    raise NotImplementedError("TODO 4.2a, blank 5")


def matmul(a, b):
    """The product a @ b.

    a: [m, k], b: [k, n], any strides and alignment, both fp16 or both bf16. Accumulates in fp32. Returns [m, n],
    contiguous, the same dtype; zeros where k is 0. Raises ValueError where shapes or dtypes do not go together.
    """
    if a.dim() != 2 or b.dim() != 2 or a.shape[1] != b.shape[0]:
        raise ValueError(f"a is {list(a.shape)} and b is {list(b.shape)}: they have to be [m, k] and [k, n]")
    if a.dtype not in (torch.float16, torch.bfloat16) or a.dtype != b.dtype:
        raise ValueError(f"a is {a.dtype} and b is {b.dtype}: both have to be float16, or both bfloat16")
    (m, k), n = a.shape, b.shape[1]
    c = torch.empty((m, n), dtype=a.dtype, device=a.device)
    if c.numel() > 0:
        # TODO: find the paths to a, b and c, choose tiles, warps and stages by them, and launch matmul_kernel: one
        # program a multiprocessor (the properties of the GPU tell its multi_processor_count), and none without a tile.
        # By pointers a program may take 101,376 bytes of shared memory, by descriptors 232,448.
        raise NotImplementedError("TODO 4.2a, blank 6")
    return c
