"""What ran on the GPU, and when -> a timeline in words.

Two tools tell of it: Nsight Systems in an SQLite file (`nsys export --type sqlite`; NVIDIA, Nsight Systems, SQLite
export schema), torch.profiler in a Chrome trace. In both a kernel and the call that launched it bear the same number.
"""

import contextlib
import json
import sqlite3
import statistics
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from .readings import Asked, Reading, Unreadable, short, time

BUSY = 0.90  # of the time from the first start to the last end; below that launches are what the GPU waits for
SHOWN = 6  # kernels, and operations of torch
DEVICE = {"kernel": "", "gpu_memcpy": "copy: ", "gpu_memset": "memset: "}  # categories of a Chrome trace
LAUNCH = ("cuda_runtime", "cuda_driver")
TABLES = {  # of nsys: what ran on the GPU, and its name
    "CUPTI_ACTIVITY_KIND_KERNEL": "(SELECT value FROM StringIds WHERE id = ran.shortName)",
    "CUPTI_ACTIVITY_KIND_MEMCPY": "'copy'",
    "CUPTI_ACTIVITY_KIND_MEMSET": "'memset'",
}
NOTHING = "nothing ran on the GPU in the calls that are profiled"


@dataclass(frozen=True)
class Ran:
    """One kernel, copy or memset on the GPU: seconds, from any moment. launch: begin and end of the call, if known."""

    name: str
    start: float
    end: float
    launch: tuple[float, float] | None


def of_nsys(file: Path) -> list[Ran]:
    """What an SQLite export tells of; its times are in ns."""
    found = []
    with contextlib.closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as db:
        there = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
        for table in there & TABLES.keys():  # a table is there only if something is in it
            rows = db.execute(
                f"SELECT {TABLES[table]}, ran.start, ran.end, call.start, call.end FROM {table} AS ran "
                "LEFT JOIN CUPTI_ACTIVITY_KIND_RUNTIME AS call ON call.correlationId = ran.correlationId"
            )
            for name, start, end, *call in rows:
                launch = (call[0] / 1e9, call[1] / 1e9) if call[0] is not None else None
                found.append(Ran(name, start / 1e9, end / 1e9, launch))
    return sorted(found, key=lambda ran: ran.start)


def of_trace(text: str) -> list[Ran]:
    """What a Chrome trace tells of; its times are in µs."""
    events = [event for event in json.loads(text)["traceEvents"] if event.get("ph") == "X"]
    calls = {
        event["args"]["correlation"]: (event["ts"] / 1e6, (event["ts"] + event["dur"]) / 1e6)
        for event in events
        if event.get("cat") in LAUNCH and "correlation" in event.get("args", {})
    }
    found = [
        Ran(
            DEVICE[event["cat"]] + event["name"],
            event["ts"] / 1e6,
            (event["ts"] + event["dur"]) / 1e6,
            calls.get(event["args"].get("correlation")),
        )
        for event in events
        if event.get("cat") in DEVICE
    ]
    return sorted(found, key=lambda ran: ran.start)


def read(found: list[Ran], calls: int, asked: Asked, operations: list[dict] | None = None) -> Reading:
    """A timeline of `calls` calls in words; operations: of torch, on the CPU (see profile_runner.operations)."""
    if not found:
        raise Unreadable(NOTHING)
    gaps, idle, end = [], [], found[0].start
    for ran in found:
        if ran.start > end and ran is not found[0]:
            gaps.append((ran.start - end, ran.name))
        if ran.launch and (ran is found[0] or ran.launch[0] >= end):
            idle.append(ran.start - ran.launch[0])
        end = max(end, ran.end)
    whole = end - found[0].start
    busy = 1 - sum(gap for gap, _ in gaps) / whole
    rows = [
        ("from first to last", f"{time(whole)} for {calls} calls with {len(found)} launches"),
        ("GPU busy", f"{busy:.0%} of that"),
    ]
    if gaps:
        longest, before = max(gaps)
        median = statistics.median(gap for gap, _ in gaps)
        rows.append(("gaps", f"{len(gaps)}, {time(median)} each, the longest {time(longest)} before {short(before)}"))
    if launches := [ran.launch[1] - ran.launch[0] for ran in found if ran.launch]:
        rows.append(("a launch", f"keeps the CPU for {time(statistics.median(launches))}"))
    if idle:
        waited = f"{time(statistics.median(idle))} from the launch to the start"
        rows.append(("an idle GPU", f"takes {waited} ({len(idle)} of {len(found)} launches found it idle)"))
    groups = [(f"{calls} calls, {asked.case}", [*kernels(found), *rows])]
    if operations:
        groups.append(("torch on the CPU", on_cpu(operations, calls)))
    return Reading(groups, sentence(found, calls, busy, asked))


def kernels(found: list[Ran]) -> list[tuple[str, str]]:
    """A row a kernel: how often it ran and how long, and its share of all time on the GPU."""
    times = defaultdict(list)
    for ran in found:
        times[ran.name].append(ran.end - ran.start)
    whole = sum(map(sum, times.values()))
    rows = []
    for name, took in sorted(times.items(), key=lambda row: -sum(row[1])):
        each = f"{time(statistics.median(took))} each ({time(min(took))} to {time(max(took))})"
        rows.append((short(name), f"{len(took)} times, {each}, {sum(took) / whole:.0%} of the time"))
    left = [f"{len(rows) - SHOWN} more"] if len(rows) > SHOWN else []
    return rows[:SHOWN] + [(name, "") for name in left]


def on_cpu(operations: list[dict], calls: int) -> list[tuple[str, str]]:
    """The operations of torch that keep the CPU longest, themselves and not what they call."""
    longest = sorted(operations, key=lambda op: -op["seconds"])[:SHOWN]
    return [
        (short(op["name"]), f"{op['calls'] / calls:.3g} times a call, {time(op['seconds'] / op['calls'])} each")
        for op in longest
    ]


def sentence(found: list[Ran], calls: int, busy: float, asked: Asked) -> str:
    held = asked.held(sum(ran.end - ran.start for ran in found) / calls)
    if busy >= BUSY:
        return f"the GPU is busy, and a call takes it {held}; TOOL=ncu tells what limits the kernels"
    return (
        f"the GPU waits {1 - busy:.0%} of the time for the next launch (a call takes it {held}): "
        "fewer and longer kernels, less Python between them, or a CUDA graph"
    )
