# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Lab of stage 1: programs, blocks, masks, digits
#
# Nothing is graded here. Numbers in capitals at the top of a cell are there to be changed: say what you expect, change
# one, press Shift-Enter, look. What you break, you break in your own copy.
#
# Where there is a GPU, the kernels run on it. Where there is none, they run in Triton's interpreter, one program after
# the other, which is slow and otherwise the same.

# %%
# %matplotlib inline
# %config InlineBackend.figure_formats = ["svg"]
import math
import os

import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported

import triton
import triton.language as tl
from workbook import devices, sketch, style

torch.manual_seed(0)
print("kernels run on", torch.cuda.get_device_name() if DEVICE == "cuda" else "Triton's interpreter")

# %% [markdown]
# ## Who touches what
#
# To find out what a kernel does, let it write that down. This one stores, at each element that it may touch, the number
# of its program and the lane that the element came to. Needed for: [1.1a](1_vector_ops/README.md).

# %%
N, BLOCK = 45, 16
PROGRAMS = 3


@triton.jit
def who_kernel(program_ptr, lane_ptr, n, BLOCK: tl.constexpr):
    lanes = tl.arange(0, BLOCK)
    offsets = tl.program_id(0) * BLOCK + lanes
    mask = offsets < n
    tl.store(program_ptr + offsets, tl.program_id(0), mask=mask)
    tl.store(lane_ptr + offsets, lanes, mask=mask)


program, lane = torch.full((2, N), -1, dtype=torch.int32, device=DEVICE)
who_kernel[(PROGRAMS,)](program, lane, N, BLOCK=BLOCK)

element = {(p, l): i for i, (p, l) in enumerate(zip(program.tolist(), lane.tolist()))}
rows = [("lane", list(range(BLOCK)), [None] * BLOCK)]
for p in range(PROGRAMS):
    found = [element.get((p, l), "") for l in range(BLOCK)]
    rows.append((f"program {p}", found, [p if i != "" else None for i in found]))
missed = program.tolist().count(-1)
sketch.squares(
    "Which program touches which element, in which lane",
    f"{N} elements, blocks of {BLOCK}, {PROGRAMS} programs; {missed} elements are touched by nobody",
    rows,
)

# %% [markdown]
# **Try this.** How many lanes are idle with N = 48? With N = 49, and why is that the worst case? Leave one program out:
# which elements are missed, and who tells you? (Nobody. Memory simply keeps what was there before.) What happens with 7
# programs? And with BLOCK = 12?

# %% [markdown]
# ## What a mask is for
#
# Memory goes on behind a vector, and belongs to somebody else. Here `x` has N elements, and behind it lie some of a
# neighbour's. The kernel fills `x` with ones, and MASKED says whether it looks where `x` ends.

# %%
N, BLOCK = 21, 8
MASKED = False


