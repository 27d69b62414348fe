"""Trusted: inputs, oracle, poison and guard bands, deadlines, verdict. Never imports a submission."""

import os
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from . import buffers, compare, devices, moves
from .catalog import Part
from .exercise import Case
from .words import told
from .warm import ARENA, Worker

DEADLINE = {"import": 20.0, "interpret": 20.0, "gpu": 60.0, "compile": 90.0}  # seconds
ARCHS = (80, 90)
CHUNK = 1 << 28  # bytes compared at a time


@dataclass
class Verdict:
    """status: pass, fail, todo, ungraded (not graded here, with the reason), inconclusive, or error (ours)."""

    status: str
    message: str = ""
    facts: dict = field(default_factory=dict)
    printed: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Check:
    """One thing to be graded: its rung, its name within the part, and how."""

    rung: str
    name: str
    run: Callable[[], Verdict]


class Grading:
    """The checks of one part in one tree. Workers are started when they are needed, and again after one has died."""

    def __init__(self, part: Part, tree: Path, seed: int | None = None, peers: bool = False):
        self.part, self.exercise, self.file = part, part.exercise, part.file(tree).resolve()
        self.seed = int.from_bytes(os.urandom(3)) if seed is None else seed
        self.gpu, self.peers, self.workers = torch.cuda.is_available(), peers, {}

    def checks(self) -> Iterator[Check]:
        """The ladder, in order."""
        for case in self.exercise.cases:
            yield Check("correct", f"correct {case.id}", lambda case=case: self._timed(self.correct, case))
        for arch in ARCHS:
            yield Check("compiles", f"compiles sm_{arch}", lambda arch=arch: self._timed(self.compiles, arch))
        if self.exercise.moves:
            yield Check("moves", "moves", lambda: self._timed(self.moves))
        for speed in self.exercise.speed:
            name = "fast" if len(self.exercise.speed) == 1 else f"fast {speed.case.id}"
            yield Check("fast", name, lambda speed=speed: self._timed(self.fast, speed))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for mode in list(self.workers):
            self.drop(mode)

    def correct(self, case: Case) -> Verdict:
        """One case: on the CPU, traced, and on the GPU where there is one."""
        if case.needs_gb and (missing := self._missing_gpu(case.needs_gb)):
            return Verdict("ungraded", missing)
        verdict = Verdict("pass")
        if not case.needs_gb:
            verdict = self._judge("interpret", case)
        if self.gpu and verdict.status == "pass":
            verdict = self._judge("gpu", case)
            if verdict.status == "fail" and not case.needs_gb:
                verdict.message = f"right on the CPU, wrong on the GPU: {verdict.message}"
        return verdict

    def compiles(self, arch: int) -> Verdict:
        """The first and the timed configurations, compiled for one architecture."""
        kernels = {}
        for case in [self.exercise.cases[0], *(speed.case for speed in self.exercise.speed)]:
            with torch.device("meta"):
                inputs = self.exercise.inputs(**case.values)
            args = [buffers.describe(0, a) if isinstance(a, torch.Tensor) else a for a in inputs]
            answer = self._ask("compile", "compile", case, args=args, arch=arch)
            if "error" in answer:
                return self._told("compile", answer["error"])
            for kernel in answer["facts"]:
                kernels[kernel["kernel"], case.id] = kernel
        if not kernels:
            return Verdict("fail", "no kernel is launched: the work is asked of a Triton kernel, not of torch")
        facts = {"kernels": list(kernels.values())}
        limit = devices.SHARED[arch]
        for kernel in facts["kernels"]:
            if kernel["shared"] > limit:
                over = kernel["shared"] - limit
                return Verdict(
                    "fail",
                    f"{kernel['kernel']} needs {kernel['shared']:,} bytes of shared memory, {over:,} more than the "
                    f"{limit:,} that a block has on sm_{arch}: make the tiles or num_stages smaller",
                    facts,
                )
        spilling = [f"{k['kernel']} spills {k['spills']:,} bytes of registers" for k in facts["kernels"] if k["spills"]]
        return Verdict("pass", "; ".join(sorted(set(spilling))), facts)

    def moves(self) -> Verdict:
        """Bytes, sectors, launches and memory of one call on the CPU."""
        verdict = self._judge("interpret", self.exercise.moves.case, self.exercise.moves)
        if verdict.status == "fail" and verdict.facts.get("figures") is None:
            verdict.message = f"not measured, for the result is wrong: {verdict.message}"
        return verdict

    def fast(self, speed) -> Verdict:
        """The share of the roofline that a timed case reaches on the GPU here."""
        if missing := self._missing_gpu(0):
            return Verdict("ungraded", missing)
        from . import timing

        return timing.grade(self, speed)

    def worker(self, mode: str) -> Worker:
        if mode not in self.workers:
            self.workers[mode] = Worker(mode, self.file, DEADLINE["import"])
        return self.workers[mode]

    def drop(self, mode: str) -> None:
        self.workers.pop(mode).close()

    def inputs(self, case: Case, device: str = "cpu") -> list:
        """The arguments of a case, the same at every call with one seed and device."""
        torch.manual_seed(self.seed ^ zlib.crc32(case.id.encode()))
        with torch.device(device):
            return list(self.exercise.inputs(**case.values))

    def _timed(self, grade, *arguments):
        start = time.perf_counter()
        if not self.file.exists():
            verdict = Verdict("fail", f"there is no file {self.file.name}: `make reset EX={self.part.id}` lays it")
        else:
            verdict = grade(*arguments)
        verdict.seconds = time.perf_counter() - start
        return verdict

    def _missing_gpu(self, gigabytes):
        if not self.gpu:
            return "needs a GPU"
        if missing := devices.no_compiler():
            return missing
        free = torch.cuda.mem_get_info()[0] / 1e9
        return f"needs {gigabytes:g} GB of free GPU memory, {free:.0f} are free" if free < gigabytes else ""

    def _ask(self, mode, do, case, **request):
        worker = self.worker(mode)
        if "error" in worker.loaded:
            return worker.loaded
        return worker.ask(do, DEADLINE[mode], entry=case.entry or self.exercise.entry, **request)

    def _told(self, mode, error) -> Verdict:
        worker = self.workers[mode]
        printed = worker.printed()
        if error["type"] in ("TimeOut", "Died", "Nonsense") or "error" in worker.loaded or mode == "gpu":
            self.drop(mode)  # an error can poison a CUDA context
        status, message = told(error, self.part, self.exercise, self.file)
        return Verdict(status, message, printed=printed)

    def _judge(self, mode, case, wanted: moves.Moves | None = None) -> Verdict:
        """Runs the entry once on a poisoned arena and compares all that it left there."""
        inputs = self.inputs(case, "cuda" if case.needs_gb else "cpu")
        promised = several(self.exercise.reference(*copies(inputs, device="meta")))
        layout = buffers.Layout()
        args = [
            buffers.describe(layout.take(buffers.nbytes(buffers.describe(0, a))), a) if isinstance(a, torch.Tensor) else a
            for a in inputs
        ]
        output = sum(t.nbytes for t in promised)
        heap = [layout.at, layout.at + (4 << 20) + min(8 * output, output + (256 << 20))]
        device = buffers.DeviceArena(heap[1]) if mode == "gpu" else None
        try:
            worker = self.worker(mode)
            if device is None:
                heap[1] = min(heap[1], ARENA)
            arena = device.tensor if device else worker.arena[: heap[1]]
            arena.random_()
            for a, d in zip(inputs, args, strict=True):
                if isinstance(a, torch.Tensor):
                    buffers.view(arena, d).copy_(a)
            before = arena.clone()
            where = {"size": heap[1], "arena": device.handle} if device else {}
            answer = self._ask(mode, "run", case, args=args, heap=heap, **where)
            if "error" in answer:
                return self._told(mode, answer["error"])
            verdict = self._compare(case, inputs, promised, args, heap, before, arena, answer)
            if isinstance(verdict, compare.Disagreement):
                verdict = self._blame(mode, case, args, heap, answer, verdict)
            if verdict.status == "pass" and mode == "gpu" and self.exercise.deterministic:
                verdict = self._repeat(case, args, heap, where, arena, answer)
            if verdict.status == "pass" and wanted:
                complaints, figures = moves.judge(wanted, inputs, output, answer)
                verdict = Verdict("fail" if complaints else "pass", "; ".join(complaints), {"figures": figures})
            verdict.printed = self.workers[mode].printed() if mode in self.workers else verdict.printed
            return verdict
        finally:
            if device:
                del arena
                device.close()

    def _compare(self, case, inputs, promised, args, heap, before, after, answer):
        facts = answer.get("facts", {})
        for finding in facts.get("findings", [])[:1]:
            return Verdict("fail", finding["message"])
        names = self.exercise.argument_names
        changeable = [(d["offset"], buffers.nbytes(d)) for n, d in zip(names, args) if n in self.exercise.mutates]
        taken = [(int(o), int(s)) for o, s in answer["taken"] if heap[0] <= o <= o + s <= heap[1]]
        if message := strays(before, after, taken + changeable, names, args):
            return Verdict("fail", message)
        if len(answer["results"]) != len(promised):
            asked = f"{len(promised)} ({', '.join(self.exercise.outputs)})"
            return Verdict("fail", f"returns {len(answer['results'])} tensors, expected {asked}")
        if facts.get("launches") == [] and any(t.numel() for t in promised):
            return Verdict("fail", "no kernel is launched: the work is asked of a Triton kernel, not of torch")
        results = [buffers.view(after, d) for d in answer["results"]]
        poison = [buffers.view(before, d) for d in answer["results"]]
        floors = self.exercise.tolerance
        for part_inputs, place in case.slices(inputs) if case.slices else [(inputs, ())]:
            expected = several(self.exercise.reference(*copies(part_inputs, torch.float64)))
            yardstick = several(self.exercise.reference(*copies(part_inputs, torch.float32)))
            for i, name in enumerate(self.exercise.outputs):
                a, b, p = results[i], poison[i], promised[i]
                if place and a.shape == p.shape:
                    a, b, p = a[place], b[place], p[place]
                y = yardstick[i].to(p.dtype)
                a, b, e, y = (t.to(after.device) for t in (a, b, expected[i], y))
                if found := compare.explain(name, a, e, y, p, b, floors):
                    return found
        return Verdict("pass")

    def _blame(self, mode, case, args, heap, answer, found) -> Verdict:
        """The verdict on a wrong element; on the CPU the call is repeated to learn which program stored it."""
        message = found.message
        if mode == "interpret" and found.index is not None:
            name = message.split("[")[0]
            result = next((d for n, d in zip(self.exercise.outputs, answer["results"]) if n in name), answer["results"][0])
            element = sum(i * s for i, s in zip(found.index, result["stride"]))
            offset = result["offset"] + element * getattr(torch, result["dtype"]).itemsize
            again = self._ask(mode, "run", case, args=args, heap=heap, watch=offset)
            for store in again.get("facts", {}).get("watched", [])[-1:]:
                message += f"; stored by program {tuple(store['program'])}, lane {store['lane']}, in line {store['line']}"
        return Verdict("fail", message)

    def _repeat(self, case, args, heap, where, arena, answer) -> Verdict:
        """20 runs on a GPU must agree bit for bit."""
        first = [buffers.view(arena, d).clone() for d in answer["results"]]
        for k in range(20):
            arena[heap[0] :].random_()
            again = self._ask("gpu", "run", case, args=args, heap=heap, **where)
            if "error" in again:
                return self._told("gpu", again["error"])
            for name, a, d in zip(self.exercise.outputs, first, again["results"], strict=True):
                if not torch.equal(a.view(torch.uint8), buffers.view(arena, d).contiguous().view(torch.uint8)):
                    return Verdict("fail", f"{name} differs between two runs on the same input (run {k + 2} of 21)")
        return Verdict("pass")


