"""Trusted: one graded call of an entry on a poisoned arena, and all that it left there."""

import torch

from . import buffers, compare, oracle
from .exercise import Case
from .warm import ARENA
from .words import TORCH, Verdict

CHUNK = 1 << 28  # bytes compared at a time
KINDS = {kind: kind for kind in ("load", "store", "atomic")}  # of the accesses that a trace tells of
REPEATS = 20  # runs on a GPU that must agree bit for bit with the first


class Call:
    """Inputs laid out between guard bands in an arena of random bytes; a context, because a GPU arena must be freed.

    grading: the part's Grading, whose worker runs the entry. mode: interpret or gpu. salt: for other inputs.
    """

    def __init__(self, grading, mode: str, case: Case, salt: int = 0):
        self.grading, self.exercise, self.mode, self.case = grading, grading.exercise.of(case), mode, case
        self.inputs = grading.inputs(case, "cuda" if mode == "gpu" and large(grading, case) else "cpu", salt)
        self.promised = [] if case in self.exercise.refuses else oracle.promised(self.exercise, self.inputs)
        self.output_bytes = sum(t.nbytes for t in self.promised)
        layout = buffers.Layout()
        self.args = layout.place(self.inputs)
        size = layout.at + (4 << 20) + min(8 * self.output_bytes, self.output_bytes + (256 << 20))
        self.device = buffers.DeviceArena(size) if mode == "gpu" else None
        if self.device:
            self.arena, self.where = self.device.tensor, {"size": size, "arena": self.device.handle}
        else:
            size = min(size, ARENA[mode])
            self.arena, self.where = grading.worker(mode).arena[:size], {}
        self.heap = [layout.at, size]
        self.arena.random_()
        buffers.write(self.arena, self.inputs, self.args)
        self.before = self.arena.clone()
        self._settle()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.device:
            del self.arena
            self.device.close()

    def run(self, **request) -> dict:
        """Has the worker call the entry. Its answer holds results (descriptions) and taken ([offset, bytes])."""
        windows = [moves.window.programs for moves in self.exercise.moves if moves.window and moves.case is self.case]
        request |= {"window": max(windows, default=0), "args": self.args, "heap": self.heap, **self.where}
        answer = self.grading.ask(self.mode, "run", self.case, **request)
        return answer if "error" in answer or self._sound(answer) else nonsense()

    def verdict(self, answer: dict) -> Verdict:
        """What the trace found, stray stores, the results against the oracle, and their repetition: the first fault."""
        facts = answer.get("facts", {})
        for finding in facts.get("findings", [])[:1]:
            return Verdict("fail", str(finding["message"]))
        if message := self._strays(answer["taken"]):
            return Verdict("fail", message)
        if len(answer["results"]) != len(self.promised):
            asked = f"{len(self.promised)} ({', '.join(self.exercise.outputs)})"
            return Verdict("fail", f"returns {len(answer['results'])} tensors, expected {asked}")
        if facts.get("launches") == [] and self.output_bytes:
            return Verdict("fail", f"no kernel is launched: {TORCH}")
        for output, d in zip(self.exercise.outputs, answer["results"], strict=True):
            if name := self._owner(d["offset"]):
                return Verdict("fail", f"{output} lies in the memory of the input {name}, it is no new tensor")
        results = [buffers.view(self.arena, d) for d in answer["results"]]
        poison = [buffers.view(self.before, d) for d in answer["results"]]
        if found := oracle.disagree(self.exercise, self.case, self.inputs, results, poison):
            return Verdict("fail", found.message + self._blame(answer, found))
        if self.mode == "gpu" and self.exercise.deterministic:
            return self._repeat(answer)
        return Verdict("pass")

    def refused(self, answer: dict) -> Verdict:
        """Passes where the call raised ValueError."""
        error, case = answer.get("error"), self.case.id
        if not error:
            return Verdict("fail", f"accepts {case}, which is to raise ValueError: see the docstring of the function")
        if error["type"] == "ValueError":
            return Verdict("pass")
        verdict = self.grading.told(self.mode, error)
        if verdict.status == "fail":
            verdict.message = f"{case} is to raise ValueError, and fails otherwise: {verdict.message}"
        return verdict

    def _settle(self) -> None:
        """Waits until all that was written to the arena lies there: the worker's kernels do not wait for ours."""
        if self.device:
            torch.cuda.synchronize()

    def _sound(self, answer) -> bool:
        """Whether what the worker says of its memory can be read, and lies where it may."""
        try:
            answer["taken"] = [(int(offset), int(size)) for offset, size in answer["taken"]]
            if self.mode == "interpret":
                facts = answer["facts"]
                facts |= {name: count(facts[name]) for name in ("flops", "elementwise")}
                if facts["window"]:
                    facts["window"] = {name: count(facts["window"][name]) for name in ("bytes", "distinct")}
                facts["schedule"] = {name: count(facts["schedule"][name]) for name in ("work", "room")}
                facts["launches"] = [
                    {"kernel": str(launch["kernel"]), "programs": count(launch["programs"])}
                    for launch in facts["launches"]
                ]
                facts["lines"] = [
                    {name: count(line[name]) for name in ("line", "bytes", "sectors", "useful", "times", "size")}
                    | {"kernel": str(line["kernel"]), "kind": KINDS[line["kind"]], "arg": str(line["arg"])}
                    for line in facts["lines"]
                ]
            answer["operations"] = [
                {"name": str(done["name"]), "bytes": count(done["bytes"])} for done in answer["operations"]
            ]
            for d in answer["results"]:
                buffers.view(self.arena, d)
            low, high = self.heap
            return all(low <= offset <= offset + size <= high for offset, size in answer["taken"])
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError):
            return False

    def _owner(self, offset: int) -> str | None:
        """The input, not to be changed in place, that holds a byte of the arena."""
        for name, d in zip(self.exercise.argument_names, self.args, strict=True):
            if isinstance(d, dict) and d["offset"] <= offset < d["offset"] + buffers.nbytes(d):
                return None if name in self.exercise.mutates else name
        return None

    def _strays(self, taken) -> str | None:
        """Every byte outside the allocations must be what the grader wrote; or the words for what was stored where."""
        described = [
            (n, d) for n, d in zip(self.exercise.argument_names, self.args, strict=True) if isinstance(d, dict)
        ]
        allowed = taken + [(d["offset"], buffers.nbytes(d)) for n, d in described if n in self.exercise.mutates]
        at = 0
        for start, size in [*sorted(allowed), (len(self.arena), 0)]:
            for low in range(at, start, CHUNK):
                before, after = self.before[low : min(low + CHUNK, start)], self.arena[low : min(low + CHUNK, start)]
                if not torch.equal(before, after):
                    return stray(low + int((before != after).nonzero()[0]), described, taken)
            at = max(at, start + size)
        return None

    def _blame(self, answer, found) -> str:
        """Which program stored a wrong element, learnt by tracing the call once more."""
        if self.mode != "interpret" or found.index is None:
            return ""
        result = answer["results"][self.exercise.outputs.index(found.name)]
        element = sum(i * s for i, s in zip(found.index, result["stride"], strict=True))
        again = self.run(watch=result["offset"] + element * getattr(torch, result["dtype"]).itemsize)
        facts = again.get("facts", {})
        told = [
            f"; stored by program {place(s['program'])}, lane {place(s['lane'])}, line {s['line']}"
            for s in facts.get("watched", [])[-1:]
        ]
        if " is nan, expected" in found.message:
            told += [
                f"; line {line} loads without `other`, so that lanes outside its mask hold anything"
                for line in facts.get("unfilled", [])[:1]
            ]
        return "".join(told)

    def _repeat(self, answer) -> Verdict:
        first = [buffers.view(self.arena, d).clone() for d in answer["results"]]
        for count in range(REPEATS):
            self.arena[self.heap[0] :].random_()
            self._settle()
            again = self.run()
            if "error" in again:
                return self.grading.told(self.mode, again["error"])
            for name, a, d in zip(self.exercise.outputs, first, again["results"], strict=True):
                b = buffers.view(self.arena, d)
                if not compare.same_bytes(a, b).all():
                    return Verdict("fail", f"{name} is not the same in run {count + 2} as in run 1, on the same input")
        return Verdict("pass")


