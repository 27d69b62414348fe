"""One part climbed: correct, compiles, moves, fast. A rung is of no use to a learner while the first one fails."""

import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from . import RUNGS
from .catalog import CHECKS, Part
from .grader import OWN, Check, Grading
from .words import Verdict

WORST_FIRST = ("error", "fail", "todo", "inconclusive", "pass", "ungraded")
# messages on the file as a whole, to which no case adds anything
UNLOADABLE = re.compile(
    "syntax error|wrong indentation|the file is not UTF-8|the file defines no|there is no file|"
    "ModuleNotFoundError|ImportError"
)
# messages on a case that took long, or its worker down; the next one most likely does as well
COSTLY = re.compile("(right on the CPU, wrong on the GPU: )?(no answer within|the process)")


@dataclass
class Outcome:
    """What became of a part's checks. Those in not_run were not reached, because one before them did not pass."""

    part: Part
    seed: int
    results: list[tuple[Check, Verdict]] = field(default_factory=list)
    not_run: list[Check] = field(default_factory=list)

    @property
    def status(self) -> str:
        """The worst of its verdicts; what was not graded here takes nothing from a part that passes otherwise."""
        return worst(verdict for _, verdict in self.results)

    def rung(self, name: str) -> tuple[str, list[Verdict], int]:
        """Status of one rung (`not reached`; `` where the part has none), its verdicts, and checks not run."""
        verdicts = [verdict for check, verdict in self.results if check.rung == name]
        left = sum(check.rung == name for check in self.not_run)
        return worst(verdicts) if verdicts else "not reached" if left else "", verdicts, left

    @property
    def loadable(self) -> bool:
        """False where the file as a whole is no module with the function asked for; its message says all."""
        return not any(UNLOADABLE.match(verdict.message) for _, verdict in self.results)

    def passed(self) -> list[str]:
        return [name for name in RUNGS if self.rung(name)[0] == "pass"]


def climb(
    part: Part, tree: Path, seed: int, peers: bool = False, starting: Callable[[Check], None] = lambda check: None
) -> Outcome:
    """Grades a part's file in a tree. `starting` hears of each check before it is run."""
    outcome = Outcome(part, seed)
    try:
        grading = Grading(part, tree, seed, peers)
        checks = list(grading.checks())
    except (Exception, SystemExit) as error:
        outcome.results.append((Check("correct", "spec", None), Verdict("error", broken(part, error))))
        return outcome
    with grading:
        for check in checks:
            failed = [v for c, v in outcome.results if c.rung == "correct" and v.status in ("error", "fail", "todo")]
            if failed and (check.rung != "correct" or check.name == OWN or ends(failed[-1])):
                outcome.not_run.append(check)
                continue
            starting(check)
            try:
                verdict = check.run()
            except Exception as error:
                verdict = Verdict("error", broken(part, error))
            outcome.results.append((check, verdict))
    return outcome


def ends(verdict: Verdict) -> bool:
    """Whether it is of no use to go on with further cases, which otherwise narrow down why one of them fails."""
    return verdict.status != "fail" or bool(UNLOADABLE.match(verdict.message) or COSTLY.match(verdict.message))


def broken(part: Part, error: BaseException) -> str:
    """One line for an error of the workbook's own: what, and in which line of the spec, or else of the grader."""
    places = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        places.append((Path(error.filename), error.lineno))
    spec = part.file(CHECKS)
    file, line = next((place for place in reversed(places) if place[0] == spec), places[-1])
    words = str(error).strip().splitlines()
    what = f"{type(error).__name__}: {words[0]}" if words else type(error).__name__
    return f"not your fault, the workbook's: {what}\n{file.name}:{line}, in {file.parent}"


def worst(verdicts) -> str:
    statuses = {verdict.status for verdict in verdicts}
    return next((status for status in WORST_FIRST if status in statuses), "ungraded")
