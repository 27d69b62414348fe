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
# # Lab of stage 2: sectors, caches, rooflines, clocks
#
# Nothing is graded here. Numbers in capitals at the top of a cell are there to be changed: say what you expect, change
# one, press Shift-Enter, look.
#
# All but two cells count or simulate, so that they need no GPU and tell the same on every machine. The two that measure
# say what they need, and do nothing where it is missing.

# %%
# %matplotlib inline
# %config InlineBackend.figure_formats = ["svg"]
import os

import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported

import math
import random
import statistics
from collections import OrderedDict
from importlib.util import module_from_spec, spec_from_file_location

import triton
import triton.language as tl
from workbook import ceilings, devices, simulated, sketch, style

torch.manual_seed(0)
print("kernels run on", torch.cuda.get_device_name() if DEVICE == "cuda" else "Triton's interpreter")

# %% [markdown]
# ## Sectors
#
# Memory comes in sectors of 32 bytes. To see which ones an access touches, let a kernel store the addresses that it would
# load from, in bytes. Needed for: [2.2a](2_coalescing/README.md).

# %%
STRIDE, ITEMSIZE = 3, 4
LANES = 32


@triton.jit
def address_kernel(out_ptr, stride, itemsize, LANES: tl.constexpr):
    lanes = tl.arange(0, LANES)
    tl.store(out_ptr + lanes, lanes * stride * itemsize)


def addresses(stride, itemsize, lanes):
    out = torch.empty(lanes, dtype=torch.int32, device=DEVICE)
    address_kernel[(1,)](out, stride, itemsize, LANES=lanes)
    return out.tolist()


