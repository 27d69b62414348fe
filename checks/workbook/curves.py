"""Timings that can be drawn anywhere: of a sweep (`make bench`), and of the runs on record (measure.py)."""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from . import catalog

MADE_BY = "make bench, Triton Mastery Workbook"
ABOUT = ("device", "memory", "date", "python", "torch", "triton", "numpy")


class Unreadable(Exception):
    """The message says in one line what is wrong with a file."""


@dataclass
class Point:
    """One size of a timed case: necessary bytes and flops (0 where none are stated), milliseconds of a call.

    peers: milliseconds by name, or why there are none.
    """

    case: str
    bytes: int
    flops: int
    ms: float
    peers: dict[str, float | str]

    def __post_init__(self):
        _words(self.case)
        _positive(self.bytes, self.flops + 1, self.ms, *filter(is_ms, self.peers.values()))


@dataclass
class Curve:
    """A timed case of a part and its smaller sizes; of a run on record, the case alone.

    target: the share of the roofline that is asked of it. copy (GB/s), matmul (TFLOPS) and launch (ms): the ceilings
    measured beside it; a run on record tells nothing of the launch (0), nor of a matmul that was no bound (None).
    left_out: sizes that were not timed, and why. naive: the kernel that the target must fail, and its ms.
    """

    part: str
    title: str
    case: str
    target: float
    copy: float
    matmul: float | None
    launch: float
    points: list[Point]
    left_out: dict[str, str] = field(default_factory=dict)
    naive: dict[str, float] = field(default_factory=dict)

    def __post_init__(self):
        _words(self.part, self.title, self.case, *self.left_out.values())
        _positive(self.target, self.copy, self.matmul or 1, self.launch + 1, *self.naive.values(), len(self.points))

    @property
    def timed(self) -> Point:
        """The timed case itself, or the largest size that fits the GPU."""
        return next((p for p in self.points if p.case == self.case), self.points[-1])

    @property
    def unit(self) -> str:
        """What rates of this curve are told in: the unit of its bound."""
        flops_bound = self.matmul and self.timed.flops / self.matmul > 1e3 * self.timed.bytes / self.copy
        return "TFLOPS" if flops_bound else "GB/s"

    def rate(self, point: Point, ms: float) -> float:
        """What a call that takes as many milliseconds reaches, in `unit`."""
        return point.flops / ms / 1e9 if self.unit == "TFLOPS" else point.bytes / ms / 1e6

    def roofline(self, nbytes: float, flops: float) -> float:
        """The least milliseconds of a call that moves and does as much."""
        return max(nbytes / self.copy / 1e6, flops / self.matmul / 1e9 if self.matmul else 0, self.launch)

    def share(self, point: Point, ms: float) -> float:
        """Of the roofline, by a call that takes as many milliseconds."""
        return self.roofline(point.bytes, point.flops) / ms


@dataclass
class Run:
    """Curves of one run on one GPU. about: ABOUT. whose: what its kernels are called beside peers."""

    about: dict
    whose: str
    curves: list[Curve]
    left_out: list[str] = field(default_factory=list)

    def write(self, file: Path) -> None:
        told = {"made by": MADE_BY, **self.about, "whose": self.whose, "curves": [asdict(c) for c in self.curves]}
        file.write_text(json.dumps(told, indent=1) + "\n")


def read(file: Path) -> Run:
    """What `make bench` or measure.py wrote. Raises Unreadable."""
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise Unreadable(f"{file} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise Unreadable(f"{file} is not JSON") from None
    try:
        about = {key: told[key] for key in ABOUT}
        _words(about["device"])
        _positive(about["memory"])
        if "curves" in told:
            _words(told["whose"])
            run = Run(about, told["whose"], [_curve(c) for c in told["curves"]])
        else:
            run = Run(about, "solution", *_recorded(told["parts"]))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        raise Unreadable(f"{file} is no run that `make bench` or workbook.measure wrote") from None
    if not run.curves:
        raise Unreadable(f"{file} holds no timed kernel" + "".join(f"; {why}" for why in run.left_out))
    return run


def work(exercise, speed, values) -> tuple[int, int]:
    """Necessary bytes and flops of a timed case with other values."""
    with torch.device("meta"):
        inputs = exercise.of(speed.case).inputs(**values)
    return speed.bytes(*inputs), speed.flops(*inputs) if speed.flops else 0


def _curve(told: dict) -> Curve:
    return Curve(**{**told, "points": [Point(**point) for point in told["points"]]})


def _recorded(parts: dict) -> tuple[list[Curve], list[str]]:
    """A curve of one point for each timed check on record; and what the workbook no longer has."""
    known, curves, left_out = {part.id: part for part in catalog.parts()}, [], []
    for id, told in parts.items():
        timings = {name: c["facts"]["timing"] for name, c in told["checks"].items() if "timing" in c["facts"]}
        speeds = known[id].exercise.speed if id in known else []
        for number, speed in enumerate(speeds):
            timing = timings.pop("fast" if len(speeds) == 1 else f"fast {speed.case.id}", None)
            if timing is None:
                continue
            nbytes, flops = work(known[id].exercise, speed, speed.case.values)
            point = Point(speed.case.id, nbytes, flops, timing["ms"], timing["peers"])
            least, by_copy = timing["share"] * timing["ms"], nbytes / timing["copy_gbps"] / 1e6
            matmul = flops / least / 1e9 if least > 1.02 * by_copy else None
            must_fail = told.get("slow", {}) if speed.naive_fails else {}
            slow = {what: verdicts[number]["facts"] for what, verdicts in must_fail.items()}
            naive = {what: facts["timing"]["ms"] for what, facts in slow.items() if "timing" in facts}
            about = (id, known[id].title, speed.case.id, speed.target, timing["copy_gbps"], matmul, 0.0, [point])
            curves.append(Curve(*about, naive=naive))
        left_out += [f"{id} {name} is no timed case of this workbook" for name in timings]
    return curves, left_out


def is_ms(told) -> bool:
    """Whether a peer was timed; otherwise `told` says why it was not."""
    return not isinstance(told, str | None)


def amount(value: float, _=None) -> str:
    """0.1, 10, 1,000: a number as people write it."""
    return f"{value:,.10g}"


def rate(value: float) -> str:
    """4,250 or 0.385: as many digits as a measurement is good for."""
    return amount(float(f"{value:.3g}"))


def size(nbytes: float, _=None) -> str:
    """512 KB, 1.5 GB."""
    power = max(0, min(4, int(math.log10(nbytes) / 3 + 1e-9)))
    return f"{rate(nbytes / 1e3**power)} {('B', 'KB', 'MB', 'GB', 'TB')[power]}"


def _words(*texts: str) -> None:
    if not all(isinstance(text, str) for text in texts):
        raise TypeError(f"not all words: {texts}")


def _positive(*numbers: float) -> None:
    if not all(0 < number < math.inf for number in numbers):
        raise ValueError(f"not all positive: {numbers}")
