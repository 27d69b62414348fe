"""Charts as inline SVG, styled by the page. Every text is escaped here; colour is never the only sign."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from unicodedata import east_asian_width

from markupsafe import Markup

LETTER = 7.2  # px, of the 12 px monospaced face of labels
REPEAT = 40  # rows of a heat map after which its head is drawn again


@dataclass(frozen=True)
class Cell:
    """One square: look is a class of the style sheet, mark what it says without colour, title what hovering tells."""

    look: str
    mark: str
    title: str


def heat_map(heads: Sequence[str], rows: Sequence[tuple[str, str, Sequence[Cell]]]) -> Markup:
    """heads: one a column. rows: (name, id of the element that tells more, cells)."""
    left = 16 + _longest(name for name, *_ in rows)
    wide, high = 44, 20
    shapes, y = [], 0
    for number, (name, target, cells) in enumerate(rows):
        if number % REPEAT == 0:
            y += 22
            shapes += [_text(left + wide * (i + 0.5), y - 6, head, "head") for i, head in enumerate(heads)]
        shapes.append(f'<a href="#{escape(target)}">{_text(left - 8, y + 14, name, "end")}</a>')
        for i, cell in enumerate(cells):
            x = left + wide * i
            shapes.append(
                f'<g class="{cell.look}"><title>{escape(cell.title)}</title>'
                f'<rect x="{x + 1:.1f}" y="{y + 1}" width="{wide - 2}" height="{high - 2}" rx="3"/>'
                f"{_text(x + wide / 2, y + 14, cell.mark, 'mark')}</g>"
            )
        y += high
    return _svg(left + wide * len(heads) + 8, y + 4, shapes, "share of the points, a row a submission")


def bars(rows: Sequence[tuple[str, int, str]]) -> Markup:
    """rows: (label, count, look), drawn in their order with the count beside each bar."""
    left = 16 + _longest(label for label, *_ in rows)
    most = max((count for _, count, _ in rows), default=0) or 1
    shapes = []
    for number, (label, count, look) in enumerate(rows):
        y, length = 24 * number, 420 * count / most
        shapes.append(_text(left - 8, y + 16, label, "end"))
        shapes.append(f'<rect class="{look}" x="{left:.1f}" y="{y + 4}" width="{length:.1f}" height="16" rx="2"/>')
        shapes.append(_text(left + length + 8, y + 16, f"{count:,}", "count"))
    return _svg(left + 500, 24 * len(rows) + 4, shapes, "how often each occurs")


def strips(rows: Sequence[tuple[str, Sequence[tuple[str, float, bool]], float]]) -> Markup:
    """A line of dots a row, one a submission, stacked where they meet, with the target as an upright line.

    rows: (label, [(name, share reached, whether that is enough)], share asked). Dots that fall short are hollow.
    """
    left = 16 + _longest(label for label, *_ in rows)
    wide, end = 640, max([1.1, *(min(share, 1.5) for _, dots, _ in rows for _, share, _ in dots)])
    shapes, y = [], 22
    ticks = [step / 10 for step in range(0, int(end * 10) + 1, 2)]
    shapes += [_text(left + wide * tick / end, 14, f"{tick:.0%}", "head") for tick in ticks]
    for label, dots, target in rows:
        piles, placed = {}, []
        for name, share, enough in sorted(dots, key=lambda dot: dot[1]):
            slot = math.floor(wide * (min(max(share, 0), end) - target) / end / 8)  # counted from the target, so that
            piles[slot] = piles.get(slot, 0) + 1  # no dot is drawn on its wrong side
            placed.append((left + wide * target / end + 8 * slot + 4, piles[slot], name, share, enough))
        step = min(8, 112 / max([1, *piles.values()]))  # a tall pile is pressed together
        high = 16 + step * max([1, *piles.values()])
        shapes += [_rule(left + wide * tick / end, y, y + high, "grid") for tick in ticks]
        shapes.append(_rule(left, y + high, y + high, "axis", to=left + wide))
        shapes.append(_text(left - 8, y + high - 4, label, "end"))
        for x, pile, name, share, enough in placed:
            at = f'cx="{x:.1f}" cy="{y + high + 2 - step * pile:.1f}" r="3.2"'
            title = escape(f"{name}: {share:.0%} of the roofline")
            shapes.append(f'<circle class="{"enough" if enough else "short"}" {at}><title>{title}</title></circle>')
        shapes.append(_rule(left + wide * target / end, y, y + high, "target", f"{target:.0%} is asked"))
        y += high + 12
    return _svg(left + wide + 16, y, shapes, "share of the roofline that each submission reaches")


def _longest(labels: Iterable[str]) -> float:
    """Pixels that the longest label takes; a wide letter, as of Chinese, takes two."""
    return LETTER * max((sum(1 + (east_asian_width(c) in "WF") for c in label) for label in labels), default=0)


def _svg(width: float, height: float, shapes: list[str], about: str) -> Markup:
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    body = "\n".join(shapes)
    return Markup(
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(about)}" {size}>{body}</svg>'
    )


def _text(x: float, y: float, text: str, look: str) -> str:
    return f'<text class="{look}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _rule(x: float, top: float, bottom: float, look: str, title: str = "", to: float | None = None) -> str:
    line = f'class="{look}" x1="{x:.1f}" y1="{top:.1f}" x2="{x if to is None else to:.1f}" y2="{bottom:.1f}"'
    return f"<line {line}><title>{escape(title)}</title></line>" if title else f"<line {line}/>"
