"""Trusted: the verdict on a part of the kind `benchmark`, whose entry measures calls that it has not seen.

A case is a call that moves about so many megabytes, drawn anew at each grading. On the simulated GPU the time that it
takes is known here; on a GPU the call is a copy, held against the grader's own clock in the grader's own process.
Who looks into the simulated GPU finds the answer there; a human has to see that, or a grading on a GPU.
"""

import math
import random
import re

import torch

from . import ceilings, faults, simulated
from .call import nonsense
from .exercise import Case
from .words import Verdict

TOLERANCE = 0.02
RESOLUTION = 0.5e-3  # ms: CUDA's events tell nothing shorter apart (CUDA Runtime API, cudaEventElapsedTime)
MOST = {"calls": 10**6, "flushed": 10**10, "waited": 10**6}  # that is believed of what a worker tells
LACKING = re.compile("CUDA enabled|dummy base class|has no attribute '_cuda_")


def judge(grading, mode: str, case: Case, salt: int) -> Verdict:
    """What the entry reads for a call drawn by seed and salt, on the simulated GPU, or in mode gpu on that of here."""
    draw = random.Random(f"{grading.seed} {case.id} {salt}")
    size, seed = round(case.values["mb"] * 1e6 * draw.uniform(0.85, 1.15)), draw.getrandbits(32)
    takes = clock(size) if mode == "gpu" else [simulated.cold(size) / 1e3]
    answer = sound(grading.ask(mode, "benchmark", case, bytes=size, seed=seed))
    if "error" in answer:
        return grading.told(mode, explained(answer["error"]))
    takes += clock(size) if mode == "gpu" else []
    ms, low, high = answer["ms"], min(takes), max(takes)
    message = complaint(ms, low, high) if answer["calls"] else "never calls what it is given to measure"
    if mode == "simulate" and message.startswith("reads"):
        message += faults.name(answer, lambda other: not complaint(other, low, high), size, seed)
    facts = {}
    if math.isfinite(ms):  # JSON has no other numbers
        facts["figures"] = {"reads_ms": round(ms, 6), "takes_ms": round(low, 6), "at_most_ms": round(high, 6)}
    return Verdict("fail" if message else "pass", message, facts, grading.workers[mode].printed())


def clock(size: int) -> list[float]:
    """Milliseconds of the call by the grader's events, behind a flush that writes and behind one that reads.

    The first leaves an L2 full of what has yet to go to memory, the second does not; an honest benchmark does either.
    """
    from . import unseen  # imports Triton, which is spared where there is no GPU

    torch.cuda.empty_cache()  # memory of its own, as in a process that has used none before
    call = unseen.copy(size)
    scratch = torch.ones(2 * torch.cuda.get_device_properties(0).L2_cache_size, device="cuda")  # 8 times the L2
    return [ceilings.milliseconds(call, 60, before=flush) for flush in (scratch.zero_, scratch.sum)]


def sound(answer: dict) -> dict:
    """The answer with the numbers that it has to hold; an error where it does not."""
    if "error" in answer:
        return answer
    try:
        facts = {name: max(0, min(int(answer.get(name, 1)), most)) for name, most in MOST.items()}
        return {"ms": float(answer["ms"]), **facts}
    except (KeyError, TypeError, ValueError, OverflowError):
        return nonsense()


def explained(error: dict) -> dict:
    """An error of torch's, in words that help."""
    if LACKING.search(error["message"]):
        has = "events, synchronize, get_device_properties and tensors"
        return error | {"type": "Refused", "message": f"asks more of torch.cuda than the simulated GPU has: {has}"}
    if "must be completed before" in error["message"]:
        wait = "the host does not wait for the GPU, but for torch.cuda.synchronize()"
        return error | {"message": f"{error['message'].rstrip('.')}: {wait}"}
    return error


def complaint(ms: float, low: float, high: float) -> str:
    """What is wrong with a reading of a call that takes so long, or nothing."""
    if low * (1 - TOLERANCE) - RESOLUTION <= ms <= high * (1 + TOLERANCE) + RESOLUTION:
        return ""
    if not math.isfinite(ms):
        return f"returns {ms}: the milliseconds of one call are asked"
    if ms <= 0:
        return f"returns {ms:.3g} ms, and every call takes some time: does the call stand between its two events?"
    return f"reads {shown(ms)} for a call that takes {shown(low)}" + (f" to {shown(high)}" if high > low else "")


def shown(ms: float) -> str:
    return f"{ms * 1e3:.3g} µs" if ms < 1 else f"{ms:.3g} ms" if ms < 1000 else f"{ms / 1e3:.3g} s"
