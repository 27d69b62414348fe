"""What the labs draw: curves, numbers in memory, blocks and tiles as squares, and who does what at which time."""

import math

from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from . import style

GROUPS = (style.BLUE, style.ORANGE, style.GREEN, style.PURPLE, style.SKY, style.INK)
COLOURS = (style.VERMILLION, style.GREEN, style.PURPLE, style.ORANGE, style.SKY, style.INK)  # of curves
WRONG = "wrong"
MOST_TICKS = 12  # of a curve that is a few dots: a tick for each
WIDTH, ABOVE = 9.0, 0.95  # inches: of a sketch, and of the words above it
LARGEST, LABEL = 0.4, 1.9  # inches: of a square, and of the words in front of its row


def curves(title: str, about: str, lines: dict, across: str, up: str, logs: str = "", **limits):
    """Figure and axes of some curves: words -> (xs, ys), or dots where the words end in a dot.

    across, up: what the axes are in. logs: "x", "y" or "xy", the axes with a logarithmic scale. limits: xlim and ylim.
    """
    figure, axes = style.canvas(title, about, height=4.6, left=0.8, right=2.5)
    axes.set(xscale="log" if "x" in logs else "linear", yscale="log" if "y" in logs else "linear", xlabel=across)
    style.unit(axes, up)
    ends = []
    for (words, (xs, ys)), colour in zip(lines.items(), COLOURS):
        axes.plot(xs, ys, ".:" if words.endswith(".") else "-", color=colour, linewidth=1.8)
        if math.isfinite(ys[-1]):
            ends.append((float(ys[-1]), words.rstrip("."), colour, ""))
    xs = [float(x) for some, _ in lines.values() for x in some]
    axes.set(**{"xlim": (min(xs), max(xs)), "ylim": axes.get_ylim()} | limits)
    if "x" in logs and len(xs) <= MOST_TICKS * len(lines):
        axes.set_xticks(sorted(set(xs)))
    axes.minorticks_off()
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: number(value))
    style.beside(axes, ends)
    return figure, axes


