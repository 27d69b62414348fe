"""The verdict on a speed: pass, fail or inconclusive.

A rate is judged as a share of the roofline that this GPU reaches at this moment: rounds of the ceiling (a large
copy, or a matmul) and of the kernel take turns, so that clocks and neighbours move both. The target is a share.
"""

import math
import os
import statistics
from dataclasses import asdict, dataclass

import torch

from . import ceilings, targets
from .session import Session
from .words import Verdict

ROUNDS = 7
EXTENSIONS = 3  # times that as many rounds are added before the answer is "inconclusive"
STEADY = 0.10  # of a share is its interval's width at most where rounds are slowed by what they do themselves
SUSPECT = 1.05  # times the datasheet's peak


@dataclass
class Timing:
    """What was measured: milliseconds of a call, share of the roofline with its 95% interval, rates, peers' ms."""

    ms: float
    share: float
    low: float
    high: float
    gbps: float
    tflops: float
    copy_gbps: float
    peers: dict[str, float | str]
    target: float


def grade(grading, speed) -> Verdict:
    """Verdict of one timed case. `grading` is the part's Grading, on a machine with a GPU."""
    if problem := refusal():
        return Verdict("ungraded", problem)
    device = ceilings.device()
    target = targets.share(speed, device)
    inputs = grading.inputs(speed.case, "meta")
    flops = speed.flops(*inputs) if speed.flops else 0
    work = speed.bytes(*inputs)
    with Session(grading, speed) as session:
        need = 24 * session.size + 2 * ceilings.COPY_BYTES  # slots twice, and what the oracle takes in float64
        if need > torch.cuda.mem_get_info()[0]:
            return Verdict("ungraded", f"needs {need / 1e9:.0f} GB of free GPU memory")
        if error := session.start():
            return error
        rounds, odd = [], []
        for _ in range((1 + EXTENSIONS) * ROUNDS):
            matmul = ceilings.matmul_rate(speed.products) if flops > ceilings.RIDGE * work else math.inf
            result = session.round()
            if isinstance(result, Verdict):
                return result
            if result:
                roofline = max(work / result.copy, flops / matmul) * 1e3
                (rounds if result.agrees or session.copied else odd).append((roofline / result.ms, result))
            if rounds and len(rounds) % ROUNDS == 0:
                _, low, high = interval([share for share, _ in rounds])
                if status(low, high, target) != "inconclusive":
                    break
        copied = session.copied
    if lied := len(rounds) < ROUNDS and steady(odd):
        rounds = odd
    if len(rounds) < ROUNDS:
        return Verdict("inconclusive", "something else uses this GPU or its CPU: the times of the calls tell nothing")

    share, low, high = interval([share for share, _ in rounds])
    ms, copy = (statistics.median(getattr(r, name) for _, r in rounds) for name in ("ms", "copy"))
    peers = ceilings.time_peers(grading, speed, grading.peers)
    timing = Timing(ms, share, low, high, work / ms / 1e6, flops / ms / 1e9, copy / 1e9, peers, target)
    facts = {"timing": {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(timing).items()}}
    if device and timing.gbps > SUSPECT * device.bandwidth:
        peak = f"{timing.gbps:,.0f} GB/s is more than the {device.bandwidth:,} that this GPU can move"
        return Verdict("fail", f"suspect: {peak}; is all of the work done in the call?", facts)
    rate = f"{timing.tflops:,.0f} TFLOPS" if flops / matmul > work / copy else f"{timing.gbps:,.0f} GB/s"
    derived = "" if target == speed.target else " (derived: no run on this GPU is on record)"
    if grading.exercise.provisional:
        derived = " (provisional: the reference was not measured yet)"
    reached = f"{share:.0%} of the roofline ({rate}, {ms:.3f} ms), {target:.0%} is asked{derived}"
    if lied:
        told = statistics.median(r.events for _, r in rounds)
        reached += f"; that is by the grader's clock, the process itself told of {told:.3f} ms"
    if copied:
        reached += "; results that torch.empty and its kin did not allocate were copied, which the clock counts"
    if (verdict := status(low, high, target)) == "inconclusive":
        reached += f"; this GPU is too noisy to tell: between {low:.0%} and {high:.0%}"
    return Verdict(verdict, reached, facts)


def steady(odd: list) -> bool:
    """Whether rounds whose clocks do not agree are all slower by the same, as a neighbour would not make them."""
    if len(odd) < ROUNDS:
        return False
    _, low, high = interval([share for share, _ in odd])
    return high - low < STEADY * high


def status(low: float, high: float, target: float) -> str:
    """The verdict on a share that lies between low and high."""
    return "pass" if low >= target else "fail" if high < target else "inconclusive"


def refusal() -> str:
    """Why nothing is timed here, or an empty string."""
    if os.environ.get("TRITON_INTERPRET") == "1":
        return "TRITON_INTERPRET=1 is set: the interpreter's time says nothing of a GPU; unset it to be timed"
    return ""


def interval(shares: list[float], draws: int = 2000) -> tuple[float, float, float]:
    """Median, and the bootstrap's 95% interval of it."""
    values = torch.tensor(shares, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    picks = torch.randint(len(values), (draws, len(values)), generator=generator)
    medians = values[picks].quantile(0.5, dim=1)
    low, high = medians.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return statistics.median(shares), low, high
