"""Each defence switched off in turn: an exploit that it stops then gets through, so that none is there in vain."""

import pytest
from corpus import EXPLOITS, caught, here, param, submission
from corpus.naive import header
from workbook import call, compare, grader, moves, sandbox, session
from workbook.words import Verdict

ask_inputs, ask_checks = grader.Grading.inputs, grader.Grading.checks


def seed_that_all_know(grading, case, device="cpu", salt=0):
    grading.seed = grader.zlib.crc32(case.id.encode())  # with which Grading.inputs begins at 0
    return ask_inputs(grading, case, device)


def first_case(grading):
    return (check for check in ask_checks(grading) if check.rung != "correct" or check.name.endswith("n=1025"))


# name -> how it is switched off
OFF = {
    "own kernels": lambda patch: patch.setattr(grader.Grading, "own", lambda grading: Verdict("pass")),
    "moves": lambda patch: patch.setattr(moves, "judge", lambda *arguments: ([], {})),
    "files out of sight": lambda patch: patch.setattr(sandbox, "layers", lambda: []),
    "secret seed": lambda patch: patch.setattr(grader.Grading, "inputs", seed_that_all_know),
    "fresh inputs": lambda patch: patch.setattr(
        grader.Grading, "inputs", lambda grading, case, device="cpu", salt=0: ask_inputs(grading, case, device)
    ),
    "stores seen": lambda patch: patch.setattr(call.Call, "_strays", lambda self, taken: None),
    "tolerance": lambda patch: patch.setattr(compare, "FLOOR", dict.fromkeys(compare.FLOOR, 1e-2)),
    "many cases": lambda patch: patch.setattr(grader.Grading, "checks", first_case),
    "timed results": lambda patch: patch.setattr(session.Session, "_check", lambda self, fresh, glimpses: None),
    "two clocks": lambda patch: (
        patch.setattr(session.Round, "agrees", True),
        patch.setattr(session.Round, "ms", property(lambda self: self.events)),
    ),
    "own kernels on the gpu": lambda patch: patch.setattr(grader.Grading, "own", lambda grading: Verdict("pass")),
}
STOPPED = {header(file)["defence"]: name for name, file in EXPLOITS.items() if header(file)["defence"]}


def test_every_defence_has_its_exploit():
    assert STOPPED.keys() == OFF.keys()


@pytest.mark.parametrize("defence", [param(defence, name) for defence, name in STOPPED.items() if here(name)])
def test_defence(defence, grade, monkeypatch):
    name = STOPPED[defence]
    part, source = submission(name)
    assert caught(grade(part, source), name) == "fail"
    OFF[defence](monkeypatch)
    assert caught(grade(part, source), name) in ("pass", "no such check")
