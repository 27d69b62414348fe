"""What a profiler tells of a part's call, in few words, whichever the tool is."""

from collections.abc import Sequence
from dataclasses import dataclass

from .report import say

LABEL = 20  # columns of the names


class Unreadable(Exception):
    """The message says why a tool's output tells nothing."""


@dataclass(frozen=True)
class Asked:
    """One call of a timed case: necessary bytes and operations (0 where none are stated).

    copy, matmul: bytes and operations a second that this GPU reaches now; matmul is infinite where it is no bound.
    """

    case: str
    bytes: int
    flops: int
    copy: float
    matmul: float

    @property
    def bound(self) -> str:
        """What the roofline is made of here: memory or compute."""
        return "memory" if self.bytes / self.copy >= self.flops / self.matmul else "compute"

    @property
    def roofline(self) -> float:
        """Seconds."""
        return max(self.bytes / self.copy, self.flops / self.matmul)

    def held(self, seconds: float) -> str:
        """The time of a call, its share of the roofline, and its rate."""
        rate = f"{self.flops / seconds / 1e12:,.0f} TFLOPS"
        if self.bound == "memory":
            rate = f"{self.bytes / seconds / 1e9:,.0f} GB/s of necessary bytes"
        return f"{time(seconds)}, {self.roofline / seconds:.0%} of the roofline ({rate})"


@dataclass(frozen=True)
class Reading:
    """groups: a title, and figures by name; sentence: what limits the call, and what to do."""

    groups: Sequence[tuple[str, Sequence[tuple[str, str]]]]
    sentence: str

    def show(self) -> None:
        for title, rows in self.groups:
            say(title, "bold", 2)
            wide = max([LABEL, *(len(name) + 2 for name, _ in rows)])
            for name, figure in rows:
                say(f"{name:<{wide}}{figure}", indent=4)
        say(f"▶ {self.sentence}", "bold", 2)


def time(seconds: float) -> str:
    return f"{seconds * 1e3:,.3f} ms" if seconds >= 1e-4 else f"{seconds * 1e6:,.1f} µs"


def size(count: float) -> str:
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        if count >= unit:
            return f"{count / unit:,.2f} {name}"
    return f"{count:,.0f} bytes"


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def short(name: str, most: int = 60) -> str:
    """A kernel's name; torch's own are templates of several lines."""
    return name if len(name) <= most else name[: most - 1] + "…"
