"""Trusted: inputs, oracle, poison and guard bands, deadlines, verdict. Never imports a submission."""

import os
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from . import benchmark, buffers, ceilings, compiles, doctor, moves, own, targets, timing, tuning, warm
from .call import Call, count, nonsense
from .catalog import Part
from .exercise import Case, Moves
from .warm import NOTHING, Worker
from .words import TORCH, Verdict, told

DEADLINE = {"import": 20.0, "interpret": 20.0, "simulate": 10.0, "gpu": 60.0, "compile": 90.0}  # seconds
OWN = "correct by its own kernels"
GRAPH = "compiles in a graph"
ARCHS = (80, 86, 90)  # A100; RTX 30, with the shared memory of RTX 40 and L4 too; H100


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
        self.asked = self.exercise  # as it is for the entry that was asked last
        self.seed = int.from_bytes(os.urandom(3), "big") if seed is None else seed
        self.gpu, self.peers, self.workers = torch.cuda.is_available(), peers, {}

    def checks(self) -> Iterator[Check]:
        """The ladder, in order; a benchmark is correct, or it is not, and nothing more."""
        for case in self.exercise.cases:
            yield Check("correct", f"correct {case.id}", lambda case=case: self._timed(self.correct, case))
        for case in self.exercise.refuses:
            yield Check("correct", f"correct refuses {case.id}", lambda case=case: self._timed(self.refuses, case))
        if self.exercise.kind == "benchmark":
            return
        yield Check("correct", OWN, lambda: self._timed(self.own))
        for arch in ARCHS:
            yield Check("compiles", f"compiles sm_{arch}", lambda arch=arch: self._timed(self.compiles, arch))
        if self.exercise.tuning:
            yield Check("compiles", "compiles as tuned", lambda: self._timed(self.tunes))
        if self.exercise.graph:
            yield Check("compiles", GRAPH, lambda: self._timed(self.in_a_graph))
        for wanted in self.exercise.moves:
            name = "moves" if len(self.exercise.moves) == 1 else f"moves {wanted.case.id}"
            yield Check("moves", name, lambda wanted=wanted: self._timed(self.moves, wanted))
        if prediction := self.exercise.prediction:
            yield Check("moves", f"moves {prediction.function}", lambda: self._timed(self.predicts))
        for speed in self.exercise.speed:
            name = "fast" if len(self.exercise.speed) == 1 else f"fast {speed.case.id}"
            yield Check("fast", name, lambda speed=speed: self._timed(self.fast, speed))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for mode in list(self.workers):
            self.drop(mode)

    def correct(self, case: Case) -> Verdict:
        """One case: on the CPU, traced, and on the GPU where there is one; the first also on other inputs."""
        if case.needs_gb and (missing := self._missing_gpu(case.needs_gb)):
            return Verdict("ungraded", missing)
        verdict, printed = Verdict("pass"), ""
        # in the same memory again, where nothing that was kept from the first call is of use
        for salt in (0, 1) if case is self.exercise.cases[0] else (0,):
            for mode in self._modes(case):
                if verdict.status == "pass":
                    verdict = self.judge(mode, case, salt=salt)
                    printed = printed or verdict.printed
                    if verdict.status == "fail" and mode == "gpu" and not case.needs_gb:
                        verdict.message = f"right on the CPU, wrong on the GPU: {verdict.message}"
        if verdict.status == "pass":
            verdict.printed = printed  # once is enough
        return verdict

    def own(self) -> Verdict:
        """The same file with its kernels emptied, which must come out wrong: torch in a kernel's place stays right."""
        try:
            text = own.emptied(self.file.read_text(encoding="utf-8"))
        except (SyntaxError, ValueError, RecursionError) as error:
            return Verdict("fail", f"the file cannot be read: {error}")
        cases = {"interpret": [self.exercise.cases[0], *(wanted.case for wanted in self.exercise.moves)]}
        if self.gpu:
            cases["gpu"] = [self.exercise.cases[0], *(speed.case for speed in self.exercise.speed)]
        with tempfile.TemporaryDirectory(prefix="workbook-") as tree:
            file = self.part.file(Path(tree))
            file.parent.mkdir(parents=True)
            file.write_text(text, encoding="utf-8")
            with Grading(self.part, Path(tree), self.seed) as without:
                for mode in cases:
                    for case in cases[mode]:
                        if without.judge(mode, case).status == "pass":
                            still = f"the result for {case.id} is right even with every kernel emptied"
                            return Verdict("fail", f"{still}: {TORCH}")
        return Verdict("pass")

    def refuses(self, case: Case) -> Verdict:
        """Whether a call that makes no sense raises ValueError."""
        with Call(self, "interpret", case) as call:
            return call.refused(call.run())

    def compiles(self, arch: int) -> Verdict:
        """The first and the timed configurations, compiled for one architecture."""
        kernels = []
        for case in [self.exercise.cases[0], *(speed.case for speed in self.exercise.speed)]:
            answer = self.compiled(case, arch)
            if "error" in answer:
                return self.told("compile", answer["error"])
            kernels += [(case.id, kernel) for kernel in answer["facts"] if kernel not in [k for _, k in kernels]]
        return compiles.judge(kernels, arch)

    def compiled(self, case: Case, arch: int, listed: bool = False) -> dict:
        """{"facts": what each launch of a case compiles to, `listed` with its texts}, or {"error": why it does not}."""
        answer = self.ask("compile", "compile", case, args=self._described(case), arch=arch)
        return answer if "error" in answer else self._again(answer, arch, listed)

    def tunes(self) -> Verdict:
        """Whether the autotuner tunes as often as it should, among configurations that fit, on each architecture."""
        wanted = self.exercise.tuning
        calls = [self._described(case) for case in wanted.cases]
        for arch in ARCHS:
            answer = self.ask("compile", "tune", wanted.cases[0], calls=calls, arch=arch)
            if "error" in answer:
                return self.told("compile", answer["error"])
            try:
                fault = tuning.judge(wanted, answer["facts"], arch)
            except (KeyError, TypeError, ValueError, AttributeError):
                return self.told("compile", nonsense()["error"])
            if fault:
                return Verdict("fail", fault)
        return Verdict("pass")

    def in_a_graph(self) -> Verdict:
        """Whether torch.compile takes a call whole, with its kernels in the graph. By the worker's word."""
        case = self.exercise.graph
        answer = self.ask("compile", "graph", case, args=self._described(case), arch=ARCHS[-1])
        if "error" in answer:
            return self.told("compile", answer["error"])
        try:
            return compiles.in_a_graph(count(answer["alone"]), count(answer["both"]))
        except (KeyError, ValueError):
            return self.told("compile", nonsense()["error"])

    def moves(self, wanted: Moves) -> Verdict:
        """Bytes, sectors, launches and memory of one call on the CPU."""
        verdict = self.judge("interpret", wanted.case, wanted)
        unmeasured = verdict.status == "fail" and "figures" not in verdict.facts
        verdict.message = "not measured: " * unmeasured + verdict.message
        return verdict

    def predicts(self) -> Verdict:
        """What the learner's function foretells of each case, held against what is right and what the trace shows."""
        prediction = self.exercise.prediction
        for case in prediction.cases:
            with Call(self, "interpret", case) as call:
                arguments = prediction.arguments(*call.inputs)
                asked = replace(case, entry=prediction.function)
                said = self.ask("interpret", "predict", asked, args=list(arguments.values()))
                if "error" in said:
                    return self.told("interpret", said["error"], f"{prediction.function}({', '.join(arguments)})")
                answer = call.run()
                verdict = self.told("interpret", answer["error"]) if "error" in answer else call.verdict(answer)
                if verdict.status != "pass":
                    return verdict
                try:
                    wrong = moves.foretold(prediction, case, call.inputs, float(said["value"]), answer)
                except (KeyError, TypeError, ValueError, OverflowError):
                    return self.told("interpret", nonsense()["error"])
                if wrong:
                    return Verdict("fail", wrong, printed=self.workers["interpret"].printed())
        return Verdict("pass")

    def fast(self, speed) -> Verdict:
        """The share of the roofline that a timed case reaches on the GPU here."""
        missing = self._missing_gpu(0)
        verdict = Verdict("ungraded", missing) if missing else timing.grade(self, speed)
        verdict.facts["minimum"] = targets.minimums(self.exercise, speed)
        return verdict

    def worker(self, mode: str) -> Worker:
        if mode not in self.workers:
            if mode == "gpu":
                ceilings.anchor()  # while nothing of the submission runs
            self.workers[mode] = Worker(mode, self.file, DEADLINE["import"])
        return self.workers[mode]

    def drop(self, mode: str) -> None:
        self.workers.pop(mode).close()

    def ask(self, mode: str, do: str, case: Case, **request) -> dict:
        """The answer of this part's worker, started on demand, to a request."""
        worker, self.asked = self.worker(mode), self.exercise.of(case)
        if "error" in worker.loaded:
            return worker.loaded
        return worker.ask(do, DEADLINE[mode], entry=case.entry or self.exercise.entry, **request)

    def told(self, mode: str, error: dict, calls: str = "") -> Verdict:
        """The verdict on an error that the worker told; a worker that is of no more use is dropped."""
        worker = self.workers[mode]
        printed = worker.printed()
        if error["type"] in ("TimeOut", "Died", "Nonsense") or "error" in worker.loaded or mode == "gpu":
            self.drop(mode)  # an error can poison a CUDA context
        verdict = told(error, self.part, self.asked, self.file, calls)
        verdict.printed = printed
        return verdict

    def _described(self, case: Case) -> list:
        """The arguments of a case without data."""
        with torch.device("meta"):
            inputs = self.exercise.of(case).inputs(**case.values)
        return [buffers.describe(0, a) if isinstance(a, torch.Tensor) else a for a in inputs]

    def inputs(self, case: Case, device: str = "cpu", salt: int = 0) -> list:
        """The arguments of a case, the same at every call with one seed, device and salt."""
        torch.manual_seed((self.seed ^ zlib.crc32(case.id.encode())) + salt)
        with torch.device(device):
            return list(self.exercise.of(case).inputs(**case.values))

    def _again(self, told: dict, arch: int, listed: bool) -> dict:
        """Compiles the kernels that a submission's worker told of once more, in one where no submission ever was."""
        if "clean" not in self.workers:
            self.workers["clean"] = Worker("compile", NOTHING, DEADLINE["import"])
        clean, facts = self.workers["clean"], []
        try:
            for kernel in told["facts"]:
                start, size = int(kernel["start"]), int(kernel["size"])
                clean.arena[:size] = self.workers["compile"].arena[start : start + size]
                request = {"entry": "nothing", "size": size, "stage": kernel["stage"], "options": kernel["options"]}
                answer = clean.ask("again", DEADLINE["compile"], arch=arch, listed=listed, **request)
                if "error" in answer:
                    return answer
                at = {"grid": [count(n) for n in kernel["grid"]], "line": count(kernel["line"])}
                texts = {name: bytes(clean.arena[slice(*place)].numpy()) for name, place in answer["texts"].items()}
                facts.append(answer["facts"] | at | ({"texts": texts} if listed else {}))
        except (KeyError, TypeError, ValueError, RuntimeError):
            return nonsense()
        return {"facts": facts}

    def _timed(self, grade, *arguments):
        start = time.perf_counter()
        if not self.file.exists():
            verdict = Verdict("fail", f"there is no file {self.file.name}: `make reset EX={self.part.id}` lays it")
        else:
            verdict = grade(*arguments)
            if warm.switches:  # what Triton tells counts wherever it was told, in a compilation too
                theirs = [worker for mode, worker in self.workers.items() if mode != "clean"]
                verdict.printed += "".join(worker.printed() for worker in theirs)
        verdict.seconds = time.perf_counter() - start
        return verdict

    def _modes(self, case: Case) -> list[str]:
        here = "simulate" if self.exercise.kind == "benchmark" else "interpret"
        return [here] * (not case.needs_gb) + ["gpu"] * self.gpu

    def _missing_gpu(self, gigabytes):
        if not self.gpu:
            return "needs a GPU"
        if missing := doctor.no_compiler():
            return missing
        free = torch.cuda.mem_get_info()[0] / 1e9
        return f"needs {gigabytes:g} GB of free GPU memory, {free:.0f} are free" if free < gigabytes else ""

    def judge(self, mode, case, wanted: Moves | None = None, salt: int = 0) -> Verdict:
        """One call, judged; with `wanted` also by what it moved."""
        if self.exercise.kind == "benchmark":
            return benchmark.judge(self, mode, case, salt)
        with Call(self, mode, case, salt) as call:
            answer = call.run()
            if "error" in answer:
                return self.told(mode, answer["error"])
            verdict = call.verdict(answer)
            if wanted and verdict.status == "pass":
                complaints, figures = moves.judge(wanted, call.inputs, call.output_bytes, answer)
                words = "; ".join(complaints) + f" (graded on {case.id})" * bool(complaints)
                verdict = Verdict("fail" if complaints else "pass", words, {"figures": figures})
            if mode in self.workers:
                verdict.printed = self.workers[mode].printed()
            return verdict
