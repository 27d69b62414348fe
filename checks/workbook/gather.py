"""A part's file inspected: compiled with no GPU, traced on the CPU, and timed where there is a GPU."""

import ast
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from . import ladder, moves, own
from .call import Call
from .catalog import Part
from .exercise import SHORT, Case, Moves
from .grader import ARCHS, Grading
from .inspection import Access, CannotInspect, Compiled, Inspection, Launch, Traced, here
from .words import TORCH, Verdict


def gather(part: Part, tree: Path, listed: bool = False, starting: Callable = lambda what: None) -> Inspection:
    """Inspects a part's file in a tree; `listed` with the texts of every kernel. `starting` hears what is being done.

    Raises CannotInspect where nothing of it compiles.
    """
    try:
        with Grading(part, tree, seed=0) as grading:
            return inspected(grading, tree, listed, starting)
    except CannotInspect:
        raise
    except (Exception, SystemExit) as error:
        raise CannotInspect(ladder.broken(part, error)) from error


def inspected(grading: Grading, tree: Path, listed: bool, starting: Callable) -> Inspection:
    found = Inspection(grading.part, tree)
    if not found.file.exists():
        raise CannotInspect(f"there is no file {found.file.name}: `make reset EX={found.part.id}` lays it")
    if grading.exercise.kind == "benchmark":
        raise CannotInspect("it is a benchmark, and launches no kernel of its own")
    starting("is compiled, and its cases are run")
    with ThreadPoolExecutor(1) as pool:  # each asks a worker of its own
        failure = pool.submit(first_failure, grading)
        compile_all(found, grading, listed)
        found.wrong = failure.result()
    try:
        found.text = found.file.read_text(encoding="utf-8")
        module = ast.parse(found.text)
    except (OSError, SyntaxError, ValueError, RecursionError) as error:
        raise CannotInspect(f"the file cannot be read: {error}") from None
    for f in own.kernels(module):
        found.kernels.append(range(min(node.lineno for node in (f, *f.decorator_list)), f.end_lineno + 1))
    for node in ast.walk(module):
        if isinstance(node, ast.stmt) and not hasattr(node, "body"):
            found.first |= dict.fromkeys(range(node.lineno, node.end_lineno + 1), node.lineno)
    for wanted in grading.exercise.moves:
        starting(f"is traced: {wanted.case.id}")
        traced = trace(found, grading, wanted)
        found.calls += [traced] if traced else []
    if grading.gpu:
        for speed in grading.exercise.speed:
            starting(f"is timed: {speed.case.id}")
            found.measured.append((speed.case, grading.fast(speed)))
    return found


def compile_all(found: Inspection, grading: Grading, listed: bool) -> None:
    """The timed calls (or else the first) for every architecture."""
    exercise, card = grading.exercise, here()
    archs = sorted({*ARCHS, card.arch} if card else ARCHS)
    stated = {speed.case.id: speed for speed in exercise.speed}
    for case in [speed.case for speed in exercise.speed] or exercise.cases[:1]:
        with torch.device("meta"):
            inputs = exercise.of(case).inputs(**case.values)
        call = Compiled(case, [], dot_dtype(inputs))
        if speed := stated.get(case.id):
            call.bytes, call.flops = speed.bytes(*inputs), speed.flops(*inputs) if speed.flops else 0
        for arch in archs:
            answer = grading.compiled(case, arch, listed)
            if "error" in answer:
                verdict = grading.told("compile", answer["error"])
                if ladder.ends(verdict):
                    raise CannotInspect(verdict.message)
                found.refused.setdefault(arch, verdict.message)
            else:
                note(call, arch, answer["facts"])
        found.compiled.append(call)
    if not found.archs:
        raise CannotInspect(next(iter(found.refused.values()), f"no kernel is launched: {TORCH}"))


def note(call: Compiled, arch: int, facts: list[dict]) -> None:
    """Adds what was launched on one architecture; a kernel that is launched again, and is the same, once."""
    new = [fact for i, fact in enumerate(facts) if fact not in facts[:i]]
    for fact in new:
        place = next((x for x in call.launches if x.kernel == fact["kernel"] and arch not in x.facts), None)
        if place is None:
            call.launches.append(place := Launch(fact["kernel"]))
        place.facts[arch] = fact


def first_failure(grading: Grading) -> tuple[Case, Verdict] | None:
    """On the CPU, whatever there is: on a GPU an autotuner tunes for each case."""
    for case in (case for case in grading.exercise.cases if not case.needs_gb):
        verdict = grading.judge("interpret", case)
        if verdict.status != "pass":
            return case, verdict
    return None


def trace(found: Inspection, grading: Grading, wanted: Moves) -> Traced | None:
    """A call that `moves` grades: traced, right or wrong, and compiled for the width of each access."""
    with Call(grading, "interpret", wanted.case) as call:
        answer = call.run()
        if "error" in answer:
            found.untraced = grading.told("interpret", answer["error"]).message
            return None
        judged = moves.judge(wanted, call.inputs, call.output_bytes, answer)
        memory, dtype = wanted.memory(*call.inputs), dot_dtype(call.inputs)
    merged = {}
    for line in answer["facts"]["lines"]:
        key = line["line"], line["kind"], line["arg"]
        access = merged.setdefault(key, Access(*key))
        for name in ("bytes", "useful", "sectors", "times"):
            setattr(access, name, getattr(access, name) + line[name])
        access.size = max(access.size, line["size"])
    compiled = grading.compiled(wanted.case, found.arch)
    for fact in compiled.get("facts", []):
        for access in merged.values():
            access.bits = max(access.bits, found.bits(fact, access))
            access.tma |= any(found.same(line, access.line) for line in fact["tma"])
    facts, accesses = answer["facts"], [merged[key] for key in sorted(merged)]
    counted = answer["operations"], facts["flops"], facts["elementwise"]
    return Traced(wanted, dtype, accesses, *judged, memory, *counted)


def dot_dtype(inputs) -> str:
    """What tl.dot takes the tensors of a call for, as devices.peaks names it: fp32 is rounded to tf32."""
    dtype = next((a.dtype for a in inputs if isinstance(a, torch.Tensor)), torch.float32)
    return {"fp32": "tf32"}.get(name := SHORT.get(dtype, "fp8" if dtype.itemsize == 1 else ""), name)
