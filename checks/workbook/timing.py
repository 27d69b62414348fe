"""Clocks, ceilings, and the verdict on a speed: pass, fail or inconclusive.

A rate is judged as a share of the roofline that this GPU reaches at this moment: rounds of the ceiling (a large
copy, or a matmul) and of the kernel take turns, so that clocks and neighbours move both. The target is a share.
"""

import itertools
import math
import os
import statistics
import time
from dataclasses import asdict, dataclass

import torch

from . import buffers, devices, oracle, targets
from .words import Verdict

ROUNDS = 7
EXTENSIONS = 3  # times that as many rounds are added before the answer is "inconclusive"
BATCH_MS = 40.0  # time that the calls of one round take together, so that a handshake is lost in it
GAP_MS = 0.02  # that the GPU idles at most between two calls, outside what events see
COPY_BYTES = 1 << 30
MATMUL = 4096
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


def grade(grading, speed):
    """Verdict of one timed case. `grading` is the part's Grading, on a machine with a GPU."""
    if problem := refusal():
        return Verdict("ungraded", problem)
    inputs = grading.inputs(speed.case, "meta")
    outputs = oracle.promised(grading.exercise, inputs)
    device = devices.find(torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory)
    target = targets.share(speed, device)
    sizes = [a.nbytes for a in inputs if isinstance(a, torch.Tensor)]
    flops = speed.flops(*inputs) if speed.flops else 0
    work = speed.bytes(*inputs)
    # sets of inputs that together exceed the L2 twice, so that no call finds its own in the cache
    sets = max(1, math.ceil(2 * torch.cuda.get_device_properties(0).L2_cache_size / max(1, sum(sizes))))
    need = sets * sum(sizes) + 4 * sum(t.nbytes for t in outputs) + 2 * COPY_BYTES + (1 << 30)
    if need > torch.cuda.mem_get_info()[0]:
        return Verdict("ungraded", f"needs {need / 1e9:.0f} GB of free GPU memory")

    session = Session(grading, speed, sets, outputs)
    try:
        if error := session.start():
            return error
        rooflines, kernels, ceilings = [], [], []
        for _ in range(1 + EXTENSIONS):
            for _ in range(ROUNDS):
                copy = copy_rate()
                matmul = matmul_rate() if flops else 1
                roofline = max(work / copy, flops / matmul) * 1e3
                ms = session.round()
                if not isinstance(ms, float):
                    return ms
                ceilings.append(copy), rooflines.append(roofline), kernels.append(ms)
            share, low, high = interval([r / k for r, k in zip(rooflines, kernels, strict=True)])
            if status(low, high, target) != "inconclusive":
                break
        if wrong := session.check():
            return wrong
    finally:
        session.close()

    ms = statistics.median(kernels)
    peers = time_peers(grading, speed, sets, grading.peers)
    timing = Timing(
        ms, share, low, high, work / ms / 1e6, flops / ms / 1e9, statistics.median(ceilings) / 1e9, peers, target
    )
    facts = {"timing": {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(timing).items()}}
    if device and timing.gbps > SUSPECT * device.bandwidth:
        peak = f"{timing.gbps:,.0f} GB/s is more than the {device.bandwidth:,} that this GPU can move"
        return Verdict("fail", f"suspect: {peak}; is all of the work done in the call?", facts)
    rate = f"{timing.tflops:,.0f} TFLOPS" if flops / matmul > work / copy else f"{timing.gbps:,.0f} GB/s"
    derived = "" if target == speed.target else " (derived: no run on this GPU is on record)"
    reached = f"{share:.0%} of the roofline ({rate}, {ms:.3f} ms), {target:.0%} is asked{derived}"
    if (verdict := status(low, high, target)) == "inconclusive":
        reached += f"; this GPU is too noisy to tell: between {low:.0%} and {high:.0%}"
    return Verdict(verdict, reached, facts)


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


