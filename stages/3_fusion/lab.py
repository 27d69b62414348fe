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
# # Lab of stage 3: passes, epilogues, digits, gradients
#
# Nothing is graded here. Numbers in capitals at the top of a cell are there to be changed: say what you expect, change
# one, press Shift-Enter, look.
#
# Kernels run in Triton's interpreter here, on every machine, because their bytes are to be counted. Three cells
# measure: they need a GPU, say how much of its memory, and time what PyTorch has. Yours are timed by `make bench`.

# %%
# %matplotlib inline
# %config InlineBackend.figure_formats = ["svg"]
import os

os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported

import math
from importlib.util import module_from_spec, spec_from_file_location

import numpy as np
import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch.utils._python_dispatch import TorchDispatchMode
from workbook import devices, repair, sketch, style, trace

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
repair.install()
tracer = trace.install(lambda address: None)
torch.manual_seed(0)
print("cells that measure run on", torch.cuda.get_device_name() if DEVICE == "cuda" else "nothing: there is no GPU")

# %% [markdown]
# ## Passes over memory
#
# Each operation of PyTorch is a kernel of its own: it reads its inputs from memory and writes its result there. A
# ledger writes that down while a chain of them runs. Matrices are what counts; a mean a row is next to nothing.

# %%


class Ledger(TorchDispatchMode):
    """What each operation of torch reads and writes, while it is entered: rows of (name, bytes read, bytes written)."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        out = operation(*args, **(kwargs or {}))
        name = operation.overloadpacket.__name__
        if not operation.is_view and name != "_unsafe_view":
            read = {id(t): t.nbytes for t in args if isinstance(t, torch.Tensor)}  # a * a reads a once
            written = [t.nbytes for t in (out if isinstance(out, tuple) else [out])]
            self.rows.append((name.strip("_"), list(read.values()), written))
        return out

    @property
    def total(self):
        return sum(sum(read) + sum(written) for _, read, written in self.rows)


def passes(title, about, rows, whole):
    """A line an operation, and a square for each `whole`, in bytes, that it reads or writes."""
    lines = []
    for name, read, written in rows:
        texts = ["R"] * sum(round(size / whole) for size in read)
        texts += ["W"] * sum(round(size / whole) for size in written)
        if texts:
            lines.append((name, texts, [int(text == "W") for text in texts]))
    return sketch.squares(title, about, lines)


x, y = torch.ones(2, 1024, 1024)
with Ledger() as ledger:
    x + y
print("an addition, bytes read and bytes written:", *ledger.rows[0])

# %% [markdown]
# ### LayerNorm, op by op
#
# Written as one reads it in a paper. Needed for: [3.1a](1_layer_norm/README.md).

# %%
M, N = 64, 1024
EPS = 1e-5


def op_by_op(x, w, b):
    mean = x.mean(-1, keepdim=True)
    centred = x - mean
    variance = (centred * centred).mean(-1, keepdim=True)
    return centred * torch.rsqrt(variance + EPS) * w + b


x, w, b = torch.randn(M, N), torch.rand(N), torch.randn(N)
with Ledger() as ledger:
    separate = op_by_op(x, w, b)
with Ledger() as fused:
    together = F.layer_norm(x, (N,), w, b, EPS)
torch.testing.assert_close(separate, together)
passes(
    f"LayerNorm of {M} × {N}: {ledger.total / fused.total:.1f} times the bytes, op by op",
    f"R reads the matrix, W writes one: {ledger.total:,} bytes; in one kernel, last line, {fused.total:,}",
    ledger.rows + fused.rows, x.nbytes,
)

# %% [markdown]
# **Try this.** Which of these operations can be fused with the one before, element by element, and which has to wait
# for a whole row? Write the variance as the mean of x² less mean²: how many passes does that save here, and how many in
# a kernel that cannot hold its row? (Its price is in digits, below.) Matrices as small as this one stay in the L2,
# where the next operation finds them: is that so for 16384 × 4096 in bf16, on your GPU?

# %% [markdown]
# ### One launch is not one pass
#
# This kernel is fused, and has two faults: one is digits, one is bytes. The trace counts what each of its lines asks
# for; below stand the lines of your own 3.1a, once it runs.

# %%
BLOCK = 256


@triton.jit
def looped_kernel(x_ptr, w_ptr, b_ptr, out_ptr, n, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0) * n
    total = tl.zeros((BLOCK,), tl.float32)
    squares = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, n, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + row + columns, mask=columns < n, other=0)
        total += x
        squares += x * x
    mean = tl.sum(total, 0) / n
    scale = tl.rsqrt(tl.sum(squares, 0) / n - mean * mean + eps)
    for start in range(0, n, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        mask = columns < n
        x = tl.load(x_ptr + row + columns, mask=mask, other=0)
        w = tl.load(w_ptr + columns, mask=mask, other=0)
        b = tl.load(b_ptr + columns, mask=mask, other=0)
        tl.store(out_ptr + row + columns, (x - mean) * scale * w + b, mask=mask)


def traced(call):
    """What a call returns, and a row of the ledger for each line of its kernels that touches memory."""
    tracer.reset()
    result, rows = call(), []
    for line in sorted(tracer.facts()["lines"], key=lambda line: line["line"]):
        sizes = [line["size"]] * (line["bytes"] // line["size"])  # so many times the whole of it
        load = line["kind"] == "load"
        rows.append((f"{line['kind']} of {line['arg']}", sizes if load else [], [] if load else sizes))
    return result, rows


def looped(x, w, b):
    out = torch.empty_like(x)
    looped_kernel[(len(x),)](x, w, b, out, x.shape[1], EPS, BLOCK=BLOCK)
    return out


out, rows = traced(lambda: looped(x, w, b))
torch.testing.assert_close(out, separate)
spec = spec_from_file_location("mine", "1_layer_norm/a_forward.py")
mine = module_from_spec(spec)
try:
    spec.loader.exec_module(mine)
    _, own = traced(lambda: mine.layer_norm(x, w, b, EPS))
    rows += [(f"yours: {name}", read, written) for name, read, written in own]
    told = "yours is below"
except NotImplementedError:
    told = "your layer_norm of 3.1a is still open"
except Exception as error:
    told = f"your file of 3.1a does not run: {type(error).__name__}"
title, about = "What a fused kernel asks for, line by line", f"R reads the matrix, W writes it; {told}"
passes(title, about, rows, x.nbytes)

# %% [markdown]
# **Try this.** Do the two reads both come from memory? A program's row of N = 4096 is 8 KB in bf16, and an H100 runs
# 132 multiprocessors, each with some programs: what has to be kept until the second read, and who keeps it? For which N
# does that end? w and b do not show up at all: why are they nearly free, though each program loads them?

# %% [markdown]
# On a GPU, the next cell times both: op by op, and PyTorch's one kernel, by the bytes that are *necessary*. It needs 2
# GB of GPU memory.

# %%
WIDTHS = [256, 1024, 4096, 16384]
ELEMENTS = 2**27

if DEVICE == "cpu":
    print("this cell needs a GPU: there is nothing to time here")
else:
    lines = {"op by op": (WIDTHS, []), "one kernel, PyTorch's": (WIDTHS, [])}
    for n in WIDTHS:
        x = torch.randn(ELEMENTS // n, n, device=DEVICE, dtype=torch.bfloat16)
        w, b = torch.rand(2, n, device=DEVICE, dtype=torch.bfloat16)
        calls = lambda: op_by_op(x, w, b), lambda: F.layer_norm(x, (n,), w, b, EPS)
        for (_, rates), call in zip(lines.values(), calls):
            rates.append(1e-6 * 2 * x.nbytes / triton.testing.do_bench(call))
    limit = 1.1 * max(max(rates) for _, rates in lines.values())
    about = f"{torch.cuda.get_device_name()}, bf16, {ELEMENTS:,} elements"
    figure, axes = sketch.curves("LayerNorm", about, lines, "width of a row", "necessary GB/s", "x", ylim=(0, limit))
    display(figure)

# %% [markdown]
# **Try this.** Is the ratio of the two that of the bytes? How far is PyTorch's kernel from a copy (`make doctor`), and
# at which width? `make bench EX=3.1a` puts yours there.

# %% [markdown]
# ## Epilogues
#
# A product writes its output once. Whoever adds a bias and an activation afterwards reads it and writes it again, for
# each. Needed for: [3.3a](3_feed_forward/README.md).

# %%
M, K, N = 256, 128, 512

x, w, b = torch.randn(M, K), torch.randn(K, N), torch.randn(N)
CHAINS = {
    "three kernels": lambda x, w, b: F.gelu(x @ w + b, approximate="tanh"),
    "two kernels": lambda x, w, b: F.gelu(torch.addmm(b, x, w), approximate="tanh"),
    "one kernel": lambda x, w, b: torch._addmm_activation(b, x, w, use_gelu=True),
}
rows, results = [], []
for name, chain in CHAINS.items():
    with Ledger() as ledger:
        results.append(chain(x, w, b))
    for operation, _, written in ledger.rows:
        read = [] if "mm" in operation else written  # of a product, the output alone
        rows.append((f"{name}: {operation.removesuffix('_activation')}", read, written))
for result in results:  # the last one is GELU by erf on a CPU, by tanh on a GPU
    torch.testing.assert_close(result, results[0], rtol=0, atol=1e-3)
passes("Passes over the output of a product", "R reads all of it, W writes it", rows, results[0].nbytes)

# %% [markdown]
# Does it matter, beside a product? That takes 2 M N K operations, a pass over its bf16 output 4 M N bytes: their ratio
# depends on K and on the GPU, and on nothing else.

# %%
CARDS = ("A100 SXM 80GB", "RTX 3060", "RTX 4090", "H100 SXM", "H200")  # names from workbook/devices.py
DEPTHS = [2**i for i in range(8, 15)]
PASSES = 1  # each reads the output and writes it

lines = {}
for card in (device for device in devices.DEVICES if device.name in CARDS):
    read_and_write = 4 / (1e9 * card.bandwidth)  # seconds an element
    product = [2 * K / (1e12 * card.peaks["bf16"]) for K in DEPTHS]
    lines[card.name] = DEPTHS, [100 * PASSES * read_and_write / seconds for seconds in product]
figure, axes = sketch.curves(
    "What a pass after a product costs", f"{PASSES} after it, by bandwidth and bf16 peak of the datasheets", lines,
    "K, the depth of the product", "% of the product", "xy",
)
figure

# %% [markdown]
# **Try this.** K = 4096, as in a feed-forward layer: what does an H100 pay, and why does an RTX 3060 pay less? On an
# H100 a product reached 0.78 of the peak and a copy 0.90 of the bandwidth: which way does that move its curve? What
# does the first chain of the picture above pay? An epilogue is not free either: who multiplies while it runs?

# %% [markdown]
# On a GPU, the next cell times the three chains. It needs 1 GB of GPU memory.

# %%
DEPTHS = [256, 512, 1024, 2048, 4096]

if DEVICE == "cpu":
    print("this cell needs a GPU: there is nothing to time here")
else:
    lines = {name: (DEPTHS, []) for name in CHAINS}
    for K in DEPTHS:
        shapes = (8192, K), (K, 8192), (8192,)
        x, w, b = (torch.randn(shape, device=DEVICE, dtype=torch.bfloat16) for shape in shapes)
        for (_, rates), chain in zip(lines.values(), CHAINS.values()):
            rates.append(1e-9 * 2 * 8192**2 * K / triton.testing.do_bench(lambda: chain(x, w, b)))
    limit = 1.1 * max(max(rates) for _, rates in lines.values())
    title, about = "A product, a bias and GELU", f"{torch.cuda.get_device_name()}, bf16, 8192 × K × 8192"
    figure, axes = sketch.curves(title, about, lines, "K", "TFLOPS", "x", ylim=(0, limit))
    display(figure)

# %% [markdown]
# ## A chain that grows with S²
#
# Attention multiplies, masks, normalises and multiplies. In between lie the scores, S × S of them for each head.
# Tensors without data (`meta`) are enough to count. Needed for: [3.2](2_attention_blocks/README.md).

# %%
B, H, S, D = 4, 32, 2048, 128
DTYPE = torch.bfloat16


def attention(q, k, v, later):
    scores = q @ k.transpose(-1, -2)
    scores = scores / math.sqrt(q.shape[-1])
    scores = scores.masked_fill(later, -math.inf)
    return torch.softmax(scores, -1) @ v


def ends(S):
    """Bytes of q, k, v and the output."""
    return 4 * B * H * S * D * DTYPE.itemsize


def scores(S):
    """Bytes of all scores, once."""
    return B * H * S * S * DTYPE.itemsize


def counted(S):
    q, k, v = (torch.empty(B, H, S, D, dtype=DTYPE, device="meta") for _ in range(3))
    later = torch.empty(S, S, dtype=torch.bool, device="meta")  # what lies in the future
    with Ledger() as ledger:
        attention(q, k, v, later)
    return ledger


ledger, whole = counted(S), scores(S)
passes(
    f"Attention at S = {S}, op by op: {1e-9 * ledger.total:.1f} GB",
    f"R and W are all scores, {1e-9 * whole:.2f} GB; q, k, v and the output are {1e-9 * ends(S):.2f} GB",
    ledger.rows, whole,
)

# %%
LENGTHS = [2**i for i in range(8, 16)]

lines = {
    "op by op": (LENGTHS, [1e-9 * counted(S).total for S in LENGTHS]),
    "3.2a, b and c": (LENGTHS, [1e-9 * (ends(S) + 4 * scores(S)) for S in LENGTHS]),
    "all scores, once": (LENGTHS, [1e-9 * scores(S) for S in LENGTHS]),
    "q, k, v and output": (LENGTHS, [1e-9 * ends(S) for S in LENGTHS]),
}
title, about = "Four times the bytes for twice the length", f"batch {B}, {H} heads of {D}, {DTYPE}"
figure, axes = sketch.curves(title, about, lines, "S", "GB", "xy")
axes.axhline(80, color=style.QUIET, linewidth=0.9, linestyle="--")
axes.text(280, 95, "an H100 holds 80 GB", fontsize=9.5, color=style.QUIET)
figure

# %% [markdown]
# **Try this.** From which S on do the scores not fit on the card? From which are they more than q, k, v and the output?
# (Work it out from D.) Three fused kernels make the curve of S² cheaper and do not bend it: at S = 4096, what would be
# left if the scores never went to memory? That is stage 4. Causal scores are half −∞: which of the four passes that are
# left can spare that half?

# %% [markdown]
# On a GPU, the next cell runs the chain beside PyTorch's attention, which keeps the scores on the chip. It needs 12 GB
# of GPU memory; with more, add 8192 to LENGTHS (45 GB).

# %%
LENGTHS = [512, 1024, 2048, 4096]

if DEVICE == "cpu":
    print("this cell needs a GPU: there is nothing to time here")
else:
    times = {"op by op": (LENGTHS, []), "PyTorch's, fused": (LENGTHS, [])}
    memory = {name: (LENGTHS, []) for name in times}
    for S in LENGTHS:
        q, k, v = torch.randn(3, B, H, S, D, device=DEVICE, dtype=DTYPE)
        later = torch.ones(S, S, device=DEVICE, dtype=torch.bool).triu(1)
        chains = lambda: attention(q, k, v, later), lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True)
        for name, chain in zip(times, chains):
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            chain()
            memory[name][1].append(1e-9 * (torch.cuda.max_memory_allocated() - before))
            times[name][1].append(triton.testing.do_bench(chain))
    about = f"{torch.cuda.get_device_name()}, batch {B}, {H} heads of {D}, {DTYPE}, causal"
    for title, lines, up in (("The time of attention", times, "ms"), ("The memory it takes", memory, "GB")):
        figure, axes = sketch.curves(title, about, lines, "S", up, "xy")
        display(figure)

# %% [markdown]
# ## What a backward pass keeps
#
# Autograd saves what the gradient of each operation needs, until the backward pass. The picture shows the saved
# matrices: inputs, which are there anyway, and intermediate results, which are kept for this alone. Needed for:
# [3.1c](1_layer_norm/README.md), [3.2d](2_attention_blocks/README.md), [3.3b](3_feed_forward/README.md).

# %%
M, N = 64, 256

inputs = {name: torch.randn(M, N, requires_grad=True) for name in "xuv"}
x, u, v = inputs.values()
w, b = torch.rand(N, requires_grad=True), torch.rand(N, requires_grad=True)
BLOCKS = {
    "LayerNorm, op by op": lambda: op_by_op(x, w, b),
    "LayerNorm, one kernel": lambda: F.layer_norm(x, (N,), w, b, EPS),
    "SwiGLU, silu(u) · v": lambda: F.silu(u) * v,
    "the same, silu spelt out": lambda: u * torch.sigmoid(u) * v,
    "GeGLU, gelu(u) · v": lambda: F.gelu(u) * v,
    "softmax(u)": lambda: torch.softmax(u, -1),
}

names = {t.data_ptr(): name for name, t in inputs.items()}
rows = []
for words, block in BLOCKS.items():
    kept = {}

    def keep(t):
        if t.numel() == M * N:
            kept[t.data_ptr()] = t
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        block().sum()
    texts = [names.get(address, "+") for address in kept]
    rows.append((words, texts, [int(text == "+") for text in texts]))
extra = sum(group for _, _, groups in rows for group in groups)
about = f"blue: an input; orange: something in between, {extra} in all"
sketch.squares("Matrices that are kept for the backward pass", about, rows)

# %% [markdown]
# **Try this.** Which of the orange ones could be computed again from the blue ones, and what would that cost a kernel
# that has just loaded those, and waits for memory anyway? LayerNorm in one kernel keeps x and two numbers a row: which?
# Softmax keeps its output and not its input: for which of tanh, sigmoid and GELU would that do?

# %% [markdown]
# ## Digits: the mean is large and the spread is small
#
# Three ways to the variance of a row in fp32, and what becomes of the row. The first is that of the kernel above.
# Needed for: [3.1a](1_layer_norm/README.md).

# %%
MEAN, SPREAD, ROWS = 400.0, 0.1, 40


def by_squares(x):
    mean = x.mean(-1, keepdim=True)
    return mean, (x * x).mean(-1, keepdim=True) - mean * mean


def by_two_passes(x):
    mean = x.mean(-1, keepdim=True)
    return mean, ((x - mean) ** 2).mean(-1, keepdim=True)


def by_a_shift(x):
    first = x[..., :1]
    mean, variance = by_squares(x - first)
    return first + mean, variance


def normalised(x, formula):
    mean, variance = formula(x)
    return (x - mean) / torch.sqrt(variance + EPS)


rows = (MEAN + SPREAD * torch.randn(ROWS, 1024, dtype=torch.float64)).float()
lines = {}
for formula in (by_squares, by_two_passes):
    spreads = normalised(rows, formula).std(-1)
    numbers = spreads.isfinite()
    lines[f"{formula.__name__}, {ROWS - numbers.sum()} NaN."] = torch.arange(ROWS)[numbers], spreads[numbers]
about = f"{ROWS} rows of 1024 with mean {MEAN:g} and spread {SPREAD:g}, fp32"
figure, axes = sketch.curves(
    "The spread of a row after LayerNorm, which is to be 1", about, lines, "row", "spread of x̂", "y", ylim=(0.1, 100)
)
figure

# %% [markdown]
# **Try this.** The dots of the first formula lie on a few lines, and some are missing. How far is one fp32 number from
# the next near MEAN²? Which variances are possible then, and what does a square root say to those below 0? What else
# decides how high the highest line is?

# %%
RATIOS = torch.logspace(0, 6, 37, dtype=torch.float64)
DTYPE = torch.float32  # of a row in memory; whatever is computed is fp32

FORMULAS = {
    "mean of x², less mean²": by_squares,
    "mean of (x − mean)²": by_two_passes,
    "the first, on x − x₀": by_a_shift,
}

lines = {words: (RATIOS, []) for words in FORMULAS}
for ratio in RATIOS:
    rows = (ratio + torch.randn(8, 1024, dtype=torch.float64)).to(DTYPE)
    truth = normalised(rows.double(), by_two_passes)
    for words, formula in FORMULAS.items():
        error = (normalised(rows.float(), formula) - truth).abs().max()
        lines[words][1].append(error.nan_to_num(nan=100).clamp(1e-8, 100).item())
about = f"the worst number of 8 rows of 1024, {DTYPE}; 100 stands for more, and for NaN"
figure, axes = sketch.curves(
    "How wrong a normalised row is", about, lines, "mean ÷ spread", "error of x̂", "xy", ylim=(1e-8, 200)
)
figure

# %% [markdown]
# **Try this.** With DTYPE = torch.bfloat16 a row has fewer different numbers, the larger its mean is: how many are left
# where the first formula is off by 0.1, and what do all three say of a row that has only one? Two passes are not exact
# either: whose rounding is it that grows with the mean? A shift by any number of the row needs one pass: who would want
# it, if a kernel that holds its row in registers has the second pass for nothing?

# %% [markdown]
# ## Digits: squares that overflow
#
# A number may fit in fp16 where its square does not. Needed for: [3.1d](1_layer_norm/README.md).

# %%
ROW = [3, 50, 100, 150, 200, 250, 260, 300]
DTYPE = torch.float16

x = torch.tensor(ROW, dtype=DTYPE)
sums, total = [], torch.zeros((), dtype=DTYPE)
for square in x * x:
    total = total + square
    sums.append(total.item())
exact = (x.double() ** 2).cumsum(0).tolist()
rows = []
for words, values, truths in (
    ("x", x.tolist(), ROW),
    (f"x² in {str(DTYPE)[6:]}", (x * x).tolist(), [value**2 for value in ROW]),
    ("the sum so far", sums, exact),
    ("the same in fp32", (x.float() ** 2).cumsum(0).tolist(), exact),
):
    off = [not abs(value / truth - 1) < 2e-3 for value, truth in zip(values, truths)]
    rows.append((words, [f"{value:.0f}" for value in values], [sketch.WRONG if o else 0 for o in off]))
first = next((value for value, so_far in zip(ROW, sums) if not math.isfinite(so_far)), "no number")
title = f"In {str(DTYPE)[6:]} the sum of squares is infinite from {first} on"
sketch.squares(title, "red: off by more than 0.2%, or infinite", rows)

# %% [markdown]
# **Try this.** What is 1/√∞, and what would RMSNorm make of this row? DTYPE = torch.bfloat16: nothing overflows, is it
# better? How large may x be in fp32? Scaling the row by its largest number first would save fp16: what would that cost
# a kernel that holds the row anyway, and why does nobody do it?

# %% [markdown]
# ## Digits: long sums, in some order
#
# dw and db are sums over all rows. Here db, by accumulators of two dtypes; the result is bf16 in any case. Needed for:
# [3.1c](1_layer_norm/README.md).

# %%
ROWS, COLUMNS = 4096, 256
SHIFT = 0.1  # the mean of dy
PARTS = 64  # partial sums: a power of two, 64 at the most

dy = (SHIFT + torch.randn(ROWS, COLUMNS)).bfloat16()
exact = dy.double().cumsum(0)
seen = [2**i for i in range(6, 1 + int(math.log2(ROWS)))]


def errors(dtype, parts):
    """Of the sum over the first rows, by how many they are: accumulated in a dtype, in so many partial sums."""
    acc, found = torch.zeros(parts, COLUMNS, dtype=dtype), []
    for start in range(0, ROWS, parts):
        acc = acc + dy[start : start + parts].to(dtype)
        if start + parts in seen:
            whole = acc.float().sum(0).bfloat16().double()
            truth = exact[start + parts - 1]
            found.append(((whole - truth).norm() / truth.norm()).item())
    return found


lines = {
    "bf16, row after row": (seen, errors(torch.bfloat16, 1)),
    f"bf16, {PARTS} partial sums": (seen, errors(torch.bfloat16, PARTS)),
    "fp32, row after row": (seen, errors(torch.float32, 1)),
}
about = f"relative, over {COLUMNS} columns; the result is rounded to bf16"
figure, axes = sketch.curves("The error of db", about, lines, "rows", "error", "xy", ylim=(1e-3, 1))
figure

# %% [markdown]
# **Try this.** SHIFT = 0 and SHIFT = 1: which error is that of random steps, and which of an accumulator that stands
# still? How many partial sums does bf16 need to be nearly right, and what would you have saved?
#
# With an atomic addition the programs add in the order in which they end, and that is another one each time:

# %%
PROGRAMS, ORDERS = 132, 40

draw = np.random.default_rng(0)
partial = draw.normal(size=PROGRAMS).astype(np.float32)
sums = [np.add.accumulate(draw.permutation(partial), dtype=np.float32)[-1] for _ in range(ORDERS)]
again = {np.add.accumulate(partial, dtype=np.float32)[-1] for _ in range(ORDERS)}
exact = math.fsum(partial.tolist())
gap = np.spacing(np.float32(abs(exact)))
off = [(float(value) - exact) / gap for value in sums]
figure, axes = sketch.curves(
    f"{ORDERS} orders, {len(set(sums))} different sums; in one order, {len(again)}",
    f"{PROGRAMS} partial sums in fp32, added one after the other in an order by chance",
    {"the sum.": (range(ORDERS), off)}, "run", "off by, in last places",
)
axes.axhline(0, color=style.QUIET, linewidth=0.9, linestyle="--")
figure

# %% [markdown]
# **Try this.** Two runs of a training that start alike end apart: does that need a mistake? How many sums do 4 programs
# make, and 1000? Partial sums that are written to memory and added by a second kernel cost PROGRAMS × N × 16 bytes, dw
# and db in fp32, there and back: for N = 4096 and 16384 rows, what share is that of the bytes that the backward moves
# anyway?

# %% [markdown]
# ## Softmax at its edges
#
# Rows of scores, and what a softmax makes of them. A row of −∞ only, a query that may look at nothing, is to give
# zeros. `softmax` is there to be mended: as it stands, most rows come out wrong. Needed for:
# [3.2b](2_attention_blocks/README.md).

# %%
INF = math.inf
SCORES = {
    "small": [1, 2, 3, 4],
    "large": [88, 89, 90, 91],
    "far below 0": [-200, -201, -202, -203],
    "two are masked": [1, -INF, 2, -INF],
    "all are masked": [-INF, -INF, -INF, -INF],
}


def softmax(x):
    exps = torch.exp(x)
    return exps / exps.sum()


rows, right = [], 0
for words, row in SCORES.items():
    x = torch.tensor(row, dtype=torch.float32)
    shares = softmax(x)
    good = (shares - torch.softmax(x.double(), 0).nan_to_num(0)).abs() < 1e-6
    right += good.all().item()
    texts = [f"{value:g}".replace("inf", "∞") for value in row] + [None]
    texts += [f"{value:.2g}" for value in shares.tolist()]
    rows.append((words, texts, [None] * 5 + [0 if ok else sketch.WRONG for ok in good]))
sketch.squares(f"{right} of {len(SCORES)} rows are right", "scores, and what softmax makes of them; red: wrong", rows)

# %% [markdown]
# **Try this.** Which rows are saved by taking the maximum off, and which one is still NaN? What is −∞ − (−∞)? Many
# masks put −10⁴ in the place of −∞: what does the last row give then, and who notices? Mend `softmax` until no square
# is red. With x in fp16, how large may a score be that is exponentiated as it is?

# %% [markdown]
# ## The gradient of LayerNorm, seen
#
# Add a constant to a row, or stretch it away from its mean: its LayerNorm stays as it was. So a gradient may have no
# part along either direction, 1 and x̂. What comes in, g = dy · w, loses both. Needed for:
# [3.1b](1_layer_norm/README.md).

# %%
N = 24
SCALE = 1.0  # of the row

noise, other = torch.randn(2, N, dtype=torch.float64)
x = (5 + SCALE * noise).requires_grad_()
w, dy = 0.5 + torch.rand(N, dtype=torch.float64), 0.7 + noise + other  # a gradient that has both parts
F.layer_norm(x, (N,), w, eps=EPS).backward(dy)

row = x.detach()
rstd = 1 / torch.sqrt(row.var(correction=0) + EPS)
normal = (row - row.mean()) * rstd
g = dy * w
along_one = g.mean().expand(N)
along_row = normal * (g * normal).mean()
left = g - along_one - along_row
torch.testing.assert_close(rstd * left, x.grad)
figure, axes = sketch.curves(
    "What comes in, and the two parts that it loses",
    f"what is left, times rstd = {rstd:.2f}, is dx: autograd agrees; its sum is {(rstd * left).sum():.0e}",
    {
        "g = dy · w": (range(N), g),
        "along 1, its mean": (range(N), along_one),
        "along x̂": (range(N), along_row),
        "left.": (range(N), left),
    },
    "column", "",
)
figure

# %% [markdown]
# **Try this.** SCALE = 0.01 and SCALE = 100: how does dx answer, and what does that do to the layers before? With SCALE
# = 0.001 the variance is smaller than EPS: how long is x̂ then, and is the part along it still taken off as a whole?
# RMSNorm does not mind a stretch, and minds a constant: which of the two parts does its gradient lose?
#
# Three numbers can be drawn. Without their mean they lie in a plane, and with a spread of 1 on a circle in it, of
# radius √3. So the gradient has one direction left: along the circle.

# %%
X = [2.0, 5.0, 0.0]
G = [1.0, 0.6, -0.8]

plane = torch.tensor([[1, -1, 0], [1, 1, -2]], dtype=torch.float64)
plane /= plane.norm(dim=1, keepdim=True)  # two directions at right angles, both without a mean
x, g = torch.tensor(X, dtype=torch.float64, requires_grad=True), torch.tensor(G, dtype=torch.float64)
normal = F.layer_norm(x, (3,), eps=0)
normal.backward(g)
spread = x.detach().std(correction=0)
point, start, end = (plane @ t for t in (normal.detach(), x.detach(), g))
tangent = plane @ (spread * x.grad)
circle = torch.linspace(0, 2 * math.pi, 200)

figure, axes = style.canvas(
    "LayerNorm of three numbers is a place on a circle",
    f"x = {X}, g = {G}; seen along 1, so that a constant added to x moves nothing",
    height=6.0, left=0.2, right=0.2,
)
axes.set_aspect("equal")
axes.axis("off")
axes.plot(math.sqrt(3) * circle.cos(), math.sqrt(3) * circle.sin(), color="#C9C9C9", linewidth=1.4)
axes.plot([0, 2.2 * point[0]], [0, 2.2 * point[1]], ":", color=style.QUIET, linewidth=1.2)
places = (start, "x", style.QUIET), (point, "x̂", style.BLUE), ((0, 0), "all three equal", style.QUIET)
for at, words, colour in places:
    axes.plot(*at, "o", color=colour, markersize=6)
    axes.annotate(words, at, (-10, -16), textcoords="offset points", ha="center", color=colour)
for arrow, words, colour in ((end, "g", style.ORANGE), (tangent, "dx · spread", style.VERMILLION)):
    look = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.8, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", point + arrow, point, arrowprops=look)
    axes.annotate(words, point + arrow, (6, 4), textcoords="offset points", color=colour)
tip, foot = point + end, point + tangent
axes.plot([tip[0], foot[0]], [tip[1], foot[1]], "--", color=style.QUIET, linewidth=0.9)
figure

# %% [markdown]
# **Try this.** Twice X, or X plus 10: what moves? For which G is there no gradient at all? (There are many: a whole
# plane.) A step along dx leaves the circle a little: which way, and what does the next LayerNorm make of that?

# %% [markdown]
# ## The gradient of softmax, seen
#
# A softmax does not mind a constant either, so dS adds up to 0: of dP it loses δ, its mean as the shares P weigh it.
# Needed for: [3.2d](2_attention_blocks/README.md).

# %%
KEYS, D = 8, 4
SHARP = 1.0  # the size of the scores

scores = (SHARP * torch.randn(KEYS, dtype=torch.float64)).requires_grad_()
v, do = torch.randn(KEYS, D, dtype=torch.float64), torch.randn(D, dtype=torch.float64)
p = torch.softmax(scores, 0)
o = p @ v
o.backward(do)

p, o = p.detach(), o.detach()
dp = v @ do
delta = (p * dp).sum()
ds = p * (dp - delta)
torch.testing.assert_close(ds, scores.grad)
torch.testing.assert_close(delta, o @ do)  # so that neither P nor dP is needed for δ
figure, axes = sketch.curves(
    f"dS adds up to {abs(ds.sum()):.0e}, autograd agrees",
    f"{KEYS} keys; the Jacobian of this row, written down, would have {KEYS**2} numbers",
    {
        "dP = v · dO": (range(KEYS), dp),
        "δ": (range(KEYS), delta.expand(KEYS)),
        "P": (range(KEYS), p),
        "dS = P (dP − δ)": (range(KEYS), ds),
    },
    "key", "",
)
figure

# %% [markdown]
# **Try this.** SHARP = 5: one key has nearly all of P: what remains of dS, and which training does that stop? δ is a
# number a row and can be had in two ways: from P and dP, S numbers each, or from O and dO, D numbers each. Which of
# them does a kernel have at hand that walks through the keys tile by tile? What is dS of a row of zeros, all of it
# masked?
