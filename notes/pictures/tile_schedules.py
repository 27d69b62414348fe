"""Draws tile_schedules.svg and wave_quantisation.svg: when each multiprocessor makes which tile, and what that costs.

By arithmetic, in steps along k; how tiles are streamed is what the solution of 4.2b says.
"""

import heapq
import importlib.util
import sys
from pathlib import Path

import matplotlib
from workbook import catalog

matplotlib.use("svg")
matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "tile_schedules", "font.size": 9})
import matplotlib.pyplot as plt  # noqa: E402

FILL, DRAIN, FIX_UP = 3, 3, 16  # steps that a tile's first loads take, its store, and the second launch

part = catalog.select("4.2b")[0]
spec = importlib.util.spec_from_file_location("stream_k", part.file(catalog.SOLUTIONS))
stream_k = importlib.util.module_from_spec(spec)
spec.loader.exec_module(stream_k)


def a_program_a_tile(tiles: int, steps: int, multiprocessors: int) -> list[tuple]:
    """(multiprocessor, begin, end, tile, what) of every piece of work, in steps: a program goes where there is room."""
    free, work = [(0, number) for number in range(multiprocessors)], []
    for tile in range(tiles):
        begin, number = heapq.heappop(free)
        work += made(number, begin, tile, steps)
        heapq.heappush(free, (begin + FILL + steps + DRAIN, number))
    return work


def persistent(tiles: int, steps: int, multiprocessors: int) -> list[tuple]:
    """The same, a program a multiprocessor: a tile is filled and its predecessor drained behind products."""
    work = []
    for number in range(min(tiles, multiprocessors)):
        own = range(number, tiles, multiprocessors)
        work.append((number, 0, FILL, own[0], "fill"))
        for place, tile in enumerate(own):
            work.append((number, FILL + place * steps, FILL + (place + 1) * steps, tile, "products"))
        work.append((number, FILL + len(own) * steps, FILL + len(own) * steps + DRAIN, own[-1], "drain"))
    return work


def streamed(tiles: int, steps: int, multiprocessors: int) -> list[tuple]:
    """The same, whole waves as before, and what is left over in shares."""
    left, shares = stream_k.streamed(tiles, steps, multiprocessors)
    if left == 0:
        return persistent(tiles, steps, multiprocessors)
    whole, line = tiles - left, left * steps
    work = [piece for piece in persistent(whole, steps, multiprocessors) if piece[4] != "drain"]
    for share in range(shares):
        now = FILL + whole // multiprocessors * steps
        if whole == 0:
            work.append((share, 0, FILL, whole, "fill"))
        first, end = share * line // shares, (share + 1) * line // shares
        for tile in range(first // steps, -(-end // steps)):
            made_here = min(end, (tile + 1) * steps) - max(first, tile * steps)
            work.append((share, now, now + made_here, whole + tile, "products"))
            now += made_here
        work.append((share, now, now + DRAIN, whole + tile, "drain"))
    last = length(work)
    return work + [(number, last, last + FIX_UP, None, "fix-up") for number in range(multiprocessors)]


def made(number: int, begin: int, tile: int, steps: int) -> list[tuple]:
    products = begin + FILL
    return [
        (number, begin, products, tile, "fill"),
        (number, products, products + steps, tile, "products"),
        (number, products + steps, products + steps + DRAIN, tile, "drain"),
    ]


def length(work: list[tuple]) -> int:
    return max(end for _, _, end, _, _ in work)


def draw_schedules(target: Path, tiles: int, steps: int, multiprocessors: int):
    schedules = {
        "a program a tile (2.1c)": a_program_a_tile,
        "persistent (4.2a)": persistent,
        "stream-K (4.2b)": streamed,
    }
    figure, panels = plt.subplots(3, 1, figsize=(10, 5), sharex=True, layout="constrained")
    colours = {"fill": "#bbbbbb", "drain": "#888888", "fix-up": "#444444"}
    palette = plt.get_cmap("tab20").colors
    for axes, (title, schedule) in zip(panels, schedules.items(), strict=True):
        work = schedule(tiles, steps, multiprocessors)
        for number, begin, end, tile, what in work:
            colour = colours.get(what) or palette[tile % len(palette)]
            axes.barh(number, end - begin, left=begin, height=0.8, color=colour, edgecolor="white", linewidth=0.6)
            if what == "products":
                axes.text((begin + end) / 2, number, tile, ha="center", va="center")
        took = length(work)
        axes.axvline(took, color="black", linewidth=0.8)
        busy = tiles * steps / multiprocessors / took
        axes.set_title(f"{title}: {took} steps, {busy:.0%} of them products", loc="left")
        axes.set(yticks=range(multiprocessors), ylim=(multiprocessors - 0.5, -0.5), ylabel="multiprocessor")
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel(
        f"time, in steps along k: {tiles} tiles of {steps} steps; light grey: first loads, grey: the store of a tile, "
        "dark: the fix-up"
    )
    figure.savefig(target, metadata={"Date": None})


def draw_waves(target: Path, depths: tuple[int, ...], multiprocessors: int, most: int):
    figure, panels = plt.subplots(1, len(depths), figsize=(10, 3.4), sharey=True, layout="constrained")
    counts = range(1, most + 1)
    waves = [n / multiprocessors for n in counts]
    for axes, steps in zip(panels, depths, strict=True):
        for label, schedule, colour in (("4.2a", persistent, "black"), ("4.2b", streamed, "#d55e00")):
            took = [length(schedule(n, steps, multiprocessors)) for n in counts]
            busy = [100 * n * steps / multiprocessors / t for n, t in zip(counts, took, strict=True)]
            axes.plot(waves, busy, color=colour, linewidth=1, label=label)
        axes.set_title(f"k = {64 * steps}, {steps} steps a tile")
        axes.set(xlim=(0, waves[-1]), ylim=(0, 100), xlabel=f"tiles for each of {multiprocessors} multiprocessors")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("% of the time with products")
    panels[0].legend(loc="lower right", frameon=False)
    figure.savefig(target, metadata={"Date": None})


folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
draw_schedules(folder / "tile_schedules.svg", tiles=12, steps=64, multiprocessors=5)
draw_waves(folder / "wave_quantisation.svg", depths=(64, 256), multiprocessors=132, most=4 * 132)