def number(value: float) -> str:
    """As one writes it by hand: 0.01, 1,000, 10⁶."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    exponent = math.floor(math.log10(abs(value)))
    digits = f"{value / 10**exponent:.3g}"
    power = "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return power if digits == "1" else f"{digits} · {power}"


def squares(title: str, about: str, rows: list[tuple[str, list, list]]):
    """Rows of squares: (words in front, the text in each square, the group of each).

    A group is a number, whose squares share a colour; None, a square that nobody touches; or WRONG. A text of None
    leaves its place empty.
    """
    size = min(LARGEST, (WIDTH - LABEL - 0.2) / max(len(texts) for _, texts, _ in rows))
    height = ABOVE + 1.25 * size * len(rows) + 0.15
    figure, axes = _bare(title, about, height)
    longest = max(len(str(text)) for _, texts, _ in rows for text in texts)
    letters = min(10, 72 * size * 1.45 / max(2.6, longest))
    for row, (words, texts, groups) in enumerate(rows):
        y = height - ABOVE - 1.25 * size * (row + 1)
        axes.text(LABEL - 0.12, y + size / 2, words, ha="right", va="center", fontsize=9.5, color=style.QUIET)
        for column, (text, group) in enumerate(zip(texts, groups, strict=True)):
            if text is None:
                continue
            x, nobody = LABEL + column * size, group is None
            line = {"edgecolor": "#C9C9C9" if nobody else "white", "linestyle": ":" if nobody else "-"}
            axes.add_patch(Rectangle((x, y), size, size, facecolor=_fill(group), linewidth=0.8, **line))
            colour = "white" if group == WRONG else style.QUIET if nobody else style.INK
            axes.text(x + size / 2, y + size / 2, text, ha="center", va="center", fontsize=letters, color=colour)
    return figure


def timeline(title: str, about: str, host: list, gpu: list, marks: list):
    """What host and GPU do, (words, start, end) each, and the moments on the GPU, (words, time); in microseconds."""
    figure, axes = _bare(title, about, 2.9)
    low = min(start for _, start, _ in host)
    scale = (WIDTH - 1.3) / (max(end for _, _, end in [*host, *gpu]) - low)
    colours = dict(zip(dict.fromkeys(words for words, *_ in [*gpu, *host]), GROUPS, strict=False))
    for name, y, spans in (("host", 1.25, host), ("GPU", 0.55, gpu)):
        axes.text(0.75, y + 0.17, name, ha="right", va="center", color=style.QUIET)
        for words, start, end in spans:
            x, width = 0.9 + (start - low) * scale, (end - start) * scale
            look = {"facecolor": _tint(colours[words], 0.45), "edgecolor": "white", "linewidth": 0.8}
            axes.add_patch(Rectangle((x, y), width, 0.34, **look))
            if width > 0.095 * len(words):
                axes.text(x + width / 2, y + 0.17, words, ha="center", va="center", fontsize=9)
    for words, moment in marks:
        x = 0.9 + (moment - low) * scale
        axes.plot([x, x], [0.42, 0.98], color=style.VERMILLION, linewidth=1.4)
        y, va = (0.36, "top") if words == marks[0][0] else (1.02, "bottom")  # apart, where one follows the other
        axes.text(x, y, words, ha="center", va=va, fontsize=8, color=style.VERMILLION)
    return figure


def wave(title: str, about: str, tiles: list[tuple[int, int]], tiles_m: int, tiles_n: int):
    """The tiles (row, column) that are made at one time, in their order, and beside them the strips that they load."""
    side = max(tiles_m, tiles_n)
    figure, axes = _bare(title, about, ABOVE + 0.2 + 5.2 * tiles_m / side)
    size = 5.2 / side
    left, top = 2.2, 0.1 + size * tiles_m
    whole = {"facecolor": style.FAINT, "edgecolor": "#C9C9C9", "linewidth": 0.8}
    axes.add_patch(Rectangle((left, top - size * tiles_m), size * tiles_n, size * tiles_m, **whole))
    for number, (row, column) in enumerate(tiles):
        shade = _tint(style.BLUE, 0.25 + 0.65 * number / len(tiles))
        axes.add_patch(Rectangle((left + column * size, top - (row + 1) * size), size, size, facecolor=shade))
    rows, columns = {row for row, _ in tiles}, {column for _, column in tiles}
    for row in rows:
        axes.add_patch(Rectangle((left - 0.3, top - (row + 1) * size), 0.22, 0.9 * size, facecolor=style.VERMILLION))
    for column in columns:
        axes.add_patch(Rectangle((left + column * size, top + 0.08), 0.9 * size, 0.22, facecolor=style.GREEN))
    x, y = left + (max(columns) + 1) * size + 0.1, top - (min(rows) + max(rows) + 1) * size / 2
    axes.text(left - 0.4, y, f"{len(rows)} strips of a", ha="right", va="center", color=style.VERMILLION)
    axes.text(x, top + 0.19, f"{len(columns)} strips of b", va="center", color=style.GREEN)
    return figure


def _bare(title: str, about: str, height: float):
    """A figure with words above, and axes without any lines whose units are inches."""
    figure = style.Figure(figsize=(WIDTH, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(0, height))
    axes.axis("off")
    axes.text(0.2, height - 0.37, title, fontsize=14, fontweight="bold")
    axes.text(0.2, height - 0.65, about, fontsize=9.5, color=style.QUIET)
    return figure, axes


def _fill(group) -> str | tuple:
    if group is None:
        return "white"
    return style.VERMILLION if group == WRONG else _tint(GROUPS[group % len(GROUPS)], 0.38)


def _tint(colour: str, share: float) -> tuple:
    """The colour, thinned with white."""
    return tuple(1 - share * (1 - part) for part in to_rgb(colour))
