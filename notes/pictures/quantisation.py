"""Draws packing.svg and quantisation_error.svg: where 4.3b keeps its weights, and what quantisation costs them.

The errors are those of 4096 x 1024 random weights, normal ones and heavy-tailed ones (Student's t with five degrees of
freedom), against fp16's own; nothing here needs a GPU.
"""

import sys
from pathlib import Path

import matplotlib
import torch

matplotlib.use("svg")
matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "quantisation", "font.size": 9})
import matplotlib.pyplot as plt  # noqa: E402

BLUE, ORANGE, GREEN, INK = "#0072b2", "#d55e00", "#009e73", "#333333"
K, N = 4096, 1024


def int8(w, dim):
    scales = w.abs().amax(dim, keepdim=True) / 127
    return (w / scales).round() * scales


def int4(w, group):
    w = w.reshape(-1, group, N)
    low, high = w.amin(1, keepdim=True), w.amax(1, keepdim=True)
    scales = (high - low) / 15
    zeros = (-low / scales).round()
    return (((w / scales).round() + zeros).clamp(0, 15) - zeros) * scales


def packing(axes):
    """A group of one column: 16 words, 8 nibbles each, and the plane of them that is multiplied at one time."""
    for word in range(16):
        for j in range(8):
            chosen = j == 2
            colour = BLUE if chosen else "#f4f4f4"
            axes.add_patch(plt.Rectangle((7 - j, 15 - word), 0.94, 0.9, color=colour))
            text = {"ha": "center", "va": "center", "color": "white" if chosen else INK}
            axes.text(7.47 - j, 15.45 - word, f"{16 * j + word}", **text)
        axes.text(-0.2, 15.45 - word, f"word {word}", ha="right", va="center", color=INK)
    for j in range(8):
        axes.text(7.47 - j, 16.2, f"{4 * j + 3}:{4 * j}", ha="center", va="bottom", color=INK)
    axes.text(-0.2, 16.2, "bits", ha="right", va="bottom", color=INK)
    told = "nibble 2 of the 16 words:\nweights 32 to 47 of the group\n\n(words >> 8) & 15\n\ngoes with x[:, 32:48]"
    axes.text(8.4, 8, told, va="center", color=BLUE)
    axes.set(xlim=(-1.6, 12.6), ylim=(-0.3, 17.2))
    axes.axis("off")


def errors(axes):
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(K, N, generator=generator)
    spread = torch.randn(5, K, N, generator=generator).square().mean(0).sqrt()
    heavy = torch.randn(K, N, generator=generator) / spread
    schemes = {
        "fp16": lambda w: w.half().float(),
        "int8, a scale a column": lambda w: int8(w, 0),
        "int8, one scale": lambda w: int8(w, (0, 1)),
        "int4, groups of 32": lambda w: int4(w, 32),
        "int4, groups of 128": lambda w: int4(w, 128),
        "int4, a scale a column": lambda w: int4(w, K),
    }
    for shift, (name, w, colour) in zip((0.2, -0.2), (("normal", normal, BLUE), ("heavy-tailed", heavy, ORANGE))):
        for place, (scheme, quantise) in enumerate(schemes.items()):
            error = ((w - quantise(w).reshape(K, N)).norm() / w.norm()).item()
            axes.barh(place - shift, error, 0.36, color=colour, label=name if place == 0 else None)
            axes.text(error * 1.1, place - shift, f"{error:.2%}", va="center", color=colour, fontsize=8)
            print(f"{scheme}, {name}: {error:.3%}")
    axes.set_yticks(range(len(schemes)), schemes)
    axes.set(xscale="log", xlim=(1e-4, 2), xlabel="error, relative to the norm of the weights")
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper right")


folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
for name, draw, size in (("packing", packing, (7.5, 4.6)), ("quantisation_error", errors, (7.5, 3.4))):
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    draw(axes)
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