def large(grading, case: Case) -> bool:
    """Whether the oracle takes too long on a CPU; smaller inputs are the same on both."""
    inputs = grading.inputs(case, "meta")
    return bool(case.needs_gb) or sum(a.nbytes for a in inputs if isinstance(a, torch.Tensor)) > oracle.SMALL


def count(told) -> int:
    """A number that a worker tells of. Raises ValueError where it is none that anything here can come to."""
    if not isinstance(told, int) or not 0 <= told < 2**63:
        raise ValueError(f"{told} is no count")
    return told


def place(index) -> str:
    """One number as it is, several as (1, 2)."""
    return f"({', '.join(map(str, index))})" if isinstance(index, list) else str(index)


def nonsense() -> dict:
    message = "the process answered something that the grader cannot read"
    return {"error": {"type": "Nonsense", "message": message, "line": None, "todo": None}}


def stray(at: int, described: list[tuple[str, dict]], taken: list[tuple[int, int]]) -> str:
    """The words for a byte that changed outside what may change."""
    ends = [(at - offset - size, "what the function allocated") for offset, size in taken]
    for name, d in described:
        if d["offset"] <= at < d["offset"] + buffers.nbytes(d):
            element = (at - d["offset"]) // getattr(torch, d["dtype"]).itemsize
            return f"changes its input {name}, first at element {element} of its memory"
        ends.append((at - d["offset"] - buffers.nbytes(d), f"its input {name}"))
    past, what = min((end for end in ends if end[0] >= 0), default=(None, "its first tensor"))
    where = f"before {what}" if past is None else f"{past} bytes past the end of {what}"
    return f"stores out of bounds, {where}: a store without a mask, or a mask that is too wide"
