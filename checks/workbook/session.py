"""Trusted: the timed calls of one part. The grader writes fresh inputs, says "go", and looks at every result.

What could be gained by, and what stands against it:

- another clock: the grader's own runs from "go" to "done" over many calls, and the two must agree
- results from before: inputs are new in every call, made in memory of the grader alone, and written to the worker's
  while it is stopped and a copy at full rate has shown that nothing of it still runs on the GPU
- results from later: bytes of them are fetched at "done" and must be those that lie there in the end
- results not made at all: each of a round that counts is held against the oracle, in memory that was filled with
  something else before
"""

import math
import random
import statistics
import time
from dataclasses import dataclass

import torch

from . import buffers, ceilings, oracle
from .warm import NOTHING, Worker
from .words import Verdict

BATCH_MS = 20.0  # time that the calls of one round take together, so that the grader's clock can judge them
CALLS = (4, 128)  # fewest and most calls of a round
ROOM = 16e9  # bytes of inputs and results of a round, at most
DEADLINE = 60.0  # seconds
GAP_MS = 0.01  # that the GPU idles at most between two calls, outside what events see
OVERHEAD_MS = 1.2  # that a round takes beside its calls: the handshake, and the GPU's turning to the worker. Of more
# than this a submission is not believed alone
AGREE = 1.05  # times the events' time, and the two clocks still agree
GLIMPSES, GLIMPSE = 8, 4096  # places of the results that are fetched at "done", bytes of each


@dataclass
class Round:
    """copy: bytes a second. events, clock: milliseconds of a call by the worker's events and by the grader's clock."""

    copy: float
    events: float
    clock: float

    @property
    def agrees(self) -> bool:
        """Whether the two clocks do; a worker can tell any number of its own, but not make the grader's run slower."""
        return self.clock <= AGREE * self.events

    @property
    def ms(self) -> float:
        return max(self.events, self.clock)