class Session:
    """The timed calls of one part: inputs that the grader writes, a worker that calls, two clocks that must agree."""

    def __init__(self, grading, speed, sets, outputs):
        self.grading, self.speed, self.outputs = grading, speed, outputs
        layout, self.sets = buffers.Layout(), []
        for _ in range(sets):
            args = grading.inputs(speed.case, "meta")
            self.sets.append(layout.place(args))
        room = sum(t.nbytes for t in outputs)
        self.heap = [layout.at, layout.at + room + (len(outputs) + 2) * 2 * buffers.GUARD]
        self.arena = buffers.DeviceArena(self.heap[1])

    def start(self):
        """Fills the inputs, warms up; a Verdict where that fails."""
        for args in self.sets:
            buffers.write(self.arena.tensor, self.grading.inputs(self.speed.case, "cuda"), args)
        torch.cuda.synchronize()
        answer = self._ask("open", size=self.heap[1], arena=self.arena.handle)
        if "error" not in answer:
            answer = self._ask("time", sets=self.sets, calls=3)  # compiles, tunes
        if "error" not in answer:
            answer = self._ask("time", sets=self.sets, calls=5)
        if "error" in answer:
            return self.grading.told("gpu", answer["error"])
        self.calls = max(5, min(400, math.ceil(BATCH_MS / max(1e-3, statistics.median(answer["ms"])))))
        self.handshake = min(self._wall(0)[0] for _ in range(3))
        return None

    def round(self):
        """Milliseconds of a call, as the slower of two clocks tells it; or a Verdict."""
        wall, answer = self._wall(self.calls)
        if "error" in answer:
            return self.grading.told("gpu", answer["error"])
        events = [float(ms) for ms in answer["ms"]]
        if len(events) != self.calls:
            return Verdict("fail", "the worker timed another number of calls than it was asked")
        # a worker can tell any number of its own clock, but not make the grader's run slower
        return max(statistics.median(events), (wall - min(self.handshake, 0.5)) / self.calls - GAP_MS)

    def check(self):
        """The last timed call's results against the oracle; a Verdict where they are wrong."""
        arena, start = self.arena.tensor, self.heap[0]
        arena[start:].random_()
        before = arena[start:].clone()
        torch.cuda.synchronize()
        answer = self._ask("copy", heap=self.heap)
        if "error" in answer:
            return self.grading.told("gpu", answer["error"])
        results = [buffers.view(arena, d) for d in answer["results"]]
        poison = [buffers.view(before, {**d, "offset": d["offset"] - start}) for d in answer["results"]]
        inputs = self.grading.inputs(self.speed.case, "cuda")
        found = oracle.disagree(self.grading.exercise, self.speed.case, inputs, results, poison)
        return Verdict("fail", f"in a timed call: {found.message}") if found else None

    def close(self):
        if "gpu" in self.grading.workers:
            self._ask("close")
        self.arena.close()

    def _wall(self, calls):
        torch.cuda.synchronize()
        start = time.perf_counter()
        answer = self._ask("time", sets=self.sets, calls=calls)
        return (time.perf_counter() - start) * 1e3, answer

    def _ask(self, do, **request):
        return self.grading.ask("gpu", do, self.speed.case, **request)


def copy_rate() -> float:
    """Bytes a second, read plus written, of a large copy on this GPU."""
    source, target = _copy_buffers()
    return 2 * source.nbytes / (_events(lambda: target.copy_(source), 8) * 1e-3)


def matmul_rate() -> float:
    """bf16 operations a second of a matmul on random data."""
    a, b = _matmul_buffers()
    return 2 * MATMUL**3 / (_events(lambda: a @ b, 20) * 1e-3)


def _events(call, calls: int) -> float:
    """Median milliseconds of a call, by events."""
    marks = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(calls)]
    call()
    for start, end in marks:
        start.record()
        call()
        end.record()
    torch.cuda.synchronize()
    return statistics.median(start.elapsed_time(end) for start, end in marks)


_kept = {}


def _copy_buffers():
    if "copy" not in _kept:
        _kept["copy"] = [torch.empty(COPY_BYTES // 4, device="cuda").normal_() for _ in range(2)]
    return _kept["copy"]


def _matmul_buffers():
    if "matmul" not in _kept:
        _kept["matmul"] = [torch.randn(MATMUL, MATMUL, device="cuda", dtype=torch.bfloat16) for _ in range(2)]
    return _kept["matmul"]


def time_peers(grading, speed, sets: int, every: bool) -> dict[str, float | str]:
    """Milliseconds of each peer (of the first, the baseline, unless `every`), or why there are none.

    Timed as the kernel is: call after call, over as many sets of inputs.
    """
    result = {}
    for name, call in list(speed.peers.items())[: None if every else 1]:
        inputs = itertools.cycle([grading.inputs(speed.case, "cuda") for _ in range(sets)])
        try:
            peer = torch.compile(call) if name.endswith("compile") else call
            for _ in range(5):
                peer(*next(inputs))
            result[name] = round(_events(lambda peer=peer, inputs=inputs: peer(*next(inputs)), 60), 5)
        except ImportError as error:
            result[name] = f"not installed: {error}"
        except Exception as error:  # a peer's failure is no verdict on the learner
            result[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"
        del inputs
    torch.cuda.empty_cache()
    return result