def strays(before, after, allowed, names, args) -> str | None:
    """Every byte outside the allocations must be what the grader wrote; or the words for what was stored where."""
    at = 0
    for start, size in [*sorted(allowed), (len(after), 0)]:
        for low in range(at, start, CHUNK):
            high = min(low + CHUNK, start)
            if not torch.equal(before[low:high], after[low:high]):
                first = low + int((before[low:high] != after[low:high]).nonzero()[0])
                return _stray(first, names, args, allowed)
        at = max(at, start + size)
    return None


def _stray(at, names, args, allowed):
    for name, d in zip(names, args):
        if isinstance(d, dict) and d["offset"] <= at < d["offset"] + buffers.nbytes(d):
            element = (at - d["offset"]) // getattr(torch, d["dtype"]).itemsize
            return f"changes its input {name}, first at element {element} of its memory"
    ends = [(at - o - s, "past the end of what the function allocated") for o, s in allowed if o + s <= at]
    for name, d in zip(names, args):
        if isinstance(d, dict) and (end := d["offset"] + buffers.nbytes(d)) <= at:
            ends.append((at - end, f"past the end of its input {name}"))
    distance, where = min(ends, default=(at, "before its first input"))
    return f"stores out of bounds, {distance + 1} bytes {where}: a store without a mask, or a mask that is too wide"


def copies(inputs, dtype=None, device=None) -> list:
    """The inputs again; only floating-point tensors change their dtype."""

    def copy(a):
        if not isinstance(a, torch.Tensor):
            return a
        return a.to(dtype=dtype if a.is_floating_point() else None, device=device, copy=True)

    return [copy(a) for a in inputs]


def several(value) -> list[torch.Tensor]:
    return list(value) if isinstance(value, (tuple, list)) else [value]
