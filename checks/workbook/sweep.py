"""Trusted: `make bench`, timed cases over many sizes on a GPU, for the eyes of whoever wrote the kernel.

As in a verdict (timing.py, session.py): a worker process runs the learner's code on the grader's memory, the cases of
`correct` come first, and the ceilings are measured at the same moment. It differs where a verdict must not be fooled,
and a point of a curve need not be proven:

- the process's own events are the only clock, and their median the time
- inputs are not new in every call: many sets, together twice as large as the L2 where they are not too small for it,
  take turns
- results are held against the oracle once, after the last call
- calls queue up behind a spin, so that the time of a small one is the GPU's, not Python's
- nothing tells whether something else used the GPU meanwhile
"""

import json
import math
import statistics
from collections.abc import Callable
from dataclasses import replace
from datetime import date

import torch

from . import buffers, ceilings, doctor, targets, timing
from .curves import Curve, Point, work
from .exercise import Case, Exercise, Speed
from .grader import OWN, Grading
from .session import ROOM, Session
from .words import Verdict

SMALLEST = 1 << 18  # bytes that a call moves at the least, where a spec names no sizes
CALLS = (30, 64)  # fewest that are timed, most that are queued up at a time
SETS = (8, 256)  # of inputs and results that take turns, where there is room for as many
REQUEST = 100_000  # bytes of a request to a worker at most
ORACLE = 16  # times a call's inputs and results is what the oracle may take beside them


class Wrong(Exception):
    """The kernel is not to be timed; the message says why."""


class Glance(Session):
    """Calls of one size: `times` stands for Session's start and round, which a verdict is made of."""

    def times(self) -> list[float] | Verdict:
        """Milliseconds of each of some calls, all right; or a Verdict. Raises MemoryError where there is no room."""
        fresh = self._fresh(self._sets())
        self._lay(len(fresh))
        self._fill(fresh)
        for _ in range(2):  # the first compiles, and tunes
            if isinstance(answer := self._go(len(fresh)), Verdict):
                return answer
        calls, ms = min(CALLS[1], len(fresh)), []
        while len(ms) < CALLS[0]:
            if isinstance(answer := self._go(calls, ceilings.SPIN), Verdict):
                return answer
            ms += answer
        return self._check(fresh[:calls], []) or ms

    def _sets(self) -> int:
        torch.cuda.empty_cache()
        free, need = torch.cuda.mem_get_info()[0], ORACLE * self.size
        if free < need:
            raise MemoryError(f"needs {need / 1e9:.0f} GB of free GPU memory, {free / 1e9:.0f} are free")
        layout = buffers.Layout()
        told = len(json.dumps([layout.place(self.inputs), layout.place(self.promised)]))
        wanted = math.ceil(2 * torch.cuda.get_device_properties(0).L2_cache_size / self.size)
        return max(2, int(min(max(SETS[0], wanted), SETS[1], min(ROOM, free / 4) / self.size, REQUEST / told)))


def refusal() -> str:
    """Why nothing can be timed here, or an empty string."""
    if not torch.cuda.is_available():
        return "there is no GPU here that torch can use, and the interpreter's time says nothing of one"
    return timing.refusal() or doctor.no_compiler()


def sizes(exercise: Exercise, speed: Speed) -> list[Case]:
    """The cases of a sweep, from few bytes to many, the timed one among them."""

    def nbytes(case):
        return work(exercise, speed, case.values)[0]

    cases = [
        speed.case,
        *(_with(speed.case, zip(speed.sweep, step)) for step in zip(*speed.sweep.values(), strict=True)),
    ]
    while not speed.sweep and (smaller := _halved(cases[-1])) and nbytes(smaller) >= SMALLEST:
        cases.append(smaller)
    return sorted({case.id: case for case in cases}.values(), key=nbytes)


def correct(grading: Grading, step: Callable[[str], None]) -> None:
    """Runs the cases of `correct`; raises Wrong at the first that fails. `step` hears of each before it is run."""
    for check in grading.checks():
        if check.rung == "correct" and check.name != OWN:
            step(check.name)
            verdict = check.run()
            if verdict.status not in ("pass", "ungraded"):
                raise Wrong(f"{check.name}: {verdict.message}")


def curve(grading: Grading, speed: Speed, step: Callable[[str], None]) -> Curve:
    """A timed case over its sizes. Raises Wrong where a result is, or where there is room for no size at all."""
    part, points, left_out, rates = grading.part, [], {}, []
    for case in sizes(grading.exercise, speed):
        step(case.id)
        matmul = ceilings.matmul_rate(speed.products)
        rates.append((ceilings.copy_rate() / 1e9, matmul / 1e12, ceilings.launch_ms()))
        try:
            points.append(_point(grading, replace(speed, case=case)))
        except (MemoryError, torch.OutOfMemoryError) as error:
            left_out[case.id] = str(error).splitlines()[0].split(". ")[0]
    if not points:
        raise Wrong("; ".join(f"{case}: {why}" for case, why in left_out.items()))
    share, ceiling = targets.share(speed, ceilings.device()), map(statistics.median, zip(*rates))
    return Curve(part.id, part.title, speed.case.id, share, *ceiling, points, left_out)


def about() -> dict:
    """Where and with what a run was made: ABOUT."""
    card = torch.cuda.get_device_properties(0)
    return {"device": card.name, "memory": card.total_memory, "date": date.today().isoformat(), **doctor.versions()}


def _point(grading: Grading, speed: Speed) -> Point:
    with Glance(grading, speed) as glance:
        ms = glance.times()
    if isinstance(ms, Verdict):
        if "out of GPU memory" in ms.message:
            raise MemoryError(ms.message)
        raise Wrong(f"{speed.case.id}: {ms.message}")
    if grading.peers:
        torch.compiler.reset()  # so that each size is compiled for itself
    peers = ceilings.time_peers(grading, speed, grading.peers, ceilings.SPIN)
    nbytes, flops = work(grading.exercise, speed, speed.case.values)
    return Point(speed.case.id, nbytes, flops, round(statistics.median(ms), 6), peers)


def _with(case: Case, values) -> Case:
    return replace(case, values={**case.values, **dict(values)})


def _halved(case: Case) -> Case | None:
    """The case with its largest number halved, all of them where several are the largest; None at the end."""
    numbers = {name: value for name, value in case.values.items() if type(value) is int}
    largest = max(numbers.values(), default=0)
    return _with(case, {n: v // 2 for n, v in numbers.items() if v == largest}) if largest > 1 else None
