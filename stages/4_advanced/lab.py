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
# # Lab of stage 4: online softmax, schedules, few bits
#
# Nothing is graded here. Numbers in capitals at the top of a cell are there to be changed: say what you expect, change
# one, press Shift-Enter, look.
#
# All but two cells count or compute, so that they need no GPU and tell the same on every machine. The two that measure
# say what they need, and do nothing where it is missing. They time your own functions too, once these run.

# %%
# %matplotlib inline
# %config InlineBackend.figure_formats = ["svg"]
import os

import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported

import functools
import heapq
import math
from importlib.util import module_from_spec, spec_from_file_location

import torch.nn.functional as F
import triton
from workbook import devices, sketch, style

torch.manual_seed(0)
LOWEST = torch.finfo(torch.float32).min
print("cells that measure run on", torch.cuda.get_device_name() if DEVICE == "cuda" else "nothing: there is no GPU")


def yours(path, call):
    """What a call of functions of your file returns; None, and a word, as long as it does not run."""
    spec = spec_from_file_location("yours", path)
    module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        return call(module)
    except NotImplementedError:
        print(f"{path} is still open")
    except Exception as error:
        print(f"{path} does not run: {type(error).__name__}")


# %% [markdown]
# ## A softmax that does not wait
#
# A row of scores comes in tiles. After each, a program holds the largest score that it has seen, and what belongs to
# the scores so far, measured against that one. If the largest one rises, all that came before shrinks. Needed for:
# [4.1a](1_flash_attention/README.md).

# %%
SCORES = [1, 3, 2, 0, 5, 4, 1, 2, 6, 0, 2, 3, 1, 6, 4]
TILE = 3

