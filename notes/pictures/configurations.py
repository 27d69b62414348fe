"""Draws configurations.svg: what the matmul of 2.1b becomes with other tiles and stages, by the compiler, with no GPU.

Warps that a multiprocessor holds, registers of a thread and shared memory of a block, on sm_80, sm_86 and sm_90.
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
matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "configurations", "font.size": 9})
import matplotlib.pyplot as plt  # noqa: E402

STAGES = 2, 3, 4, 5
TILES = {  # TILE_M, TILE_N, TILE_K: num_warps
    (16, 128, 128): (4,),
    (64, 64, 64): (4,),
    (64, 128, 64): (4,),
    (128, 128, 64): (4, 8),
    (128, 256, 64): (4, 8),
    (256, 128, 64): (8,),
}
ROWS = [(tile, warps) for tile, choices in TILES.items() for warps in choices]
GPUS = {80: "sm_80 (A100)", 86: "sm_86 (RTX 30)", 90: "sm_90 (H100)"}

part = catalog.select("2.1b")[0]
spec = importlib.util.spec_from_file_location("grouped", part.file(catalog.SOLUTIONS))
grouped = importlib.util.module_from_spec(spec)
spec.loader.exec_module(grouped)


def facts(arch: int, tile: tuple[int, int, int], warps: int, stages: int) -> dict:
    """Of bf16 matrices 4096 x 4096."""
    x = torch.empty((4096, 4096), dtype=torch.bfloat16, device="meta")
    tiles = dict(zip(("TILE_M", "TILE_N", "TILE_K"), tile, strict=True))
    sizes = 3 * (4096,) + 2 * x.stride()
    with codegen.capture(arch) as launches:
        grouped.matmul_kernel[(1,)](x, x, x, *sizes, **tiles, GROUP_M=8, num_warps=warps, num_stages=stages)
    return codegen.facts(launches[0])


figure, panels = plt.subplots(1, 3, figsize=(12, 4.6), sharey=True, layout="constrained")
for axes, (arch, title) in zip(panels, GPUS.items(), strict=True):
    axes.set_title(f"{title}: {devices.SHARED[arch] // 1024} KB a block")
    resident = []
    for y, (tile, warps) in enumerate(ROWS):
        resident.append([])
        for x, stages in enumerate(STAGES):
            f = facts(arch, tile, warps, stages)
            held = occupancy(arch, f["threads"], f["registers"], f["shared"])
            resident[-1].append(held.warps)
            first = f"{held.blocks} x {warps} warps" if held.blocks else "no room"
            lines = [first, f"{f['registers']} reg, {f['shared'] // 1024} KB"]
            lines += [f"spills {f['spills']:,} B"] * (f["spills"] > 0)
            colour = "#999999" if not held.blocks else "#d55e00" if f["spills"] else "black"
            axes.text(x, y, "\n".join(lines), ha="center", va="center", color=colour, fontsize=7)
            print(arch, tile, f"{warps} warps, {stages} stages: {', '.join(lines)}")
    axes.imshow(resident, cmap="Greens", vmin=0, vmax=40, aspect="auto")
    axes.set_xticks(range(len(STAGES)), [f"{stages} stages" for stages in STAGES])
    axes.set_yticks(range(len(ROWS)), ["{} x {} x {}, {} warps".format(*tile, warps) for tile, warps in ROWS])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
figure.supxlabel(
    "blocks x warps that a multiprocessor holds, registers of a thread, shared memory of a block; "
    f"triton {triton.__version__}",
    fontsize=8,
)
target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".svg")
figure.savefig(target, metadata={"Date": None} if target.suffix == ".svg" else None)
