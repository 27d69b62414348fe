"""What a kernel became, gathered: compiled with no GPU, traced on the CPU, and timed where there is a GPU."""

import ast
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch

from . import ceilings, devices, ladder, moves, own
from .call import Call
from .catalog import Part
from .exercise import SHORT, Case
from .grader import ARCHS, Grading
from .occupancy import Occupancy, occupancy
from .words import TORCH, Verdict


class CannotInspect(Exception):
    """The message says why, and may quote the learner's line."""


@dataclass
class Launch:
    """One kernel of a call, compiled: its facts (see codegen.facts) and its occupancy by architecture."""

    kernel: str
    facts: dict[int, dict] = field(default_factory=dict)

    def occupancy(self, arch: int) -> Occupancy:
        facts = self.facts[arch]
        return occupancy(arch, facts["threads"], facts["registers"], facts["shared"])

    def waves(self, arch: int) -> float:
        """How often all multiprocessors fill up before every program has run, where a program fits."""
        return programs(self.facts[arch]) / (self.occupancy(arch).blocks * device(arch).multiprocessors)


@dataclass
class Compiled:
    """A call compiled: its launches in order; the bytes and the flops that its case states, 0 where it states none.

    dtype: of its first tensor, as tl.dot takes it.
    """

    case: Case
    launches: list[Launch]
    dtype: str
    bytes: int = 0
    flops: int = 0


@dataclass
class Access:
    """What one line loads from, stores to or adds to one argument of a kernel in the traced call (see trace.facts).

    bits: the widest that a thread does so at a time, 0 where it is not known; tma: it is left to TMA.
    """

    line: int
    kind: str
    arg: str
    bytes: int = 0
    useful: int = 0
    sectors: int = 0
    times: int = 0
    size: int = 0
    bits: int = 0
    tma: bool = False

    @property
    def share(self) -> float:
        """Of the sectors that are touched, the part that is in use."""
        return min(1.0, self.useful / (moves.SECTOR * self.sectors)) if self.sectors else 1.0

    @property
    def wasted(self) -> int:
        return moves.SECTOR * self.sectors - self.useful


@dataclass
class Traced:
    """The call that `moves` grades: what each line accesses, and the complaints and figures of moves.judge.

    memory: bytes that may be allocated beyond the results. operations: torch's own, with their bytes. flops: of tl.dot;
    elementwise: all other floating-point operations.
    """

    case: Case
    dtype: str
    accesses: list[Access]
    complaints: list[str]
    figures: dict
    memory: int
    operations: list[dict]
    flops: int
    elementwise: int

    @property
    def intensity(self) -> float:
        """Operations a byte asked for; only those of tl.dot where there are such."""
        return (self.flops or self.elementwise) / max(1, self.figures["requested_bytes"])


@dataclass
class Inspection:
    """All that is known of one part's file.

    kernels: the lines of each function that is compiled for a GPU. first: of a line of a statement, the statement's
    first; the compiler and the interpreter name different ones. refused: by architecture, why it does not compile.
    wrong: the first case that fails, and how. untraced: why the call that `moves` grades was not traced.
    """

    part: Part
    tree: Path
    text: str = ""
    kernels: list[range] = field(default_factory=list)
    first: dict[int, int] = field(default_factory=dict)
    compiled: list[Compiled] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)
    wrong: tuple[Case, Verdict] | None = None
    traced: Traced | None = None
    untraced: str = ""
    measured: list[tuple[Case, Verdict]] = field(default_factory=list)

    @property
    def file(self) -> Path:
        return self.part.file(self.tree)

    @property
    def archs(self) -> list[int]:
        return sorted({arch for call in self.compiled for launch in call.launches for arch in launch.facts})

    @property
    def arch(self) -> int:
        """The architecture that is spoken of where one must be chosen: this GPU's, or else the newest."""
        return card.arch if (card := here()) and card.arch in self.archs else self.archs[-1]

    @property
    def launches(self) -> list[Launch]:
        """What was launched on the architecture of `arch`."""
        return [launch for call in self.compiled for launch in call.launches if self.arch in launch.facts]

    def bits(self, facts: dict, access: Access) -> int:
        """The widest that a thread of a compiled kernel does what was traced; 0 where its code has no such access."""
        rows = [row for row in facts["access"] if row["op"] == access.kind and self.same(row["line"], access.line)]
        return max((row["bits"] for row in rows), default=0)

    def same(self, one: int, other: int) -> bool:
        """Whether two lines are of one statement."""
        return self.first.get(one, one) == self.first.get(other, other)

    def intensity(self, call: Compiled, arch: int) -> tuple[float, float] | None:
        """Operations a byte of a call, and the ridge point: the number from which memory is no longer the limit.

        As its case states them, or else as they were traced; None where neither is known.
        """
        gpu, traced = device(arch), self.traced
        if call.flops:
            ratio, dtype = call.flops / call.bytes, call.dtype
        elif traced:
            ratio, dtype = traced.intensity, traced.dtype if traced.flops else "fp32"
        else:
            return None
        peak = gpu.peaks.get(dtype)
        return (ratio, 1e3 * peak / gpu.bandwidth) if peak else None


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
    if grading.exercise.moves:
        starting("is traced")
        trace(found, grading)
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
            inputs = exercise.inputs(**case.values)
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
    """Among the cases that need no large GPU."""
    for case in (case for case in grading.exercise.cases if not case.needs_gb):
        verdict = grading.correct(case)
        if verdict.status not in ("pass", "ungraded"):
            return case, verdict
    return None


def trace(found: Inspection, grading: Grading) -> None:
    """The call that `moves` grades: traced, right or wrong, and compiled for the width of each access."""
    wanted = grading.exercise.moves
    with Call(grading, "interpret", wanted.case) as call:
        answer = call.run()
        if "error" in answer:
            found.untraced = grading.told("interpret", answer["error"]).message
            return
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
    found.traced = Traced(wanted.case, dtype, accesses, *judged, memory, *counted)


def dot_dtype(inputs) -> str:
    """What tl.dot takes the tensors of a call for, as devices.peaks names it: fp32 is rounded to tf32."""
    dtype = next((a.dtype for a in inputs if isinstance(a, torch.Tensor)), torch.float32)
    return {"fp32": "tf32"}.get(name := SHORT.get(dtype, "fp8" if dtype.itemsize == 1 else ""), name)


def programs(facts: dict) -> int:
    x, y, z = facts["grid"]
    return x * y * z


def here() -> devices.Device | None:
    """The GPU of this machine, where it is a known one."""
    return ceilings.device() if torch.cuda.is_available() else None


def device(arch: int) -> devices.Device:
    """The GPU that stands for an architecture: this machine's, if it is of it."""
    card = here()
    return card if card and card.arch == arch else devices.TYPICAL[arch]
