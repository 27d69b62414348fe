"""One look for all plots: few lines, words beside what they name, colours that colour-blind people can tell apart.

Beside sketch.py the only module that imports matplotlib; whoever draws imports it late.
"""

import math

import matplotlib

matplotlib.use("Agg")
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

# Okabe and Ito, Color Universal Design, 2008
BLUE, VERMILLION, ORANGE, GREEN, PURPLE, SKY = "#0072B2", "#D55E00", "#E69F00", "#009E73", "#CC79A7", "#56B4E9"
INK, QUIET, FAINT = "#262626", "#6E6E6E", "#EFEFEF"
COLOURS = (ORANGE, GREEN, PURPLE, SKY, INK, QUIET)
MARKED = (*zip(COLOURS, "Ds^vPX", strict=True), *zip(COLOURS, "vP<>Dd", strict=True))  # colour never alone
LINE = 0.205  # inches from one line of words to the next
ENTRIES, ROW = 7, 0.22  # entries of a row of a legend at most, and its height in inches

matplotlib.rcdefaults()  # whatever the reader's own matplotlibrc says
matplotlib.rcParams.update(
    {
        "font.size": 11,
        "text.color": INK,
        "text.parse_math": False,
        "axes.edgecolor": QUIET,
        "axes.labelcolor": QUIET,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.grid": True,
        "grid.color": "#E2E2E2",
        "xtick.color": QUIET,
        "ytick.color": QUIET,
        "savefig.dpi": 160,
        "svg.hashsalt": "workbook",  # so that the same data make the same file
    }
)


def canvas(title: str, about: str, height=5.0, left=0.9, right=2.1, entries=1):
    """Figure and axes, in inches: 9 wide, with a title, `about` below it, a legend of so many entries, and room for
    words around the axes."""
    more = ROW * ((entries - 1) // ENTRIES)
    width, height, above, below = 9.0, height + more, 1.1 + more, 0.65
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((left / width, below / height, 1 - (left + right) / width, 1 - (above + below) / height))
    figure.text(0.2 / width, 1 - 0.37 / height, title, fontsize=14, fontweight="bold")
    figure.text(0.2 / width, 1 - 0.62 / height, about, fontsize=9.5, color=QUIET)
    axes.minorticks_off()
    return figure, axes


def unit(axes, words: str) -> None:
    """What the upright axis is in, above it."""
    axes.set_title(words, loc="left", fontsize=11, color=QUIET)


def above(axes, words: str) -> None:
    """Quiet words above the axes, at their right end."""
    axes.set_title(words, loc="right", fontsize=9.5, color=QUIET)


def beside(axes, words: list[tuple[float, str, str, str]]) -> None:
    """Words at the right edge, each at its height: (y, words, colour and marker of its line). They never touch."""
    figure, edge = axes.figure, axes.bbox.x1
    rows = sorted((axes.transData.transform((1, y))[1], *rest) for y, *rest in words)
    places = apart([y for y, *_ in rows], LINE * figure.dpi, axes.bbox.y0, axes.bbox.y1)
    on_figure = figure.transFigure.inverted().transform
    for (y, text, colour, marker), place in zip(rows, places, strict=True):
        (x0, y0), (x1, y1), (x2, _) = (on_figure(p) for p in ((edge + 6, y), (edge + 18, place), (edge + 26, place)))
        figure.add_artist(Line2D([x0, x1], [y0, y1], color=colour, linewidth=0.9))
        figure.add_artist(Line2D([x1], [y1], color=colour, marker=marker, markersize=5))
        weight = "bold" if colour == BLUE else "normal"
        figure.text(x2, y1, text, verticalalignment="center", fontsize=10.5, fontweight=weight)


def apart(places: list[float], gap: float, low: float, high: float) -> list[float]:
    """Ascending places, moved as little as it takes to be `gap` apart, between low and high where there is room."""
    groups = []  # of places that touch: where the first would like to be, on average, and how many there are
    for place in places:
        groups.append((place, 1))
        while len(groups) > 1 and groups[-2][0] + gap * groups[-2][1] > groups[-1][0]:
            (low_one, m), (high_one, n) = groups[-2:]
            groups[-2:] = [((low_one * m + (high_one - gap * m) * n) / (m + n), m + n)]
        first, count = groups[-1]
        groups[-1] = (max(low, min(first, high - gap * (count - 1))), count)
    return [first + gap * i for first, count in groups for i in range(count)]


def names(axes, words: list[tuple[float, float, str]]) -> None:
    """Words that end at dots, (x, y, words), on a slant from the upper left; dots that nearly touch share theirs."""
    slant = {"rotation": -45, "rotation_mode": "anchor", "ha": "right", "va": "center"}
    groups = []
    for x, y, text in words:
        at = axes.transData.transform((x, y))
        near = (texts for place, texts in groups if math.dist(place, at) < 0.12 * axes.figure.dpi)
        texts = next(near, None)
        if texts is None:
            groups.append((at, texts := []))
        if text not in texts:
            texts.append(text)
    for place, texts in groups:
        off = 0.07 * axes.figure.dpi
        at = axes.transData.inverted().transform((place[0] - off, place[1] + off))
        axes.text(*at, ", ".join(texts), fontsize=10.5, **slant)


def along(axes, start, end, text: str) -> None:
    """Words below a straight line, turned as it is."""
    (x0, y0), (x1, y1) = axes.transData.transform([start, end])
    slope = math.atan2(y1 - y0, x1 - x0)
    down = 0.06 * axes.figure.dpi
    x, y = x0 + 0.62 * (x1 - x0) + down * math.sin(slope), y0 + 0.62 * (y1 - y0) - down * math.cos(slope)
    axes.text(
        *axes.transData.inverted().transform((x, y)),
        text,
        rotation=math.degrees(slope),
        rotation_mode="anchor",
        horizontalalignment="center",
        verticalalignment="top",
        fontsize=10,
        color=QUIET,
    )


def mark(**look) -> Line2D:
    """A mark as it looks in a legend."""
    return Line2D([], [], **look)


def legend(axes, entries: list[tuple[str, Line2D]]) -> None:
    """Above the axes, for marks that recur in every row below: ENTRIES of them side by side."""
    figure, box = axes.figure, axes.bbox
    rows = [entries[i : i + ENTRIES] for i in range(0, len(entries), ENTRIES)]
    for above, row in enumerate(reversed(rows)):
        words, marks = zip(*row, strict=True)
        corner = box.x1 / figure.dpi, box.y1 / figure.dpi + ROW * above
        figure.legend(
            marks, words, ncols=len(words), frameon=False, fontsize=9.5, loc="lower right", bbox_to_anchor=corner,
            bbox_transform=figure.dpi_scale_trans, columnspacing=1.2, handletextpad=0.3, borderaxespad=0.2,
            handlelength=1.2,
        )  # fmt: skip
