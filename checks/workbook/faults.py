"""How a benchmark goes wrong: each way measures the same call on the simulated GPU, and the one that reads what the
learner's benchmark reads is named. It may take more than one; as few as possible are named.
"""

import math
import statistics
from collections.abc import Callable
from itertools import combinations

from . import simulated

NEAR = 0.03  # of a number is how far it lies at most from what its faults read
TOGETHER = 3  # faults, at most
CALLS = 200  # by which each is measured, at most
ENOUGH = 4 * simulated.L2  # bytes of a flush that leaves nothing behind


def mean(spans):
    return statistics.mean(end - start for start, end in spans)


def median(spans):
    return statistics.median(end - start for start, end in spans)


def fastest(spans):
    return min(end - start for start, end in spans)


def all_at_once(spans):
    return (spans[-1][1] - spans[0][0]) / len(spans)


FAULTS = [  # arguments of `reading`, and words behind "as if it"
    ({"clock": "launch"}, "timed the launch: a call returns at once, and the host does not wait for the GPU"),
    ({"clock": "host"}, "asked the host's clock while the flush still ran, and counted both: let events time it"),
    ({"clock": "host", "waits": True}, "asked the host's clock, which counts launch and wait: let events time it"),
    ({"warm": False}, "counted calls that came too early: the first compiles, and the clock rises under load only"),
    ({"inside": True}, "counted the flush: record the first event behind it, right before the call"),
    ({"waits": True}, "let the GPU wait for the host: do not synchronise between the flush and the call"),
    ({"of": mean}, "took the mean, which disturbed calls pull up: take the median"),
    ({"of": fastest}, "took the fastest call: take the median"),
    ({"of": all_at_once}, "timed all calls and what lies between: give each call two events of its own"),
    ({"unit": 1e-3}, "told seconds, not milliseconds: 1000 times too small"),
    ({"unit": 1e3}, "told microseconds, not milliseconds: 1000 times too large"),
    ({"unit": 1e6}, "told nanoseconds, not milliseconds: a million times too large"),
]


def name(answer: dict, right: Callable[[float], bool], size: int, seed: int) -> str:
    """What explains the milliseconds of an answer, in words; an empty string where nothing does.

    answer: `ms`; how many `calls` the learner's benchmark made; and, between the last two of them, how many bytes it
    `flushed` and how often it `waited`. right: whether a reading would pass. size, seed: of the call.
    """
    known = [fault for fault in FAULTS if answer["waited"] or not _waits(fault[0])]
    too_small = answer["flushed"] < simulated.L2
    warm = f"found data in the L2: between two calls move more than the {simulated.L2 >> 20} MB that it holds"
    if too_small:
        known.append(({"flush": answer["flushed"]}, warm))
    usual = {"calls": min(answer["calls"], CALLS), "flush": max(answer["flushed"], ENOUGH)}
    for count in range(1, TOGETHER + 1):
        nearest, words = NEAR, ""
        for some in combinations(known, count):
            changes = [change for arguments, _ in some for change in arguments.items()]
            if len(dict(changes)) < len(changes):
                continue  # two faults in one place
            read = reading(size, seed, **usual | dict(changes))
            if (away := abs(math.log(answer["ms"] / read))) < nearest and not right(read):
                nearest, words = away, "; and as if it ".join(words for _, words in some)
        if words:
            return f", as if it {words}"
    return f", as if it {warm}" if too_small and 1e3 * answer["ms"] < simulated.cold(size) else ""


def reading(
    size, seed, calls, flush, clock="events", warm=True, inside=False, waits=False, of=median, unit=1.0
) -> float:
    """Milliseconds that a benchmark reads which does right, but for what it is told to do otherwise.

    size, seed: of the call. flush: bytes. clock: events, host or launch. warm: whether it warms up. inside: whether the
    flush lies between the two stamps. waits: whether the host waits before the first. of: what is made of (start, end)
    of the calls. unit: 1 for milliseconds.
    """
    gpu, spans = simulated.Device(seed), []
    if warm:
        gpu.compiled, gpu.woken = True, -simulated.RISE
    stamp = gpu.record if clock == "events" else gpu.look
    for _ in range(calls):
        if flush and not inside:
            gpu.move({"scratch": flush})
        if waits:
            gpu.wait()
        start = stamp()
        if flush and inside:
            gpu.move({"scratch": flush})
        gpu.call(size)
        if clock == "host":
            gpu.wait()
        spans.append((start, stamp()))
    return unit * of(spans) / 1e3


def _waits(arguments) -> bool:
    return "waits" in arguments or arguments.get("clock") == "host"
