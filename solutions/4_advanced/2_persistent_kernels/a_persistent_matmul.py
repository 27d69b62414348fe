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
    ### BEGIN SOLUTION
    if PATH == "rows":
        return x.load([row, column])
    elif PATH == "columns":
        return x.load([column, row]).T
    else:
        rows, columns = row + tl.arange(0, TILE_M), column + tl.arange(0, TILE_N)
        x_ptrs = x + rows.to(tl.int64)[:, None] * strides[0] + columns.to(tl.int64)[None, :] * strides[1]
        return tl.load(x_ptrs, mask=(rows < m)[:, None] & (columns < n)[None, :], other=0.0)
    ### END SOLUTION


@triton.jit
def store(x, tile, row, column, m, n, TILE_M: tl.constexpr, TILE_N: tl.constexpr, PATH: tl.constexpr):
    # TODO: store `tile` to a contiguous matrix [m, n], at `row` and `column`, nothing outside of it.
    ### BEGIN SOLUTION
    if PATH == "rows":
        # by halves: what waits in shared memory to leave is then half as large, and leaves room for a fourth stage
        left, right = tl.split(tl.permute(tl.reshape(tile, (TILE_M, 2, TILE_N // 2)), (0, 2, 1)))
        x.store([row, column], left.to(x.dtype))
        x.store([row, column + TILE_N // 2], right.to(x.dtype))
    else:
        rows, columns = row + tl.arange(0, TILE_M), column + tl.arange(0, TILE_N)
        x_ptrs = x + rows.to(tl.int64)[:, None] * n + columns[None, :]
        tl.store(x_ptrs, tile, mask=(rows < m)[:, None] & (columns < n)[None, :])
    ### END SOLUTION


@triton.jit
def matmul_kernel(
    a, b, c, a_strides, b_strides, m, n, k, A_PATH: tl.constexpr, B_PATH: tl.constexpr, C_PATH: tl.constexpr,
    TILE_M: tl.constexpr, TILE_N: tl.constexpr, TILE_K: tl.constexpr, GROUP_M: tl.constexpr,
):  # fmt: skip
    # TODO: make every tile of c whose number is tl.program_id(0), or that and a multiple of the number of programs.
    # Tiles are numbered in groups of GROUP_M rows, as in 2.1b. Let the compiler run on from one tile into the next.
    ### BEGIN SOLUTION
    tiles_m, tiles_n = tl.cdiv(m, TILE_M), tl.cdiv(n, TILE_N)
    # flatten: one loop over the steps of all tiles, so that a tile's first loads pass its predecessor's last products
    for tile in tl.range(tl.program_id(0), tiles_m * tiles_n, tl.num_programs(0), flatten=True):
        first = tile // (GROUP_M * tiles_n) * GROUP_M
        height = min(tiles_m - first, GROUP_M)
        place = tile % (GROUP_M * tiles_n)
        row = (first + place % height) * TILE_M
        column = place // height * TILE_N
        acc = tl.zeros((TILE_M, TILE_N), tl.float32)
        for start in range(0, k, TILE_K):
            a_tile = load(a, a_strides, row, start, m, k, TILE_M, TILE_K, A_PATH)
            b_tile = load(b, b_strides, start, column, k, n, TILE_K, TILE_N, B_PATH)
            acc = tl.dot(a_tile, b_tile, acc)
        store(c, acc, row, column, m, n, TILE_M, TILE_N, C_PATH)
    ### END SOLUTION


def path_to(x):
    """How a kernel reaches tiles of a matrix x: "rows", by a descriptor of x; "columns", of x.T; or "pointers"."""
    # TODO: descriptors where the GPU has them and x lies as they ask. Those of compute capability 9 and 10 have, and
    # room in shared memory for what they carry. x lies so if its rows or else its columns are without gaps inside, do
    # not overlap, and begin at multiples of 16 bytes; and if no size is 0.
    # torch.cuda.get_device_properties(x.device).major has an answer without a GPU, too.
    ### BEGIN SOLUTION
    if torch.cuda.get_device_properties(x.device).major in (9, 10) and x.numel() > 0:
        for path, lines in (("rows", x), ("columns", x.T)):
            apart, between = lines.stride()
            aligned = x.data_ptr() % 16 == 0 and apart * x.element_size() % 16 == 0
            if between == 1 and apart >= lines.shape[1] and aligned:
                return path
    return "pointers"
    ### END SOLUTION


def described(x, path, tile):
    """What a kernel is handed to take that path to tiles of x, of `tile` elements, [rows, columns]."""
    # TODO: a descriptor of x or of x.T, or x itself.
    ### BEGIN SOLUTION
    if path == "rows":
        return TensorDescriptor.from_tensor(x, tile)
    if path == "columns":
        return TensorDescriptor.from_tensor(x.T, tile[::-1])
    return x
    ### END SOLUTION


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
        ### BEGIN SOLUTION
        A_PATH, B_PATH, C_PATH = path_to(a), path_to(b), path_to(c)
        # Four stages of 48 KB and half a tile of c on its way out: 224 KB of a Hopper's 227. Pointers take registers, so
        # a tile half as wide; three stages of it are 96 KB of the 99 that RTX cards have.
        TILE_M, TILE_K = 128, 64
        TILE_N, num_stages = (128, 3) if "pointers" in (A_PATH, B_PATH, C_PATH) else (256, 4)
        multiprocessors = torch.cuda.get_device_properties(a.device).multi_processor_count
        programs = min(multiprocessors, triton.cdiv(m, TILE_M) * triton.cdiv(n, TILE_N))
        matmul_kernel[(programs,)](
            described(a, A_PATH, [TILE_M, TILE_K]), described(b, B_PATH, [TILE_K, TILE_N]),
            described(c, C_PATH, [TILE_M, TILE_N // 2]), a.stride(), b.stride(), m, n, k,
            A_PATH=A_PATH, B_PATH=B_PATH, C_PATH=C_PATH,
            TILE_M=TILE_M, TILE_N=TILE_N, TILE_K=TILE_K, GROUP_M=8, num_warps=8, num_stages=num_stages,
        )  # fmt: skip
        ### END SOLUTION
    return c