top, total, exps, tiles, rises = LOWEST, 0.0, [], [], 0
rows = [("scores", SCORES, [place // TILE for place in range(len(SCORES))])]
for start in range(0, len(SCORES), TILE):
    tile = SCORES[start : start + TILE]
    higher = max(top, *tile)
    shrink = math.exp(top - higher)
    total = total * shrink + sum(math.exp(score - higher) for score in tile)
    exps = [value * shrink for value in exps] + [math.exp(score - higher) for score in tile]
    rises += 0 < shrink < 1
    top = higher
    tiles += [start // TILE] * len(tile)
    unseen = len(SCORES) - len(exps)
    texts = [f"{value:.2g}" for value in exps] + [""] * unseen
    rows.append((f"× {shrink:.2g}, top {top:g}, total {total:.2f}", texts, tiles + [None] * unseen))
weights = [value / total for value in exps]
torch.testing.assert_close(torch.tensor(weights), torch.tensor(SCORES, dtype=torch.float32).softmax(0))
rows.append((f"weights: over {total:.2f}", [f"{weight:.1%}" for weight in weights], tiles))
about = f"tiles of {TILE}; e^(score − top) of each score seen, and in front what the earlier ones were multiplied by"
sketch.squares(f"All that came before shrank {rises} times", about, rows)

# %% [markdown]
# **Try this.** Which of these numbers does a kernel keep, and which are drawn only for you to see? Sort SCORES, upwards
# and downwards: how often does something shrink, and are the weights others? Put a 40 at the end: what is left of the
# rest? With TILE = 1 and with all scores in one tile, what is the same? A score of −math.inf in every place of the
# first tile: what would the first row say if `top` began at −math.inf, too?

# %% [markdown]
# ### What is known halfway
#
# The largest score, and the logarithm of the sum: top + ln(total), the lse that 4.1a returns. Needed for:
# [4.1c](1_flash_attention/README.md), which lives on it.

# %%
KEYS, TILE = 4096, 64
ORDER = "as they come"  # or "rising", "falling"

scores = 2 * torch.randn(KEYS, dtype=torch.float64)
scores = {"as they come": scores, "rising": scores.sort()[0], "falling": scores.sort(descending=True)[0]}[ORDER]
ends = range(TILE, KEYS + 1, TILE)
lines = {
    "lse so far": (ends, [scores[:end].logsumexp(0) for end in ends]),
    "largest so far": (ends, [scores[:end].max().item() for end in ends]),
    "lse of the row": (ends, scores.logsumexp(0).expand(len(ends))),
}
rises = len(set(lines["largest so far"][1])) - 1
title, about = f"In {len(ends)} tiles the maximum rises {rises} times", f"{KEYS} scores with a spread of 2, {ORDER}"
figure, axes = sketch.curves(title, about, lines, "scores seen", "")
figure

# %% [markdown]
# **Try this.** By how much is the lse above the maximum at the end, and what would that be if all scores were equal? (A
# logarithm of KEYS.) In which order is a program right about its weights early on, and does that help it? Twice as many
# keys: what happens to the weight of one that was seen, and how does a program notice?

# %% [markdown]
# ### How often does anything shrink?
#
# Of random scores the largest is as likely in one tile as in another. But a program multiplies a strip of many rows.

# %%
ROWS, TILES = 4000, 32
STRIP = 128  # rows of a program

largest = torch.randn(ROWS, TILES, 64).amax(2)
running = largest.cummax(1)[0]
shares = (running[:, 1:] > running[:, :-1]).double().mean(0)
numbers = range(1, TILES)
lines = {
    "of a row": (numbers, 100 * shares),
    "1 of all so far.": (numbers, [100 / (number + 1) for number in numbers]),
    f"of any of {STRIP} rows": (numbers, 100 * (1 - (1 - shares) ** STRIP)),
}
about = f"{ROWS} rows of {TILES} tiles of 64 random scores"
figure, axes = sketch.curves("How often the maximum rises", about, lines, "tile", "% of them", ylim=(0, 105))
figure

# %% [markdown]
# **Try this.** A row shrinks some ln(TILES) times in all: add the dots up. A kernel might ask whether any of its rows
# rises, and multiply acc only then: for which STRIP, and for which tiles, would that pay? What is it that has to be
# asked, and who waits for the answer?

# %% [markdown]
# ### Without the maximum
#
# Three rules for what is subtracted from a score, and what attention makes of them in fp32.

# %%
KEYS, TILE, ROWS, D = 512, 64, 32, 16
SIZES = torch.logspace(0, 3, 37)
OFFSET = 0.0  # of all scores

RULES = {
    "nothing": lambda top, seen, first: torch.zeros_like(seen),
    "largest of the first tile": lambda top, seen, first: seen if first else top,
    "largest so far": lambda top, seen, first: torch.maximum(top, seen),
}


def walk(scores, v, rule):
    """The values by the softmax of their scores, tile by tile."""
    top, total, acc = torch.full((len(scores), 1), LOWEST), 0.0, 0.0
    for start in range(0, scores.shape[1], TILE):
        tile = scores[:, start : start + TILE]
        higher = rule(top, tile.amax(1, keepdim=True), start == 0)
        exps, shrink = (tile - higher).exp(), (top - higher).exp()
        total = total * shrink + exps.sum(1, keepdim=True)
        acc = acc * shrink + exps @ v[start : start + TILE]
        top = higher
    return acc / total


noise, v = torch.randn(ROWS, KEYS), torch.randn(KEYS, D)
lines = {words: (SIZES, []) for words in RULES}
for size in SIZES:
    scores = size * noise + OFFSET
    truth = scores.double().softmax(1) @ v.double()
    for words, rule in RULES.items():
        error = (walk(scores, v, rule) - truth).abs().max()
        lines[words][1].append(error.nan_to_num(nan=10).clamp(1e-8, 10).item())
about = f"the worst of {ROWS} × {D} results; 10 stands for more, and for NaN"
figure, axes = sketch.curves(
    "What is subtracted from a score", about, lines, "spread of the scores", "error", "xy", ylim=(1e-8, 20)
)
figure

# %% [markdown]
# **Try this.** Which score has the first exponential that is too large for fp32, and for fp16, whose largest number is
# 65,504? At which spread do 512 of them reach it? OFFSET = 100 and OFFSET = −200, where softmax itself does not move:
# which rule fails to which side, and is it inf or 0 / 0? Why is the second rule safe for OFFSET, and for nothing else?

# %% [markdown]
# ### Any order, nearly
#
# Two parts of a row, each with top, total and acc of its own, are merged by the same rule. So the parts may be made by
# different programs, and merged in any order. Needed for: [4.1a](1_flash_attention/README.md), and for a single query
# later on.

# %%
TILES, ORDERS = 64, 40


def part(scores, v):
    top = scores.max()
    exps = (scores - top).exp()
    return top, exps.sum(), exps @ v


def merge(one, other):
    top = torch.maximum(one[0], other[0])
    left, right = (one[0] - top).exp(), (other[0] - top).exp()
    return top, one[1] * left + other[1] * right, one[2] * left + other[2] * right


scores, v = 3 * torch.randn(TILES, 32), torch.randn(TILES, 32)
parts = [part(*tile) for tile in zip(scores, v)]
results = []
for _ in range(ORDERS):
    _, total, acc = functools.reduce(merge, [parts[i] for i in torch.randperm(TILES)])
    results.append((acc / total).item())
truth = (scores.double().flatten().softmax(0) @ v.double().flatten()).item()
gap = 2.0 ** (math.floor(math.log2(abs(truth))) - 23)
figure, axes = sketch.curves(
    f"{ORDERS} orders, {len(set(results))} different results",
    f"{TILES} parts of 32 keys in fp32, merged one after the other in an order by chance",
    {"out.": (range(ORDERS), [(result - truth) / gap for result in results])}, "run", "off by, in last places",
)
axes.axhline(0, color=style.QUIET, linewidth=0.9, linestyle="--")
figure

# %% [markdown]
# **Try this.** A loop over tiles has one order, and so the same bits each time: which ways to share a row among
# programs keep that? What would `merge` make of a part that saw no key, and what has its top to be? Merge in pairs,
# then pairs of pairs, as a tree: is the spread larger or smaller?

# %% [markdown]
# ### Tiles under a causal mask
#
# Tiles that all queries of a strip see throughout, tiles that are cut and have to be masked, and tiles that nobody
# sees. The last query sees all keys. Needed for: [4.1b](1_flash_attention/README.md).

# %%
QUERIES, KEYS = 20, 24
TILE_Q, TILE_K = 4, 2

rows, counts = [], {"seen": 0, "cut": 0}
for first in range(0, QUERIES, TILE_Q):
    last = min(first + TILE_Q, QUERIES) - 1
    fewest, most = (query + 1 + KEYS - QUERIES for query in (first, last))  # keys that the first and last of them see
    groups = []
    for start in range(0, KEYS, TILE_K):
        end = min(start + TILE_K, KEYS)
        groups.append(0 if end <= fewest else 1 if start < most else None)
    counts["seen"] += groups.count(0)
    counts["cut"] += groups.count(1)
    rows.append((f"queries {first} to {last}", ["◣" if group == 1 else "" for group in groups], groups))
every = sum(len(groups) for _, _, groups in rows)
needed = sum(max(0, min(KEYS, query + 1 + KEYS - QUERIES)) for query in range(QUERIES)) / (QUERIES * KEYS)
title = f"{counts['seen']} tiles seen, {counts['cut']} cut, of {every}"
made = sum(counts.values()) / every
about = f"blue: no mask; orange: cut; {made:.0%} of the tiles are made, for {needed:.0%} of the scores"
sketch.squares(title, about, rows)

# %% [markdown]
# **Try this.** TILE_Q = TILE_K = 4, 5, 10: what do large tiles cost at the diagonal? KEYS = 10, fewer than queries:
# which strips have nothing to do, and what do they return? Which strip takes longest, and when should it begin? QUERIES
# = 1: how many programs does that launch have, and what is left idle?

# %% [markdown]
# ## Who does what when
#
# Tiles of a product, each of some steps along k, on a few multiprocessors. A program begins with loads that it has to
# wait for, and ends with a store; a persistent one hides them behind the products of its other tiles. Needed for: [4.2a
# and 4.2b](2_persistent_kernels/README.md).

# %%
TILES, STEPS, MULTIPROCESSORS = 10, 64, 4
FILL, DRAIN, FIX_UP = 3, 3, 16  # in steps: the first loads of a tile, its store, the second launch of stream-K


def a_program_a_tile(tiles, steps, multiprocessors):
    """(multiprocessor, begin, end, tile) of all products; when all is done."""
    free, work = [(0, number) for number in range(multiprocessors)], []
    for tile in range(tiles):
        begin, number = heapq.heappop(free)
        work.append((number, begin + FILL, begin + FILL + steps, tile))
        heapq.heappush(free, (begin + FILL + steps + DRAIN, number))
    return work, max(free)[0]


def persistent(tiles, steps, multiprocessors):
    work = []
    for tile in range(tiles):
        begin = FILL + tile // multiprocessors * steps
        work.append((tile % multiprocessors, begin, begin + steps, tile))
    return work, FILL + math.ceil(tiles / multiprocessors) * steps + DRAIN


def stream_k(tiles, steps, multiprocessors):
    left = tiles % multiprocessors
    whole, line = tiles - left, left * steps
    work, done = persistent(whole, steps, multiprocessors)
    shares = min(multiprocessors, line // 8)
    if shares == 0 or steps - math.ceil(line / shares) < FIX_UP:  # not worth a second launch
        return persistent(tiles, steps, multiprocessors)
    for share in range(shares):
        now = done - DRAIN
        first, end = share * line // shares, (share + 1) * line // shares
        for tile in range(first // steps, math.ceil(end / steps)):
            steps_here = min(end, (tile + 1) * steps) - max(first, tile * steps)
            work.append((share, now, now + steps_here, whole + tile))
            now += steps_here
    return work, done + math.ceil(line / shares) + FIX_UP


SCHEDULES = {"a program a tile": a_program_a_tile, "persistent": persistent, "stream-K": stream_k}


def draw(name, tiles, steps, multiprocessors):
    work, done = SCHEDULES[name](tiles, steps, multiprocessors)
    busy = sum(end - begin for _, begin, end, _ in work) / (multiprocessors * done)
    title = f"{name}: {done} steps, {busy:.0%} of them products"
    about, height = "a bar is a tile, or a piece of one; time in steps", 1.9 + 0.3 * multiprocessors
    figure, axes = style.canvas(title, about, height, left=1.6, right=0.3)
    for number, begin, end, tile in work:
        colour = sketch.GROUPS[tile % len(sketch.GROUPS)]
        axes.barh(number, end - begin, left=begin, height=0.8, color=colour, alpha=0.45, edgecolor="white")
        axes.text((begin + end) / 2, number, tile, ha="center", va="center", fontsize=9)
    axes.set(ylim=(multiprocessors - 0.4, -0.6), xlim=(0, 1.02 * done), yticks=range(multiprocessors))
    axes.set_yticklabels([f"multiprocessor {number}" for number in range(multiprocessors)], fontsize=9)
    axes.grid(False, axis="y")
    return figure


for name in SCHEDULES:
    display(draw(name, TILES, STEPS, MULTIPROCESSORS))

# %% [markdown]
# **Try this.** TILES = 8, 9, 11: where does stream-K save most, and where does it do nothing? STEPS = 8, as k = 512 in
# steps of 64 has: what do first loads and stores cost now, whom do they cost nothing, and does stream-K still pay?
# TILES = 1: what would you do with one tile and a whole GPU? Stream-K gives every tile the same bits each time, but not
# those of the other two: why?

# %% [markdown]
# ### A line of steps, cut into shares
#
# The steps of the tiles that are left over, one after the other. A share is what a multiprocessor takes; a piece is
# what a share leaves for a tile, and its number is share + tile. Needed for: [4.2b](2_persistent_kernels/README.md).

# %%
TILES, STEPS, SHARES = 3, 8, 4

line = TILES * STEPS
shares = [max(share for share in range(SHARES) if share * line // SHARES <= step) for step in range(line)]
tiles = [step // STEPS for step in range(line)]
pieces = [share + tile for share, tile in zip(shares, tiles)]
rows = [("tile", tiles, tiles), ("share", shares, shares), ("piece", pieces, pieces)]
title = f"{TILES} tiles, {SHARES} shares, {len(set(pieces))} pieces"
sketch.squares(title, f"{line} steps along k, in the order of the line", rows)

# %% [markdown]
# **Try this.** For which SHARES is each tile made of whole shares, so that this is split-K? When is a number of a piece
# left out, and is any ever given twice? A piece of a tile of 128 × 256 in fp32 is 131 KB: what is written and read for
# TILES = 13 and 132 shares? Who may add the pieces of tile 1 up, and from when on?

# %% [markdown]
# ### TFLOPS against size
#
# The same arithmetic for products of n × n with k = K on a whole GPU: its peak, times the share of the time in which
# products are made. Tiles are 128 × 256, steps 64 deep.

# %%
CARD = "H100 SXM"  # a name from workbook/devices.py
K = 4096
SIZES = range(256, 8193, 128)

card = next(device for device in devices.DEVICES if device.name == CARD)
peak, multiprocessors, steps = 0.78 * card.peaks["bf16"], card.multiprocessors, K // 64


def rate(schedule, n):
    tiles = math.ceil(n / 128) * math.ceil(n / 256)
    _, done = schedule(tiles, steps, multiprocessors)
    return peak * (n / 128) * (n / 256) * steps / (multiprocessors * done)  # no credit for what lies past the edge


lines = {name: (SIZES, [rate(schedule, n) for n in SIZES]) for name, schedule in SCHEDULES.items()}
about = f"arithmetic: k = {K}, {multiprocessors} multiprocessors, at 0.78 of the datasheet's peak while they multiply"
figure, axes = sketch.curves(f"{CARD}, by its schedule", about, lines, "m = n", "TFLOPS", ylim=(0, 1.05 * peak))
found = yours("2_persistent_kernels/b_stream_k.py", lambda module: [module.streamed(t, steps, 132) for t in (132, 145)])
if found:
    print(f"your `streamed` says, of 132 and of 145 tiles on 132 multiprocessors: {found} (tiles, shares)")
figure

# %% [markdown]
# **Try this.** At the first peak, how many tiles are there? What is the period of the teeth, in tiles and in n, and why
# do they flatten out? K = 512 and K = 16384: who gains what? CARD = "RTX 3060" with its 28 multiprocessors: where are
# its teeth? Stream-K at the far left is one tile on many multiprocessors: which rule above stops it from being better
# still?

# %% [markdown]
# On a GPU, the next cell measures that: cuBLAS, and your 4.2a and 4.2b. It needs 1 GB of GPU memory.

# %%
K = 4096
SIZES = range(1024, 8193, 512)
PARTS = {"your 4.2a": "a_persistent_matmul", "your 4.2b": "b_stream_k"}

if DEVICE == "cpu":
    print("this cell needs a GPU: there is nothing to time here")
else:

    def rates(matmul):
        """TFLOPS of a @ b.T for each size."""
        found = []
        for n in SIZES:
            a, b = torch.randn(2, n, K, device=DEVICE, dtype=torch.bfloat16)
            found.append(2e-9 * n * n * K / triton.testing.do_bench(lambda: matmul(a, b.T)))
        return found

    lines = {"cuBLAS": (SIZES, rates(torch.matmul))}
    for words, name in PARTS.items():
        if own := yours(f"2_persistent_kernels/{name}.py", lambda module: rates(module.matmul)):
            lines[words] = SIZES, own
    limit = 1.1 * max(max(found) for _, found in lines.values())
    about = f"bf16, k = {K}, b is transposed"
    title = torch.cuda.get_device_name()
    figure, axes = sketch.curves(title, about, lines, "m = n", "TFLOPS", ylim=(0, limit))
    display(figure)

# %% [markdown]
# **Try this.** Are cuBLAS's teeth where yours are? It has more than one size of tile to choose from. Where are you
# above it, and is that where the arithmetic says?

# %% [markdown]
# ## Few bits
#
# A group of weights that shares a scale and a zero point: w ≈ scale · (q − zero), with q from 0 to 15. Needed for:
# [4.3b](3_quantisation/README.md).

# %%
WEIGHTS = [0.3, -0.8, 0.1, 1.1, -0.4, 0.7, -1.2, 0.2, 0.9, -0.1, 0.5, -0.6, 0.0, 0.4, -0.9, 0.6]
OUTLIER = 6.0  # takes the place of the last weight
BITS = 4


def group_of(weights, bits):
    """What becomes of weights that share a scale and a zero point: integers, scale, zero point."""
    low, high = min(weights), max(weights)
    scale = (high - low) / (2**bits - 1)
    zero = round(-low / scale)
    return [min(max(round(w / scale) + zero, 0), 2**bits - 1) for w in weights], scale, zero


rows = []
for words, weights in (("", WEIGHTS), (", outlier", [*WEIGHTS[:-1], OUTLIER])):
    q, scale, zero = group_of(weights, BITS)
    kept = [scale * (n - zero) for n in q]
    off = [abs(one - other) for one, other in zip(kept, weights)]
    rows.append((f"weights{words}", [f"{w:.1f}" for w in weights], [0] * len(weights)))
    rows.append((f"q, scale {scale:.2f}, zero {zero}", q, [1] * len(q)))
    wrong = [sketch.WRONG if error > 0.1 else 2 for error in off]
    rows.append((f"kept{words}", [f"{w:.2f}" for w in kept], wrong))
sketch.squares(f"One outlier, {BITS} bits", "red: off by more than 0.1", rows)

# %% [markdown]
# **Try this.** Which values may a weight have with the outlier, and how many of them are in use? OUTLIER = 20: what is
# left of the others? BITS = 8: from which OUTLIER on is something red again? Two groups of 8 in the place of one of 16:
# who is helped, and what does it cost? WEIGHTS that are all above 2: what would they lose without a zero point?

# %% [markdown]
# ### Tails and groups
#
# The error of many weights, relative to their norm, beside the bits that one takes, scales and zero points counted.
# Heavy tails are Student's t; with many degrees of freedom it is a normal distribution. Needed for:
# [4.3](3_quantisation/README.md).

# %%
ROWS, WIDTH = 128, 4096
FREEDOM = 5  # degrees of it; the fewer, the heavier are the tails; above 2
GROUPS = [2**i for i in range(4, 13)]


def student(rows, width, freedom):
    return torch.distributions.StudentT(float(freedom)).sample((rows, width))


def int8(w):
    """w by way of int8, with a scale a row."""
    scales = w.abs().amax(-1, keepdim=True).clamp(min=1e-30) / 127
    return (w / scales).round() * scales


def int4(w, group):
    """w by way of four bits, with a scale and a zero point for each `group` neighbours of a row."""
    parts = w.unflatten(-1, (-1, group))
    low, high = parts.amin(-1, keepdim=True), parts.amax(-1, keepdim=True)
    scales = (high - low).clamp(min=1e-30) / 15
    zeros = (-low / scales).round()
    return ((((parts / scales).round() + zeros).clamp(0, 15) - zeros) * scales).flatten(-2)


def error(kept, w):
    return ((kept.double() - w.double()).norm() / w.double().norm()).item()


weights = {"normal": torch.randn(ROWS, WIDTH), f"{FREEDOM} degrees": student(ROWS, WIDTH, FREEDOM)}
lines = {}
for words, w in weights.items():
    bits = [4 + 24 / group for group in GROUPS]  # 16 for a scale, 8 for a zero point
    lines[f"4 bits, {words}"] = bits, [100 * error(int4(w, group), w) for group in GROUPS]
    lines[f"int8 a row, {words}."] = [8 + 32 / WIDTH], [100 * error(int8(w), w)]
    print(f"{words}: fp16 {error(w.half(), w):.3%}, int8 {error(int8(w), w):.2%}, 4 bits {error(int4(w, 128), w):.1%}")
about = f"groups of {GROUPS[0]} to {GROUPS[-1]}, from right to left; {ROWS} × {WIDTH} weights"
figure, axes = sketch.curves(
    "Bits and errors", about, lines, "bits a weight", "% of the norm", "y", xlim=(3.8, 8.2), ylim=(0.5, 50)
)
figure

# %% [markdown]
# **Try this.** Where does a smaller group stop to be worth its bits? FREEDOM = 3 and FREEDOM = 30: which of the curves
# moves, and which group cares least? Half the step is lost either way: does s/√12 say what you see for normal weights?
# What does a bit more a weight buy, and what does halving the group buy?

# %% [markdown]
# ### One outlier a row
#
# A row of normal weights of which one is so many times as large. The error is that of the others.

# %%
WIDTH, ROWS = 1024, 64
OUTLIERS = torch.logspace(0, 3, 25)

normal = torch.randn(ROWS, WIDTH)
ways = {
    "fp16": lambda w: w.half(),
    "int8 a row": int8,
    "4 bits, groups of 128": lambda w: int4(w, 128),
    "4 bits a row": lambda w: int4(w, WIDTH),
}
lines = {words: (OUTLIERS, []) for words in ways}
for outlier in OUTLIERS:
    w = normal.clone()
    w[:, 7] = outlier
    for words, way in ways.items():
        lines[words][1].append(100 * error(way(w)[:, 8:], w[:, 8:]))
figure, axes = sketch.curves(
    "What one weight does to the others", f"{ROWS} rows of {WIDTH}, one outlier in each", lines,
    "outlier, in spreads of the others", "% of their norm", "xy", ylim=(1e-2, 200),
)
figure

# %% [markdown]
# **Try this.** An outlier of 20, as hidden channels of large models can be: what is left of int8, and of a group that
# it is not in? What does 100% mean? Which line is flat, and where does it begin to rise, if OUTLIERS goes on to 10⁵?
# Take the outlier out, keep it in fp16, and multiply it apart: what does a row pay?

# %% [markdown]
# ### What becomes of a product
#
# Errors of many weights cancel out, and so do the products themselves.

# %%
DEPTHS = [2**i for i in range(7, 14)]
COLUMNS, ROWS = 64, 64
MEAN = 0.0  # of x
OFFSET = 0.0  # an error that all 4-bit weights have in common

lines = {words: (DEPTHS, []) for words in ("int8 a row", "4 bits, groups of 128", "of the 4-bit weights.")}
for depth in DEPTHS:
    x, w = MEAN + torch.randn(ROWS, depth), student(COLUMNS, depth, 5)
    rounded = int8(w), int4(w, 128) + OFFSET
    products = [100 * error(x @ kept.T, x @ w.T) for kept in rounded]
    for (_, found), value in zip(lines.values(), [*products, 100 * error(rounded[1], w)]):
        found.append(value)
figure, axes = sketch.curves(
    "The error of a product", f"{COLUMNS} columns of heavy-tailed weights, x of mean {MEAN:g}", lines, "depth",
    "% of the norm", "xy", ylim=(0.5, 500),
)
figure

# %% [markdown]
# **Try this.** Why does depth not help, and why does it hurt only one of them? What is decided by the largest of a row?
# OFFSET = 0.05, as a rounding that prefers one side would leave: who sees it? And with MEAN = 2, as behind a ReLU: how
# does an error grow of which all parts have one sign, and how the product beside it?

# %% [markdown]
# ### Bytes or operations
#
# A product of m rows with weights of WIDTH × WIDTH takes at least as long as its bytes, and at least as long as its
# operations; by the datasheet. Weights of 4 bits are multiplied in 16. Needed for: [4.3](3_quantisation/README.md).

# %%
CARD = "H100 SXM"
WIDTH = 8192
ROWS = [2**i for i in range(14)]

card = next(device for device in devices.DEVICES if device.name == CARD)


def least(m, bits):
    """Microseconds; x and out are in 16 bits."""
    moved = WIDTH * WIDTH * bits / 8 + 2 * m * WIDTH * 2
    peak = card.peaks["int8" if bits == 8 else "bf16"]
    return max(moved / card.bandwidth / 1e3, 2 * m * WIDTH * WIDTH / peak / 1e6)


names = {16: "16 bits", 8: "8 bits", 4.19: "4 bits, groups of 128"}
lines = {words: (ROWS, [least(m, bits) for m in ROWS]) for bits, words in names.items()}
title, about = f"A product of m rows, {CARD}", f"weights {WIDTH} × {WIDTH}; the larger of bytes and operations"
figure, axes = sketch.curves(title, about, lines, "m", "µs", "xy")
figure

# %% [markdown]
# **Try this.** Each line has one bend: from which m on does it wait for the tensor cores, and why is that of 4 bits so
# far to the left? Up to which m are 4 bits better than 8? Beyond its bend, what do 4 bits gain over 16, and what do
# they have to do besides? CARD = "RTX 4090": does it bend earlier or later?

# %% [markdown]
# On a GPU, the next cell measures it: what PyTorch has, and your 4.3b. It needs 1 GB of GPU memory.

# %%
WIDTH = 8192
ROWS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096]
LEAST = 32  # rows that torch._int_mm takes

if DEVICE == "cpu":
    print("this cell needs a GPU: there is nothing to time here")
else:
    w = torch.randn(WIDTH, WIDTH, device=DEVICE, dtype=torch.bfloat16)
    q = torch.randint(-128, 128, (WIDTH, WIDTH), device=DEVICE, dtype=torch.int8)
    packed = torch.randint(-(2**31), 2**31, (WIDTH // 8, WIDTH), device=DEVICE, dtype=torch.int32)
    scales = torch.rand(WIDTH // 128, WIDTH, device=DEVICE, dtype=torch.bfloat16)
    zeros = torch.randint(0, 16, (WIDTH // 128, WIDTH), device=DEVICE, dtype=torch.int8)

    def times(call, rows, dtype=torch.bfloat16):
        """Microseconds of a call with m rows, for each m."""
        xs = [torch.ones(m, WIDTH, device=DEVICE, dtype=dtype) for m in rows]
        return [1e3 * triton.testing.do_bench(lambda: call(x)) for x in xs]

    eight = [m for m in ROWS if m >= LEAST]
    lines = {
        "bf16, cuBLAS": (ROWS, times(lambda x: F.linear(x, w), ROWS)),
        "int8, torch._int_mm": (eight, times(lambda x: torch._int_mm(x, q.T), eight, torch.int8)),
    }
    own = yours(
        "3_quantisation/b_int4_matmul.py",
        lambda module: times(lambda x: module.int4_matmul(x, packed, scales, zeros), ROWS),
    )
    if own:
        lines["4 bits, your 4.3b"] = ROWS, own
    about = f"{torch.cuda.get_device_name()}, weights {WIDTH} × {WIDTH}"
    figure, axes = sketch.curves("A product of m rows", about, lines, "m", "µs", "xy")
    display(figure)

# %% [markdown]
# **Try this.** How far above the bend of the last picture are you, on either side of it? From which m on would it be
# faster to unpack all weights to bf16 once, 134 MB written and read, and call cuBLAS?
