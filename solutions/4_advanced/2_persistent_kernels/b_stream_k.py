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
    # TODO: your store of 4.2a.
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
def place(tile, m, n, TILE_M: tl.constexpr, TILE_N: tl.constexpr, GROUP_M: tl.constexpr):
    # TODO: return the first row and the first column of a tile, by its number, in groups of GROUP_M rows of tiles.
    ### BEGIN SOLUTION
    tiles_m, tiles_n = tl.cdiv(m, TILE_M), tl.cdiv(n, TILE_N)
    first = tile // (GROUP_M * tiles_n) * GROUP_M
    height = min(tiles_m - first, GROUP_M)
    number = tile % (GROUP_M * tiles_n)
    return (first + number % height) * TILE_M, number // height * TILE_N
    ### END SOLUTION


@triton.jit
def multiply(
    a, b, a_strides, b_strides, m, n, k, row, column, first, end, A_PATH: tl.constexpr, B_PATH: tl.constexpr,
    TILE_M: tl.constexpr, TILE_N: tl.constexpr, TILE_K: tl.constexpr,
):  # fmt: skip
    # TODO: return what the steps from `first` up to `end` add to the tile at `row` and `column`.
    ### BEGIN SOLUTION
    acc = tl.zeros((TILE_M, TILE_N), tl.float32)
    for step in range(first, end):
        a_tile = load(a, a_strides, row, step * TILE_K, m, k, TILE_M, TILE_K, A_PATH)
        b_tile = load(b, b_strides, step * TILE_K, column, k, n, TILE_K, TILE_N, B_PATH)
        acc = tl.dot(a_tile, b_tile, acc)
    return acc
    ### END SOLUTION


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
    ### BEGIN SOLUTION
    program = tl.program_id(0)
    for tile in tl.range(program, whole, tl.num_programs(0), flatten=True):
        row, column = place(tile, m, n, TILE_M, TILE_N, GROUP_M)
        acc = multiply(
            a, b, a_strides, b_strides, m, n, k, row, column, 0, steps, A_PATH, B_PATH, TILE_M, TILE_N, TILE_K
        )
        store(c, acc, row, column, m, n, TILE_M, TILE_N, C_PATH)
    line = left * steps
    first = min(program * line // shares, line)
    end = min((program + 1) * line // shares, line)
    offsets = tl.arange(0, TILE_M)[:, None] * TILE_N + tl.arange(0, TILE_N)[None, :]
    for tile in range(first // steps, tl.cdiv(end, steps)):
        row, column = place(whole + tile, m, n, TILE_M, TILE_N, GROUP_M)
        begin, stop = max(first - tile * steps, 0), min(end - tile * steps, steps)
        acc = multiply(
            a, b, a_strides, b_strides, m, n, k, row, column, begin, stop, A_PATH, B_PATH, TILE_M, TILE_N, TILE_K
        )
        tl.store(pieces_ptr + tl.cast(program + tile, tl.int64) * (TILE_M * TILE_N) + offsets, acc)
    ### END SOLUTION


@triton.jit
def fix_up_kernel(
    pieces_ptr, c_ptr, m, n, steps, whole, shares,
    TILE_M: tl.constexpr, TILE_N: tl.constexpr, GROUP_M: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    # TODO: ROWS rows of one of the tiles left, number tl.program_id(1): add up its pieces in a fixed order, from that
    # of the share with the tile's first step to that of the share with its last, and store the sum to c.
    ### BEGIN SOLUTION
    tile = tl.program_id(1)
    line = tl.num_programs(1) * steps
    # step s is in the last share that begins at s or before: the largest p with p * line // shares <= s
    first = ((tile * steps + 1) * shares - 1) // line
    last = ((tile + 1) * steps * shares - 1) // line
    rows, columns = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, TILE_N)
    offsets = rows[:, None] * TILE_N + columns[None, :]
    acc = tl.zeros((ROWS, TILE_N), tl.float32)
    for share in range(first, last + 1):
        acc += tl.load(pieces_ptr + tl.cast(share + tile, tl.int64) * (TILE_M * TILE_N) + offsets)
    row, column = place(whole + tile, m, n, TILE_M, TILE_N, GROUP_M)
    rows, columns = row + rows, column + columns
    c_ptrs = c_ptr + rows.to(tl.int64)[:, None] * n + columns[None, :]
    tl.store(c_ptrs, acc, mask=(rows < m)[:, None] & (columns < n)[None, :])
    ### END SOLUTION


def path_to(x):
    """How a kernel reaches tiles of a matrix x: "rows", by a descriptor of x; "columns", of x.T; or "pointers"."""
    # TODO: as in 4.2a.
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
    # TODO: as in 4.2a.
    ### BEGIN SOLUTION
    if path == "rows":
        return TensorDescriptor.from_tensor(x, tile)
    if path == "columns":
        return TensorDescriptor.from_tensor(x.T, tile[::-1])
    return x
    ### END SOLUTION


def streamed(tiles, steps, multiprocessors):
    """How many tiles, of `steps` steps each, are streamed, and in how many shares: 0 in 1 where that takes longer."""
    # TODO: those that whole waves leave over, in one share a multiprocessor, but none of fewer than 8 steps. To add up
    # pieces takes as long as 16 steps do: where the longest share is not as much shorter than a tile, stream none.
    ### BEGIN SOLUTION
    left = tiles % multiprocessors
    shares = min(multiprocessors, left * steps // 8)
    if shares == 0 or steps - triton.cdiv(left * steps, shares) < 16:
        return 0, 1
    return left, shares
    ### END SOLUTION


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
        ### BEGIN SOLUTION
        A_PATH, B_PATH, C_PATH = path_to(a), path_to(b), path_to(c)
        TILE_M, TILE_K = 128, 64
        TILE_N, num_stages = (128, 3) if "pointers" in (A_PATH, B_PATH, C_PATH) else (256, 4)
        multiprocessors = torch.cuda.get_device_properties(a.device).multi_processor_count
        tiles, steps = triton.cdiv(m, TILE_M) * triton.cdiv(n, TILE_N), max(triton.cdiv(k, TILE_K), 1)
        left, shares = streamed(tiles, steps, multiprocessors)
        whole = tiles - left
        # the last share's piece of the last tile has the largest number
        pieces = torch.empty((left + shares - 1, TILE_M, TILE_N), dtype=torch.float32, device=a.device)
        programs = min(multiprocessors, max(whole, shares))
        stream_kernel[(programs,)](
            described(a, A_PATH, [TILE_M, TILE_K]), described(b, B_PATH, [TILE_K, TILE_N]),
            described(c, C_PATH, [TILE_M, TILE_N // 2]), pieces, a.stride(), b.stride(), m, n, k,
            steps, whole, left, shares, A_PATH=A_PATH, B_PATH=B_PATH, C_PATH=C_PATH,
            TILE_M=TILE_M, TILE_N=TILE_N, TILE_K=TILE_K, GROUP_M=8, num_warps=8, num_stages=num_stages,
        )  # fmt: skip
        if left > 0:
            ROWS = 8
            fix_up_kernel[(TILE_M // ROWS, left)](
                pieces, c, m, n, steps, whole, shares, TILE_M=TILE_M, TILE_N=TILE_N, GROUP_M=8, ROWS=ROWS, num_warps=4
            )
        ### END SOLUTION
    return c