wanted = set(addresses(STRIDE, ITEMSIZE, LANES))
sectors = sorted({address // 32 for address in wanted})
per_sector = 32 // ITEMSIZE
rows = []
for sector in sectors[:8]:
    elements = [32 * sector + ITEMSIZE * i for i in range(per_sector)]
    texts = [address // ITEMSIZE for address in elements]
    rows.append((f"sector {sector}", texts, [1 if a in wanted else None for a in elements]))
share = len(wanted) * ITEMSIZE / (32 * len(sectors))
sketch.squares(
    f"What {LANES} lanes want, {STRIDE} elements of {ITEMSIZE} bytes apart",
    f"{len(sectors)} sectors come, {share:.1%} of their bytes are wanted; here are the first",
    rows,
)

# %% [markdown]
# **Try this.** Strides 1, 2, 4, 8, 9, 16: from which one on does every lane have a sector to itself? And with an
# ITEMSIZE of 2? Count a few by hand, then write down a rule. It is the third blank of 2.2a: once you have filled it,
# the next cell puts your rule beside the count.

# %%
STRIDES = range(1, 33)
COUNTED = 1024  # lanes


def counted_share(stride, itemsize):
    touched = {address // 32 for address in addresses(stride, itemsize, COUNTED)}
    return COUNTED * itemsize / (32 * len(touched))


spec = spec_from_file_location("mine", "2_coalescing/a_strided_access.py")
mine = module_from_spec(spec)
try:
    spec.loader.exec_module(mine)
    predicted = {i: [mine.predicted_share(s, i) for s in STRIDES] for i in (2, 4)}
    told = "dots: counted; line: your predicted_share of 2.2a"
except NotImplementedError:
    predicted, told = {}, "counted; your predicted_share of 2.2a is still open"
except Exception as error:
    predicted, told = {}, f"counted; your file of 2.2a does not run: {type(error).__name__}"

lines = {f"{i} bytes.": (STRIDES, [counted_share(s, i) for s in STRIDES]) for i in (2, 4)}
figure, axes = sketch.curves(
    "The share of a sector that is wanted", told, lines, "stride, elements", "share", ylim=(0, 1.05)
)
for (itemsize, shares), colour in zip(predicted.items(), sketch.COLOURS):
    axes.plot(STRIDES, shares, color=colour, linewidth=1)
figure

# %% [markdown]
# ## Tiles and sectors
#
# A transpose reads rows and writes columns. Whatever is whole on one side is scattered on the other, unless a tile is
# large enough both ways. Here are all tiles of 1024 numbers, from one row to one column. Needed for:
# [1.3a](../1_fundamentals/3_matrix_ops/README.md), [2.2c](2_coalescing/README.md).

# %%
ITEMSIZE = 4
WIDTH = 4096  # elements in a row of the matrix


def tile_share(tile_m, tile_n, stride_m, stride_n):
    """The share in use of the sectors that a tile touches."""
    rows, columns = torch.arange(tile_m)[:, None], torch.arange(tile_n)[None, :]
    sectors = (rows * stride_m + columns * stride_n) * ITEMSIZE // 32
    return 1024 * ITEMSIZE / (32 * sectors.unique().numel())


heights = [2**i for i in range(11)]
reads = [tile_share(h, 1024 // h, WIDTH, 1) for h in heights]
writes = [tile_share(h, 1024 // h, 1, WIDTH) for h in heights]
moved = [(1 / read + 1 / write) / 2 for read, write in zip(reads, writes)]
lines = {"read": (heights, reads), "written, transposed": (heights, writes)}
figure, axes = sketch.curves(
    f"Tiles of 1024 numbers of {ITEMSIZE} bytes",
    f"a row moves {moved[0]:.1f} times the bytes that are necessary, the best tile {min(moved):.1f}",
    lines, "TILE_M, rows of the tile", "share of a sector in use", "x", ylim=(0, 1.05),
)
figure

# %% [markdown]
# **Try this.** What happens to the plateau with an ITEMSIZE of 2, of 1, of 8? Why is it never a matter of WIDTH, as
# long as that is a multiple of 32? Try 4097: what does an odd width do to both sides?

# %% [markdown]
# On a GPU, the next cell measures what x[::stride] costs: bytes wanted a second, beside what the count allows. It needs
# 4 GB of GPU memory. PyTorch's own copy is timed here; in 2.2a you time yours.

# %%
if DEVICE == "cpu":
    print("this cell needs a GPU: there is nothing to time here")
else:
    x, rates, bounds = torch.randn(2**28, device=DEVICE), [], []
    copy = 1e-9 * ceilings.copy_rate()
    for stride in STRIDES:
        view = x[::stride]
        rates.append(1e-6 * 2 * view.numel() * 4 / triton.testing.do_bench(view.clone))
        bounds.append(2 * copy / (1 / counted_share(stride, 4) + 1))
    lines = {"allowed by the count": (STRIDES, bounds), "measured.": (STRIDES, rates)}
    title, about = "x[::stride], laid out anew", torch.cuda.get_device_name()
    figure, axes = sketch.curves(title, about, lines, "stride", "wanted GB/s", ylim=(0, 1.1 * copy))
    display(figure)

# %% [markdown]
# ## The order of tiles
#
# A product has TILES_M × TILES_N tiles, each made by a program that loads a strip of a and a strip of b. AT_ONCE of them
# run together. Which ones, the order decides: this is the one of 2.1b, groups of GROUP_M rows, gone through column by
# column. Dark tiles come last. Needed for: [2.1b](1_tiled_matmul/README.md).

# %%
TILES_M, TILES_N = 64, 64
GROUP_M = 8
AT_ONCE, FIRST = 132, 0


def in_groups(tiles_m, tiles_n, group_m):
    """All tiles, (row, column), in the order in which they are made."""
    tiles = [(row, column) for row in range(tiles_m) for column in range(tiles_n)]
    return sorted(tiles, key=lambda tile: (tile[0] // group_m, tile[1], tile[0]))


made = in_groups(TILES_M, TILES_N, GROUP_M)[FIRST : FIRST + AT_ONCE]
strips = len({row for row, _ in made}) + len({column for _, column in made})
sketch.wave(
    f"{len(made)} programs at one time, groups of {GROUP_M} rows: {strips} strips",
    f"{2 * len(made)} strips are asked for: each one serves {2 * len(made) / strips:.1f} programs",
    made, TILES_M, TILES_N,
)

# %% [markdown]
# **Try this.** GROUP_M = 1 is row by row, GROUP_M = 64 column by column. Which height needs the fewest strips, and what
# shape has the wave then? Look at later waves, FIRST = 400. Make the product wide: 32 × 64 tiles, 4 × 64.

# %% [markdown]
# ### Through an L2
#
# Strips that are shared are no use if they are gone when the second program wants them. So let the requests of all
# programs go through a cache that forgets what was used least recently. A strip is loaded in STEPS pieces. Programs do not
# run in step: each of the first ones starts up to DRIFT steps late, and whenever one ends, the next begins.

# %%
L2_MB = 50  # of an H100; an A100 has 40, an RTX 3060 has 2.25
PRODUCTS = {  # rows and columns of tiles, and k
    "8192 × 8192 × 8192": (64, 64, 8192),
    "4096 × 65536 × 4096": (32, 512, 4096),
}
STEPS, DRIFT = 8, 4
HEIGHTS = [1, 2, 4, 8, 16, 32, 64]


def requests(order, at_once):
    """The pieces of strips that the programs ask for, in the order of time."""
    waiting, draw = iter(order), random.Random(0)
    running = [(tile, -draw.randrange(DRIFT + 1)) for tile, _ in zip(waiting, range(at_once))]
    while running:
        for (row, column), step in running:
            if step >= 0:
                yield "a", row, step
                yield "b", column, step
        later = [(tile, step + 1) for tile, step in running]
        later = [(next(waiting, None), 0) if step == STEPS else (tile, step) for tile, step in later]
        running = [(tile, step) for tile, step in later if tile]


def missed(asked, room):
    """How many of the pieces are not in a cache with room for so many."""
    cache, misses = OrderedDict(), 0
    for piece in asked:
        misses += piece not in cache
        cache[piece] = True
        cache.move_to_end(piece)
        if len(cache) > room:
            cache.popitem(last=False)
    return misses


lines = {}
for name, (tiles_m, tiles_n, k) in PRODUCTS.items():
    piece = 128 * k * 2 / STEPS  # bytes: strips of 128, bf16
    loaded = []
    for height in HEIGHTS:
        order = in_groups(tiles_m, tiles_n, height)
        loaded.append(1e-9 * piece * missed(requests(order, AT_ONCE), L2_MB * 2**20 // piece))
    lines[name + "."] = HEIGHTS, loaded
figure, axes = sketch.curves(
    "What comes from memory, by the height of a group",
    f"{AT_ONCE} programs at one time, an L2 of {L2_MB:g} MB; a simulation",
    lines, "GROUP_M", "GB", "x", ylim=(0, 1.1 * max(max(loaded) for _, loaded in lines.values())),
)
figure

# %% [markdown]
# **Try this.** Multiplying takes an H100 1.4 ms for the first product and 2.9 for the second, at 770 TFLOPS. In that time
# 3,000 GB/s bring 4.3 and 8.6 GB: for which GROUP_M is memory the slower one? (The GPU tells in 2.1b how far a
# simulation can be trusted.) Give it 2.25 MB of L2 and 28 programs, an RTX 3060. Let programs drift by 8 steps, or run in
# step. Let 264 run at one time.

# %% [markdown]
# ## The roofline
#
# Operations for each byte on one axis, operations a second on the other: the slope is memory, the flat is arithmetic,
# and a kernel is a place on the axis below. The roof is that of CARD, by its datasheet; on a GPU it is measured.

# %%
CARD = "H100 SXM"  # a name from workbook/devices.py
KERNELS = {  # operations and bytes
    "add, fp32": (1, 12),
    "softmax, bf16": (5, 4),
    "matmul 512³": (2 * 512**3, 3 * 512**2 * 2),
    "matmul 4096³": (2 * 4096**3, 3 * 4096**2 * 2),
    "matmul, M = 16": (2 * 16 * 4096**2, (4096**2 + 2 * 16 * 4096) * 2),
}

if DEVICE == "cuda" and torch.cuda.mem_get_info()[0] > 4e9:
    bandwidth, peak = ceilings.copy_rate(), ceilings.matmul_rate()
    about = f"{torch.cuda.get_device_name()}, a copy and a bf16 product as measured now"
else:
    card = next(device for device in devices.DEVICES if device.name == CARD)
    bandwidth, peak = 1e9 * card.bandwidth, 1e12 * card.peaks["bf16"]
    about = f"{card.name}, bandwidth and bf16 peak of the datasheet"
ridge = peak / bandwidth
figure, axes = sketch.curves(
    f"The ridge is at {ridge:.0f} operations a byte", about,
    {"the roof": ([0.03, ridge, 1e4], [0.03 * bandwidth / 1e12, peak / 1e12, peak / 1e12])},
    "operations a byte", "TFLOPS", "xy",
)
for number, (name, (operations, size)) in enumerate(KERNELS.items()):
    x = operations / size
    y = min(x * bandwidth, peak) / 1e12
    axes.plot(x, y, "o", color=style.BLUE)
    axes.annotate(name, (x, y), (8, -12), textcoords="offset points", fontsize=9.5)
figure

# %% [markdown]
# **Try this.** Which CARD has the ridge furthest to the right, and what does that mean for a kernel at 100 operations a
# byte? Where does a product with 16 rows lie, the kind that generates text token by token, and how many rows does it take
# to get over the ridge? Put your own kernel in.

# %% [markdown]
# ## Online softmax
#
# A lane goes through its numbers with two of its own: the largest so far, `top`, and `total`, the sum of e^(x − top) over
# what it has seen. The picture shows what they *have* to be after each number, computed anew from all numbers so far.
# `update` is a rule that gets along with the number, `top` and `total` alone. As it stands it is wrong. Needed for:
# [2.3b and 2.3c](3_softmax/README.md).

# %%
X = [1.0, 0.5, 3.0, 2.0, 2.5, 5.0, 4.0, 5.0]


def update(top, total, x):
    return max(top, x), total + math.exp(x - max(top, x))


seen = range(1, len(X) + 1)
tops = [max(X[:n]) for n in seen]
totals = [sum(math.exp(x - top) for x in X[:n]) for n, top in zip(seen, tops)]
top, total, ruled = X[0], 1.0, [1.0]
for x in X[1:]:
    top, total = update(top, total, x)
    ruled.append(total)
right = all(math.isclose(a, b, rel_tol=1e-9) for a, b in zip(ruled, totals))
lines = {"total, by the rule": (seen, ruled), "total, as it has to be": (seen, totals)}
lines |= {"top": (seen, tops), "x.": (seen, X)}
figure, axes = sketch.curves(
    "The rule is right" if right else "The rule is wrong",
    "a lane of an online softmax, number after number", lines, "numbers seen", "",
)
figure

# %% [markdown]
# **Try this.** Where do the two totals part, and by which factor? What has to become of the old total when a new top
# arrives? Mend the rule until the curves meet. Then begin X with `-math.inf`, as padding does: what does e^(−∞ − (−∞)) do
# to the totals, and what could stand in for −∞? And with X around 1,000: what would the sum of e^x be?

# %% [markdown]
# ## A clock that lies
#
# To measure a call is a recipe: `first` and `second` are events, `call` is what is measured, `flush` moves 400 MB of something
# else, `wait` lets the host wait for the GPU. It is repeated CALLS times on the simulated GPU on which 2.2b is graded,
# 96 MB of L2, and the picture shows the second time and the third. The call moves MB megabytes; how long that takes when
# they come from memory, the simulation knows. Needed for: [2.2b](2_coalescing/README.md).

# %%
RECIPE = "first call second"
MB, CALLS = 30, 100
SUMMARY = statistics.median
WARM_UP = True

gpu = simulated.Device(seed=1)
host, work, marks, times = [], [], [], []
while WARM_UP and gpu.now < simulated.COMPILE + 25e3:
    gpu.call(MB * 1e6)
    gpu.wait()
for n in range(CALLS):
    for word in RECIPE.split():
        before, busy = gpu.now, gpu.free
        if word == "call":
            gpu.call(MB * 1e6)
        elif word == "flush":
            gpu.move({"scratch": 4 * simulated.L2})
        elif word == "wait":
            gpu.wait()
        elif word in ("first", "second"):
            times.append(gpu.record())
        else:
            raise ValueError(f"{word!r} is none of call, flush, wait, first and second")
        if n in (1, 2):
            host.append((word, before, gpu.now))
            if word in ("call", "flush"):
                work.append((word, max(busy, gpu.now + simulated.LATENCY), gpu.free))
            elif word != "wait":
                marks.append((word, times[-1]))
gpu.wait()
told = SUMMARY(second - first for first, second in zip(times[::2], times[1::2]))
truth = simulated.cold(MB * 1e6)
sketch.timeline(
    f"It reads {told:.1f} µs for a call that takes {truth:.1f}: off by {abs(told / truth - 1):.0%}",
    f"{SUMMARY.__name__} of {CALLS}, {'' if WARM_UP else 'not '}warmed up: {RECIPE}",
    host, work, marks,
)

# %% [markdown]
# **Try this.** Is the GPU ever idle between the two events, and whom does it wait for? Which bytes does the call find in the
# L2? What does the mean tell, `statistics.mean`, and what without a warm-up? Then `wait first call second wait`, without a
# warm-up: for 30 MB it is nearly right, by three mistakes that cancel. Show it with another MB. Which recipe is right within
# 2% for 300 MB, for 30 and for 6?
