"""Draws tile_order.svg: which tiles the first wave of programs makes, and what waves load, for groups of any height."""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "tile_order", "font.size": 9})
import matplotlib.pyplot as plt  # noqa: E402

WAVE = 132  # programs that run together: one on each multiprocessor of an H100
SIDE = 64  # tiles in a row and in a column: 8192 / 128
STRIP = 128 * 8192 * 2 / 2**20  # MB: of bf16
L2 = 50  # MB


def ordered(group: int) -> list[tuple[int, int]]:
    """Row and column of each program's tile, in groups of `group` rows: group by group, down columns."""
    tiles = [(row, column) for row in range(SIDE) for column in range(SIDE)]
    return sorted(tiles, key=lambda tile: (tile[0] // group, tile[1], tile[0]))


def strips(group: int) -> float:
    """Different strips of a and of b that a wave loads, on average over full waves."""
    tiles = ordered(group)
    waves = [tiles[start : start + WAVE] for start in range(0, SIDE * SIDE - WAVE + 1, WAVE)]
    rows_and_columns = [map(set, zip(*wave, strict=True)) for wave in waves]
    return sum(len(rows) + len(columns) for rows, columns in rows_and_columns) / len(waves)


figure, (naive, grouped, curve) = plt.subplots(1, 3, figsize=(11, 3.6), width_ratios=(1, 1, 1.25), layout="constrained")
for axes, group, title in ((naive, 1, "row by row"), (grouped, 8, "groups of 8 rows")):
    wave = ordered(group)[:WAVE]
    numbers = [[float("nan")] * SIDE for _ in range(SIDE)]
    for program, (row, column) in enumerate(wave):
        numbers[row][column] = program
    axes.imshow(numbers, cmap="viridis", vmin=0, vmax=WAVE)
    rows, columns = (sorted(set(side)) for side in zip(*wave, strict=True))
    axes.barh(rows, -3, left=-2, height=0.9, color="#d55e00")
    axes.bar(columns, -3, bottom=-2, width=0.9, color="#0072b2")
    axes.set(xlim=(-6, SIDE), ylim=(SIDE, -6), xticks=[], yticks=[])
    axes.set_title(f"{title}: {len(rows)} strips of a, {len(columns)} of b")
    axes.spines[:].set_visible(False)
    axes.add_patch(plt.Rectangle((-0.5, -0.5), SIDE, SIDE, fill=False, color="#999999", linewidth=0.8))
heights = [2**i for i in range(7)]
curve.plot(heights, [strips(group) * STRIP for group in heights], "o-", color="black")
curve.axhline(L2, color="#009e73", linestyle="--")
curve.text(64, L2 + 2, "L2 of an H100", color="#009e73", ha="right", va="bottom")
curve.set_xscale("log", base=2)
curve.set(xticks=heights, xticklabels=heights, ylim=(0, None), xlabel="GROUP_M, rows of tiles in a group")
curve.set_title("MB of strips that a wave of 132 loads")
curve.spines[["top", "right"]].set_visible(False)
target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".svg")
figure.savefig(target, metadata={"Date": None} if target.suffix == ".svg" else None)
