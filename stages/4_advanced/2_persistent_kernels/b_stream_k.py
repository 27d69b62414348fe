"""Stream-K.

The tiles that fill whole waves are made as before. The steps of those left over are one long line, cut into equal
shares, one a multiprocessor: a share begins and ends in the middle of tiles. A second launch adds up the pieces.
"""

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor


@triton.jit
def load(x, strides, row, column, m, n, TILE_M: tl.constexpr, TILE_N: tl.constexpr, PATH: tl.constexpr):
    # TODO: your load of 4.2a.
    tl.static_assert(False, "TODO 4.2b, blank 1")


@triton.jit
def store(x, tile, row, column, m, n, TILE_M: tl.constexpr, TILE_N: tl.constexpr, PATH: tl.constexpr):
    # TODO: your store of 4.2a.
    tl.static_assert(False, "TODO 4.2b, blank 2")


@triton.jit
def place(tile, m, n, TILE_M: tl.constexpr, TILE_N: tl.constexpr, GROUP_M: tl.constexpr):
    # TODO: return the first row and the first column of a tile, by its number, in groups of GROUP_M rows of tiles.
    tl.static_assert(False, "TODO 4.2b, blank 3")


@triton.jit
def multiply(
    a, b, a_strides, b_strides, m, n, k, row, column, first, end, A_PATH: tl.constexpr, B_PATH: tl.constexpr,
    TILE_M: tl.constexpr, TILE_N: tl.constexpr, TILE_K: tl.constexpr,
):  # fmt: skip
    # TODO: return what the steps from `first` up to `end` add to the tile at `row` and `column`.
    tl.static_assert(False, "TODO 4.2b, blank 4")


@triton.jit
def stream_kernel(
    a, b, c, pieces_ptr, a_strides, b_strides, m, n, k, steps, whole, left, shares,
    A_PATH: tl.constexpr, B_PATH: tl.constexpr, C_PATH: tl.constexpr,
    TILE_M: tl.constexpr, TILE_N: tl.constexpr, TILE_K: tl.constexpr, GROUP_M: tl.constexpr,
):  # fmt: skip
    # TODO: the first `whole` tiles as in 4.2a. The `left` tiles that follow have `steps` steps each, left * steps in a
    # line: share s of it is from s * left * steps // shares up to where share s + 1 begins. Of every tile that this
    # program's share has steps of, leave what these add up to, fp32, [TILE_M, TILE_N], as piece number program + tile
    # in pieces_ptr, where tiles count from the first of those left. Programs beyond the shares have none.
    tl.static_assert(False, "TODO 4.2b, blank 5")


@triton.jit
def fix_up_kernel(
    pieces_ptr, c_ptr, m, n, steps, whole, shares,
    TILE_M: tl.constexpr, TILE_N: tl.constexpr, GROUP_M: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    # TODO: ROWS rows of one of the tiles left, number tl.program_id(1): add up its pieces in a fixed order, from that
    # of the share with the tile's first step to that of the share with its last, and store the sum to c.
    tl.static_assert(False, "TODO 4.2b, blank 6")


def path_to(x):
    """How a kernel reaches tiles of a matrix x: "rows", by a descriptor of x; "columns", of x.T; or "pointers"."""
    # TODO: as in 4.2a.
    raise NotImplementedError("TODO 4.2b, blank 7")


def described(x, path, tile):
    """What a kernel is handed to take that path to tiles of x, of `tile` elements, [rows, columns]."""
    # TODO: as in 4.2a.
    raise NotImplementedError("TODO 4.2b, blank 8")


def streamed(tiles, steps, multiprocessors):
    """How many tiles, of `steps` steps each, are streamed, and in how many shares: 0 in 1 where that takes longer."""
    # TODO: those that whole waves leave over, in one share a multiprocessor, but none of fewer than 8 steps. To add up
    # pieces takes as long as 16 steps do: where the longest share is not as much shorter than a tile, stream none.
    raise NotImplementedError("TODO 4.2b, blank 9")


def matmul(a, b):
    """The product a @ b.

    a: [m, k], b: [k, n], any strides and alignment, both fp16 or both bf16. Accumulates in fp32; the same bits every
    time on one GPU. Returns [m, n], contiguous, the same dtype; zeros where k is 0. Allocates a tile in fp32 for each
    multiprocessor and each tile left over, at most. Raises ValueError where shapes or dtypes do not go together.
    """
    if a.dim() != 2 or b.dim() != 2 or a.shape[1] != b.shape[0]:
        raise ValueError(f"a is {list(a.shape)} and b is {list(b.shape)}: they have to be [m, k] and [k, n]")
    if a.dtype not in (torch.float16, torch.bfloat16) or a.dtype != b.dtype:
        raise ValueError(f"a is {a.dtype} and b is {b.dtype}: both have to be float16, or both bfloat16")
    (m, k), n = a.shape, b.shape[1]
    c = torch.empty((m, n), dtype=a.dtype, device=a.device)
    if c.numel() > 0:
        # TODO: choose tiles as in 4.2a, ask `streamed`, allocate the pieces, and launch: stream_kernel, one program a
        # multiprocessor and none without work; fix_up_kernel, where there are pieces, enough programs for each tile
        # that they fill the GPU.
        raise NotImplementedError("TODO 4.2b, blank 10")
    return c
