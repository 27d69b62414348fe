"""Under a profiler: a part's timed case, called a few times. `python -m workbook.profile_runner JOB`, see profiling.py.

A plain process: here whoever wrote the kernel looks at it on a machine of their own, so that nothing contains the code
and nothing is judged. The calls that the tool should see are marked: by cudaProfilerStart and Stop for ncu and nsys,
which were told to wait for them, and by starting and ending the profiler that is a library.
"""

import itertools
import json
import sys
from collections import deque
from pathlib import Path

import torch

from . import catalog, worker
from .errors import describe

WARM = 3  # calls before: the first compiles, and tunes
SETS = 8  # of inputs that take turns, at most, so that a small call finds nothing in the L2


def main(job: dict) -> None:
    """Does what a job says: tool, part, file, case, calls, device, stem (of the tool's file), bytes, flops, answer.

    answer: the file where it leaves {"operations": [...]} or {"error": {...}}.
    """
    answer = {}
    try:
        call, sync = prepared(job)
        for _ in range(WARM):
            call()
        sync()
        answer = {"ncu": marked, "nsys": marked, "torch": by_torch, "proton": by_proton}[job["tool"]](job, call, sync)
    except BaseException as error:
        answer = {"error": describe(error, job["file"])}
    Path(job["answer"]).write_text(json.dumps(answer))
    sys.exit("error" in answer)


def prepared(job: dict):
    """A function that calls the learner's entry once, on one set of inputs after the other; one that waits for it."""
    exercise = catalog.select(job["part"])[0].exercise
    case = next(speed.case for speed in exercise.speed if speed.case.id == job["case"])
    exercise = exercise.of(case)
    module = worker.load(job["file"])
    entry = getattr(module, exercise.entry, None)
    if not callable(entry):
        raise worker.MissingEntry(f"the file defines no function {exercise.entry!r}")
    gpu, sets = job["device"] == "cuda", 1
    if gpu:
        sets = min(SETS, 1 + 2 * torch.cuda.get_device_properties(0).L2_cache_size // max(1, job["bytes"]))
    torch.manual_seed(0)
    with torch.device(job["device"]):
        inputs = itertools.cycle([exercise.inputs(**case.values) for _ in range(sets)])
    kept = deque(maxlen=sets)  # a result that is let go would lend its place, still in the L2, to the next
    return lambda: kept.append(entry(*next(inputs))), torch.cuda.synchronize if gpu else lambda: None


def marked(job: dict, call, sync) -> dict:
    torch.cuda.profiler.start()
    for number in range(job["calls"]):
        torch.cuda.nvtx.range_push(f"call {number} of {job['case']}")
        call()
        torch.cuda.nvtx.range_pop()
    sync()
    torch.cuda.profiler.stop()
    return {}


def by_torch(job: dict, call, sync) -> dict:
    """Leaves a Chrome trace, and answers with the time of each operation of torch on the CPU."""
    activity, answer = torch.profiler.ProfilerActivity, {}

    def ready(found):
        found.export_chrome_trace(f"{job['stem']}.json")
        answer["operations"] = operations(found.key_averages())

    chosen = [activity.CPU] + [activity.CUDA] * (job["device"] == "cuda")
    once = torch.profiler.schedule(wait=0, warmup=1, active=1, repeat=1)  # what starts up slows the calls of the first
    with torch.profiler.profile(activities=chosen, schedule=once, on_trace_ready=ready) as profiler:
        for _ in range(2):
            for _ in range(job["calls"]):
                call()
            sync()
            profiler.step()
    return answer


def operations(averages) -> list[dict]:
    """name, calls and seconds on the CPU (its own, not of what it calls) of each operation that worked there."""
    return [
        {"name": op.key, "calls": op.count, "seconds": op.self_cpu_time_total / 1e6}
        for op in averages
        if op.self_cpu_time_total > 0 and not ("ProfilerStep" in op.key or "Synchronize" in op.key)
    ]


def by_proton(job: dict, call, sync) -> dict:
    """Leaves the tree that proton makes of the calls, each a scope that bears what it is asked for."""
    import triton.profiler as proton

    stated = {name: float(job[name]) for name in ("bytes", "flops") if job[name]}
    session = proton.start(job["stem"], hook="triton")
    for _ in range(job["calls"]):
        with proton.scope(job["case"], stated):
            call()
    sync()
    proton.finalize(session)
    return {}


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