@triton.jit
def fill_kernel(x_ptr, n, MASKED: tl.constexpr, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    if MASKED:
        tl.store(x_ptr + offsets, 1, mask=offsets < n)
    else:
        tl.store(x_ptr + offsets, 1)


whole = triton.cdiv(N, BLOCK) * BLOCK
memory = torch.full((whole + 8,), 7, dtype=torch.int32, device=DEVICE)  # so that no one else is hurt
x, neighbour = memory[:N], memory[N:]
x.zero_()
fill_kernel[(triton.cdiv(N, BLOCK),)](x, N, MASKED=MASKED, BLOCK=BLOCK)

hurt = (neighbour != 7).sum().item()
groups = [0] * N + [sketch.WRONG if value != 7 else 1 for value in neighbour.tolist()]
sketch.squares(
    "A vector and its neighbour, after a store " + ("with a mask" if MASKED else "without a mask"),
    f"blue: x, {N} elements; orange: the neighbour's sevens; red: {hurt} of them overwritten",
    [
        (f"from element {i}", memory[i : i + 8].tolist(), groups[i : i + 8])
        for i in range(0, len(memory), 8)
    ],
)

# %% [markdown]
# **Try this.** Set MASKED to True. Is there an N for which the mask is not needed? Does a *load* past the end do any
# harm? (It hurts nobody's numbers, but it may leave the memory that a process owns, which ends the process; and what it
# brings in is noise.) What would the neighbour see if the mask were `offsets <= n`?

# %% [markdown]
# ## Tiles
#
# A matrix is cut in two directions. The grid below has two axes, so that a program asks twice where it is. Both kinds
# of edge stick out, and a lane has to be inside on both. Needed for: [1.3a](3_matrix_ops/README.md).

# %%
M, N = 7, 14
TILE_M, TILE_N = 4, 4


@triton.jit
def tile_kernel(out_ptr, m, n, TILE_M: tl.constexpr, TILE_N: tl.constexpr):
    rows = tl.program_id(0) * TILE_M + tl.arange(0, TILE_M)
    columns = tl.program_id(1) * TILE_N + tl.arange(0, TILE_N)
    mask = (rows < m)[:, None] & (columns < n)[None, :]
    number = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
    tl.store(out_ptr + rows[:, None] * n + columns[None, :], number, mask=mask)


tiles = torch.full((M, N), -1, dtype=torch.int32, device=DEVICE)
grid = (triton.cdiv(M, TILE_M), triton.cdiv(N, TILE_N))
tile_kernel[grid](tiles, M, N, TILE_M=TILE_M, TILE_N=TILE_N)

lanes = grid[0] * grid[1] * TILE_M * TILE_N
sketch.squares(
    "Which program makes which element of a matrix",
    f"{grid[0]} × {grid[1]} programs, {lanes} lanes, of which {lanes - M * N} are idle",
    [(f"row {i}", row, row) for i, row in enumerate(tiles.tolist())],
)

# %% [markdown]
# In memory there is no matrix, only a line. Unfolded, a tile is one short piece for each of its rows:

# %%
line = tiles.flatten().tolist()
sketch.squares(
    "The same elements in the order of memory",
    "each line holds 24 neighbours; the colours are those of the programs above",
    [(f"from {i}", line[i : i + 24], line[i : i + 24]) for i in range(0, len(line), 24)],
)

# %% [markdown]
# **Try this.** Which TILE_M and TILE_N, of 16 elements together, make the longest pieces? Which ones leave the fewest
# lanes idle? Take a wide tile, 1 × 16: is there anything that it does badly? (Think of writing the transpose.)

# %% [markdown]
# ## Broadcasting
#
# A column of row numbers and a row of column numbers make a tile of addresses. Each address is
# `row * STRIDE_M + column * STRIDE_N`, and the two strides decide what the tile is a tile *of*.

# %%
STRIDE_M, STRIDE_N = 20, 1


@triton.jit
def address_kernel(out_ptr, stride_m, stride_n, TILE_M: tl.constexpr, TILE_N: tl.constexpr):
    rows = tl.arange(0, TILE_M)[:, None]  # [TILE_M, 1]
    columns = tl.arange(0, TILE_N)[None, :]  # [1, TILE_N]
    addresses = rows * stride_m + columns * stride_n  # [TILE_M, TILE_N]
    tl.store(out_ptr + rows * TILE_N + columns, addresses)


addresses = torch.empty((4, 8), dtype=torch.int32, device=DEVICE)
address_kernel[(1,)](addresses, STRIDE_M, STRIDE_N, TILE_M=4, TILE_N=8)

sectors = sorted(set((addresses.flatten() // 8).tolist()))  # of eight fp32 numbers, 32 bytes
elements = addresses.unique().numel()
sketch.squares(
    f"The addresses of a tile of 4 × 8, strides {STRIDE_M} and {STRIDE_N}",
    f"{elements} different elements, fp32, in {len(sectors)} sectors of 32 bytes; a colour a sector",
    [
        (f"row {i}", row, [sectors.index(address // 8) for address in row])
        for i, row in enumerate(addresses.tolist())
    ],
)

# %% [markdown]
# **Try this.** 1 and 20: whose addresses are these? 0 and 1: one row, seen four times; how many bytes does that load?
# 2 and 1: rows that overlap. 16 and 2: every second column; how much of each sector is of use? Which strides need the
# most sectors that 32 lanes can need?

# %% [markdown]
# ## A reduction, step by step
#
# A row is worked through in chunks of BLOCK, lane by lane, and at the end the lanes are halved until one is left. The
# last chunk sticks out: OTHER is what its idle lanes are given. Needed for: [1.2a](2_reductions/README.md).

# %%
ROW = [-3, -1, -4, -1, -5, -9, -2, -6, -5, -3]
BLOCK = 4
OP, OTHER = "max", 0

combine, right = (torch.maximum, max(ROW)) if OP == "max" else (torch.add, sum(ROW))
idle = -len(ROW) % BLOCK
chunks = torch.tensor([*map(float, ROW), *[float(OTHER)] * idle]).view(-1, BLOCK)
loaded = [1] * len(ROW) + [None] * idle
acc, rows = chunks[0], [("acc = chunk 0", chunks[0], [0] * BLOCK)]
for k in range(1, len(chunks)):
    acc = combine(acc, chunks[k])
    rows.append((f"chunk {k}", chunks[k], loaded[k * BLOCK : (k + 1) * BLOCK]))
    rows.append(("acc", acc, [0] * BLOCK))
while len(acc) > 1:
    acc = combine(*acc.view(2, -1))
    rows.append((f"{2 * len(acc)} lanes to {len(acc)}", acc, [2] * len(acc)))
wrong = "" if acc.item() == right else f", and should be {right}"
sketch.squares(
    f"The {OP} of {len(ROW)} numbers is {acc.item():g}{wrong}",
    f"blue: accumulated; orange: loaded; dotted: past the end, {OTHER}; green: across the lanes",
    [(words, [f"{value:g}" for value in values.tolist()], groups) for words, values, groups in rows],
)

# %% [markdown]
# **Try this.** Which OTHER makes the maximum right, for any row? (`float("-inf")` is a number like any other here.) Which
# one suits a sum? A product, a minimum? How many steps across the lanes do 1024 lanes take, and how many would it be if
# every chunk were reduced across the lanes at once?

# %% [markdown]
# ## Digits
#
# A floating-point number has as many binary digits as its dtype gives it, wherever it lies. So numbers lie closer
# together near 1 than near 1,000. The picture shows how far one number is from the next.

# %%
DTYPES = (torch.bfloat16, torch.float16, torch.float32)

gaps = {}
for dtype in DTYPES:
    x = torch.logspace(0, math.log10(min(1e6, torch.finfo(dtype).max)), 2000, dtype=torch.float64)
    gaps[str(dtype)[6:]] = x, torch.finfo(dtype).eps * 2 ** x.log2().floor()
title, about = "From one number to the next", "how far it is, by dtype"
figure, axes = sketch.curves(title, about, gaps, "x", "gap", "xy")
axes.axhline(1, color=style.QUIET, linewidth=0.9, linestyle="--")
axes.text(1.2, 1.6, "a gap of 1", fontsize=9.5, color=style.QUIET)
figure

# %% [markdown]
# Now add up TERMS numbers of the size TERM, one by one, with an accumulator of each dtype:

# %%
TERM, TERMS = 1.0, 1000

sums = {}
for dtype in DTYPES:
    acc, term, so_far = torch.zeros((), dtype=dtype), torch.tensor(TERM, dtype=dtype), []
    for _ in range(TERMS):
        acc = acc + term
        so_far.append(acc.item())
    sums[f"{str(dtype)[6:]}: {acc.item():g}"] = range(1, TERMS + 1), so_far
title = f"The sum of {TERMS:,} times {TERM:g}, one by one"
figure, axes = sketch.curves(title, "by the accumulator's dtype", sums, "terms added", "sum so far")
figure

# %% [markdown]
# **Try this.** Where does bf16 stop, and what has the picture before this one to say about that number? When does fp16
# stop? Does it help to make TERM 0.5, or 100? A kernel does not add one by one: 256 lanes add 1,000 / 256 terms each,
# and then eight times two lanes. Would bf16 survive that? And a row of a million?

# %% [markdown]
# ## Cancellation
#
# Two formulas for a variance, the same on paper: the mean of (x − mean)², and the mean of x² less the mean, squared. Both
# in fp32, on numbers with a standard deviation of SPREAD, around means that grow. Needed for:
# [1.2c and 1.2d](2_reductions/README.md).

# %%
SPREAD, COUNT = 1.0, 4096

means = torch.logspace(0, 6, 49, dtype=torch.float64)
noise = torch.randn(COUNT, dtype=torch.float64)
squared, shifted = [], []
for mean in means:
    x = (mean + SPREAD * noise).float()
    truth = x.double().var(correction=0)
    squared.append(abs((x * x).mean() - x.mean() ** 2 - truth) / truth)
    shifted.append(abs(((x - x.mean()) ** 2).mean() - truth) / truth)
errors = {"mean of x², less mean²": (means, squared), "mean of (x − mean)²": (means, shifted)}
about = f"{COUNT:,} numbers, standard deviation {SPREAD:g}; the truth is computed in fp64"
figure, axes = sketch.curves(
    "How wrong a variance in fp32 is", about, errors, "mean", "relative error", "xy", ylim=(1e-9, 1e4)
)
axes.axhline(1, color=style.QUIET, linewidth=0.9, linestyle="--")
axes.text(1.2, 1.8, "no digit is right", fontsize=9.5, color=style.QUIET)
figure

# %% [markdown]
# **Try this.** By how much does the error grow when the mean grows tenfold? (A hundredfold: it is mean² that is
# taken off.) What does SPREAD = 0.01 do? Can a variance come out negative, and what would a square root say to that?
# The better formula reads x twice: does it have to read *memory* twice?

# %% [markdown]
# ## How long should it take?
#
# An addition of two vectors moves 12 bytes an element in fp32, and does one operation. So its time is that of moving
# bytes. This is the least that N elements take on GPUs of the table, by the bandwidth of their datasheets.

# %%
N, BYTES = 2**27, 12

for device in devices.DEVICES:
    print(f"{device.name:16}{device.bandwidth:6} GB/s {1e-6 * N * BYTES / device.bandwidth:8.2f} ms")

# %% [markdown]
# With a GPU, the next cell times a kernel that doubles a vector, for blocks of many sizes. It needs 1 GB of GPU memory and
# a few seconds. Without one it does nothing.

# %%
N = 2**27
BLOCKS = [2**i for i in range(4, 15)]


@triton.jit
def double_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    tl.store(out_ptr + offsets, 2 * tl.load(x_ptr + offsets, mask=mask), mask=mask)


if DEVICE == "cpu":
    print("this cell needs a GPU: there is nothing to time here")
else:
    x = torch.randn(N, device=DEVICE)
    out, rates = torch.empty_like(x), []
    for BLOCK in BLOCKS:
        grid = (triton.cdiv(N, BLOCK),)
        ms = triton.testing.do_bench(lambda: double_kernel[grid](x, out, N, BLOCK=BLOCK))
        rates.append(8e-6 * N / ms)
    lines, about = {"doubling.": (BLOCKS, rates)}, torch.cuda.get_device_name()
    title, limit = "A larger block keeps more bytes under way", 1.1 * max(rates)
    figure, axes = sketch.curves(title, about, lines, "BLOCK", "GB/s", "x", ylim=(0, limit))
    display(figure)

# %% [markdown]
# **Try this.** Where does the curve become flat, and how many bytes does one program have under way there? What does
# `num_warps=1` or `num_warps=16` do to it? And N = 2**20, which the L2 can hold?