class Session:
    """A context: opened, it holds inputs and results of many calls in one arena that the worker has opened too."""

    def __init__(self, grading, speed):
        self.grading, self.exercise, self.case = grading, grading.exercise.of(speed.case), speed.case
        self.inputs = grading.inputs(speed.case, "meta")
        promised = oracle.promised(self.exercise, self.inputs)
        # contiguous, as torch.empty makes them, however the reference strides its own
        self.promised = [torch.empty(t.shape, dtype=t.dtype, device="meta") for t in promised]
        self.size = sum(t.nbytes for t in [*self.inputs, *self.promised] if isinstance(t, torch.Tensor))
        self.random, self.copied = random.SystemRandom(), False
        self.arena = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.release()

    def start(self) -> Verdict | None:
        """Finds how many calls make a round; a Verdict where the entry fails."""
        # inputs that together exceed the L2 twice, so that no call finds its own in the cache
        least = max(CALLS[0], math.ceil(2 * torch.cuda.get_device_properties(0).L2_cache_size / max(1, self.size)))
        most = int(min(ROOM, torch.cuda.mem_get_info()[0] / 4) / max(1, self.size))
        self._lay(max(least, min(CALLS[1], most)))
        self._fill(self._fresh(CALLS[0]))
        for _ in range(2):  # the first compiles, and tunes
            answer = self._go(CALLS[0])
            if isinstance(answer, Verdict):
                return answer
        ms = statistics.median(answer)
        self.calls = max(least, min(len(self.slots), math.ceil(BATCH_MS / max(1e-3, ms))))
        overheads, fresh = [], self._fresh(self.calls)
        for _ in range(5):  # as in a round, after which a process is slower to begin than after a moment
            result = self._clocked(fresh, calls=1)
            if isinstance(result, Verdict):
                return result
            overheads.append(result[0] - ms)  # not its event, which holds the host's part of a first launch
        self.overhead = statistics.median(overheads)
        if self.overhead > OVERHEAD_MS:
            self.overhead = min(self.overhead, max(OVERHEAD_MS, self._handshake(fresh)))
        return None

    def _handshake(self, fresh) -> float:
        """Milliseconds from "go" to "done" of a process that holds no submission and calls nothing; 0 if it fails."""
        worker, walls = Worker("gpu", NOTHING, DEADLINE), []
        try:
            request = {"entry": "nothing", "size": len(self.arena.tensor), "arena": self.arena.handle}
            worker.ask("open", DEADLINE, slots=[], **request)
            for _ in range(5):
                worker.freeze()
                self._fill(fresh)
                ceilings.flush()
                torch.cuda.synchronize()
                start = time.perf_counter()
                worker.thaw()
                if "error" in worker.ask("go", DEADLINE, entry="nothing", calls=0, spin=0):
                    return 0.0
                walls.append((time.perf_counter() - start) * 1e3)
            worker.ask("close", DEADLINE, entry="nothing")
        finally:
            worker.close()
        return statistics.median(walls)

    def round(self) -> Round | Verdict | None:
        """A round of calls, all right; None where something else used the GPU meanwhile."""
        fresh, worker = self._fresh(self.calls), self.grading.workers["gpu"]
        worker.freeze()
        if (before := ceilings.idle_rate()) is None:
            worker.thaw()
            return None
        result = self._clocked(fresh, self.calls)
        if isinstance(result, Verdict):
            return result
        wall, events, glimpses = result
        after = ceilings.copy_rate()
        if not ceilings.idle(after):
            return None
        if wrong := self._check(fresh, glimpses):
            return wrong
        return Round((before + after) / 2, statistics.median(events), (wall - self.overhead) / self.calls - GAP_MS)

    def _fresh(self, calls: int) -> list[list]:
        """The inputs of as many calls, which were never before."""
        return [self.grading.inputs(self.case, "cuda", self.random.getrandbits(40)) for _ in range(calls)]

    def _fill(self, fresh: list[list]) -> None:
        """Writes inputs to their places, and to each place of a result something that no result is."""
        for inputs, (args, results) in zip(fresh, self.slots, strict=False):
            buffers.write(self.arena.tensor, inputs, args)
            for place in self._views(results):
                filler = self.random.randrange(1, 252)
                buffers.raw(place).random_() if place.nbytes < 1 << 20 else buffers.raw(place).fill_(filler)
        torch.cuda.synchronize()

    def _lay(self, calls: int) -> None:
        layout = buffers.Layout()
        self.slots = [(layout.place(self.inputs), layout.place(self.promised)) for _ in range(calls)]
        self.arena = buffers.DeviceArena(layout.at + buffers.GUARD)
        self.opened = self._ask("open", slots=self.slots, size=len(self.arena.tensor), arena=self.arena.handle)

    def release(self) -> None:
        if self.arena:
            if "gpu" in self.grading.workers:
                self._ask("close")
            self.arena.close()
            self.arena = None

    def _clocked(self, fresh: list[list], calls: int) -> tuple[float, list[float], list] | Verdict:
        """Calls on fresh inputs: milliseconds from "go" to "done", of each by events, and glimpses of the results."""
        worker = self.grading.workers["gpu"]
        others = worker.freeze()
        self._fill(fresh)
        ceilings.flush()
        places = [self.random.choice(self._views(results)) for _, results in self.slots[:calls]]
        places = [buffers.raw(place) for place in self.random.sample(places, min(GLIMPSES, len(places)))]
        chosen = [place[at : at + GLIMPSE] for place in places for at in [self._somewhere(place)]]
        seen = [torch.empty(GLIMPSE, dtype=torch.uint8, pin_memory=True)[: len(place)] for place in chosen]
        torch.cuda.synchronize()
        start = time.perf_counter()
        worker.thaw()
        answer = self._go(calls)
        wall = (time.perf_counter() - start) * 1e3
        for host, place in zip(seen, chosen, strict=True):
            host.copy_(place, non_blocking=True)  # by the copy engine, which waits for no kernel
        torch.cuda.synchronize()
        if others:
            return Verdict("fail", f"leaves {others} process{'es' * (others > 1)} running beside the timed calls")
        return answer if isinstance(answer, Verdict) else (wall, answer, list(zip(seen, chosen, strict=True)))

    def _go(self, calls: int, spin: int = 0) -> list[float] | Verdict:
        """Milliseconds of each call as the worker's events tell it; or a Verdict. spin: see the worker's `go`."""
        answer = self.opened if "error" in self.opened else self._ask("go", calls=calls, spin=spin)
        if "error" in answer:
            return self.grading.told("gpu", answer["error"])
        try:
            events = [float(ms) for ms in answer["ms"]]
            self.elsewhere = [(int(call), int(output), dict(d)) for call, output, d in answer["elsewhere"]]
            self.copied = bool(answer["copied"])
        except (KeyError, TypeError, ValueError):
            events = []
        if len(events) != calls or not all(ms >= 0 for ms in events):
            return Verdict("fail", "the process told of other timed calls than it was asked to make")
        return events

    def _check(self, fresh, glimpses) -> Verdict | None:
        """Every result of the round; a Verdict where one is wrong.

        Those that a float32 reference nearly agrees with are right; the others, and one at random, meet the oracle.
        """
        for host, place in glimpses:
            if not torch.equal(host, place.cpu()):
                return Verdict("fail", "in a timed call: the results still changed after the function had returned")
        if self.elsewhere and not self.exercise.mutates:
            return Verdict("fail", "in a timed call: the results lie in the memory of the inputs")
        judged = self.random.randrange(len(fresh))
        where = {(call, output): d for call, output, d in self.elsewhere}
        for call, (inputs, (_, results)) in enumerate(zip(fresh, self.slots, strict=False)):
            try:
                views = [
                    buffers.view(self.arena.tensor, where.get((call, output), d)) for output, d in enumerate(results)
                ]
            except (KeyError, TypeError, ValueError, AttributeError, RuntimeError):
                return Verdict("fail", "the process told of results that do not lie in the grader's memory")
            if call != judged and oracle.near(self.exercise, inputs, views):
                continue
            if found := oracle.disagree(self.exercise, self.case, inputs, views):
                return Verdict("fail", f"in timed call {call + 1}: {found.message}")
        return None

    def _views(self, described):
        return [buffers.view(self.arena.tensor, d) for d in described]

    def _somewhere(self, place) -> int:
        return self.random.randrange(max(1, len(place) - GLIMPSE + 1))

    def _ask(self, do, **request):
        return self.grading.ask("gpu", do, self.case, **request)
