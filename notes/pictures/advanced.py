"""Draws attention.svg and few_bits.svg: what tiles of 4.1a cost, and when a product of few rows gains from few bits.

Registers, spills and programs a multiprocessor are the compiler's and need no GPU; the least times are arithmetic by
the datasheet. What was measured is written down here, with its source.
"""

import importlib.util
import sys
from pathlib import Path

import matplotlib
import torch
import triton
from workbook import catalog, codegen, devices
from workbook.occupancy import occupancy

matplotlib.use("svg")
matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "advanced", "font.size": 9})
import matplotlib.pyplot as plt  # noqa: E402

PATHS = {(80, False): "sm_80, pointers", (90, False): "sm_90, pointers", (90, True): "sm_90, descriptors"}
# queries, keys, warps, stages
TILES = ((64, 64, 4, 2), (64, 128, 4, 2), (128, 64, 4, 2), (128, 64, 8, 3), (128, 128, 4, 2), (128, 128, 8, 2))

# TFLOPS by (head_dim, tile, path), batch 4, 32 heads, 4096 tokens, bf16, not causal; milliseconds by rows of x, n = k =
# 8192, x in bf16. H100 80GB HBM3, torch 2.11, triton 3.6, 2026-11-25, median of do_bench
TFLOPS = {
    (128, (128, 64, 4, 2), (90, True)): 516,
    (128, (128, 128, 8, 2), (90, True)): 460,
    (128, (128, 64, 8, 3), (90, False)): 490,
    (64, (64, 128, 4, 2), (90, True)): 440,
    (64, (128, 64, 4, 2), (90, True)): 377,
    (64, (128, 128, 8, 2), (90, True)): 297,
}
MILLISECONDS = {
    "bf16, cuBLAS": {1: 0.0591, 16: 0.0584, 4096: 0.753},
    "4 bits, tinygemm": {1: 0.0270, 16: 0.0804, 4096: 17.96},  # 4096 rows: 2026-11-23
    "4 bits, Triton, best of a trial": {1: 0.0304, 16: 0.0346, 4096: 1.233},
}

part = catalog.select("4.1a")[0]
spec = importlib.util.spec_from_file_location("flash_attention", part.file(catalog.SOLUTIONS))
flash = importlib.util.module_from_spec(spec)
spec.loader.exec_module(flash)


def compiled(head_dim: int, tile: tuple, arch: int, descriptors: bool) -> dict:
    """What the compiler makes of 4.1a's kernel, and how many of its programs a multiprocessor holds."""
    tile_q, tile_k, warps, stages = tile
    q = torch.empty(4, 32, 4096, head_dim, dtype=torch.bfloat16, device="meta")
    lse = torch.empty(4, 32, 4096, dtype=torch.float32, device="meta")
    with codegen.capture(arch) as launches:
        flash.flash_attention_kernel[(1,)](
            q, q, q, q, lse, 128, 4096, 0.1, TILE_Q=tile_q, TILE_K=tile_k, HEAD_DIM=head_dim, RAGGED=False,
            TMA=descriptors, WARP_SPECIALIZE=False, num_warps=warps, num_stages=stages,
        )  # fmt: skip
    facts = codegen.facts(launches[0])
    return facts | {"programs": occupancy(arch, facts["threads"], facts["registers"], facts["shared"]).blocks}


def draw_attention(target: Path):
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True, layout="constrained")
    for axes, head_dim in zip(panels, (128, 64), strict=True):
        axes.set_title(f"head_dim {head_dim}")
        shades = []
        for y, tile in enumerate(TILES):
            shades.append([])
            for x, path in enumerate(PATHS):
                facts = compiled(head_dim, tile, *path)
                held = "1 program" if facts["programs"] == 1 else f"{facts['programs']} programs"
                lines = [f"{facts['registers']} reg, {held}"]
                lines += [f"spills {facts['spills']:,} B"] * (facts["spills"] > 0)
                rate = TFLOPS.get((head_dim, tile, path))
                lines += [f"{rate} TFLOPS"] * (rate is not None)
                shades[-1].append(0 if facts["spills"] else facts["programs"] * tile[2])
                colour, weight = "#d55e00" if facts["spills"] else "black", "bold" if rate else "normal"
                axes.text(x, y, "\n".join(lines), ha="center", va="center", color=colour, weight=weight, fontsize=7)
                print(head_dim, tile, PATHS[path], facts["shared"], *lines, sep=", ", flush=True)
        axes.imshow(shades, cmap="Greens", vmin=0, vmax=24, aspect="auto")
        axes.set_xticks(range(len(PATHS)), PATHS.values())
        axes.set_yticks(range(len(TILES)), ["{} x {}, {} warps, {} stages".format(*tile) for tile in TILES])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    figure.supxlabel(f"by triton {triton.__version__}; TFLOPS, bold, were measured with triton 3.6", fontsize=8)
    figure.savefig(target, metadata={"Date": None})


def draw_few_bits(target: Path, width: int = 8192):
    figure, axes = plt.subplots(figsize=(7.5, 4), layout="constrained")
    card = next(device for device in devices.DEVICES if device.name == "H100 SXM")
    rows = [2**i for i in range(13)]
    for bits, label, colour in ((16, "16 bits", "black"), (8, "8 bits", "#0072b2"), (4.19, "4 bits", "#009e73")):
        peak = card.peaks["int8" if bits == 8 else "bf16"]
        least = []
        for m in rows:
            moved = width * width * bits / 8 + 2 * m * width * 2
            least.append(max(moved / card.bandwidth / 1e6, 2 * m * width * width / peak / 1e9))
        axes.plot(rows, least, color=colour, linewidth=1, label=f"{label}, the least")
    marks = {"bf16, cuBLAS": ("s", "black"), "4 bits, tinygemm": ("v", "#cc79a7")}
    for label, times in MILLISECONDS.items():
        marker, colour = marks.get(label, ("o", "#009e73"))
        axes.plot(times.keys(), times.values(), marker, color=colour, label=label, markersize=5)
    axes.set(xscale="log", yscale="log", xlabel=f"rows of x; n = k = {width}", ylabel="ms", ylim=(0.008, 30))
    axes.set_xticks([1, 16, 128, 1024, 4096], ["1", "16", "128", "1,024", "4,096"])
    axes.set_yticks([0.01, 0.1, 1, 10], ["0.01", "0.1", "1", "10"])
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(target, metadata={"Date": None})


folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
draw_attention(folder / "attention.svg")
draw_few_bits(folder / "few_bits.svg")
