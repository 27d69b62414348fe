"""Every part: its solution passes, its blanks fail with their TODO, its bugs are caught, its variants pass."""

import re

import pytest
from workbook import RUNGS, catalog, measure, stub, timing

PARTS = {part.id: part for part in catalog.parts()}
CPU_SECONDS = 3.0
EXCEPTION = re.compile(r"(Name|Syntax|Attribute|Indentation|Type)Error|syntax error")


def source(part):
    return part.file(catalog.SOLUTIONS).read_text()


def every(things):
    return [pytest.param(part, x, id=f"{part.id} {label(x)}") for part in PARTS.values() for x in things(part)]


def label(x):
    return getattr(x, "what", x)


def cpu_cases(part):
    return [c for c in part.exercise.cases if not c.needs_gb]


def passes(grading, rungs=("correct", "compiles", "moves")):
    for check in grading.checks():
        if check.rung in rungs:
            verdict = check.run()
            assert verdict.status in ("pass", "ungraded"), f"{check.name}: {verdict.message}"
            if verdict.status == "ungraded":
                assert "GPU" in verdict.message


@pytest.mark.timed
@pytest.mark.parametrize("part", [pytest.param(p, id=p.id) for p in PARTS.values()])
def test_solution(part, grade):
    grading = grade(part)
    passes(grading, ("correct", "compiles", "moves", "fast"))
    seconds = min(sum(grading.correct(c).seconds for c in cpu_cases(part)) for _ in range(2))
    assert seconds <= CPU_SECONDS, f"the CPU cases take {seconds:.1f} s, at most {CPU_SECONDS} are allowed"


@pytest.mark.parametrize(("part", "number"), every(lambda p: range(1, stub.blanks(source(p)) + 1)))
def test_blank(part, number, grade):
    grading = grade(part, stub.derive(source(part), part.id, only=number))
    # a blank may be needed by some cases only, or by a prediction, which nothing else needs
    checks = [check for check in grading.checks() if check.rung in ("correct", "moves")]
    verdicts = ((check, check.run()) for check in checks)
    check, first = next(found for found in verdicts if found[1].status not in ("pass", "ungraded"))
    compiles = [c for c in grading.checks() if c.rung == "compiles" and check.rung == "correct"]
    for verdict in (first, *(check.run() for check in compiles)):
        assert verdict.status == "todo"
        assert verdict.message.splitlines()[0] == f"blank {number} is still open"


@pytest.mark.parametrize("part", [pytest.param(p, id=p.id) for p in PARTS.values()])
def test_stub(part, grade):
    derived = stub.derive(source(part), part.id)
    path = part.file(catalog.STAGES)
    assert path.read_text() == derived, f"{path} is not the derived stub: `make stubs` derives it"
    assert grade(part, derived).correct(part.exercise.cases[0]).status == "todo"


@pytest.mark.parametrize(("part", "bug"), every(lambda p: p.exercise.bugs))
def test_bug(part, bug, grade):
    grading = grade(part, bug.apply(source(part)))
    if bug.rung == "correct":
        verdict = grading.correct(part.exercise.find(bug.caught))
    else:
        passes(grading, RUNGS[: RUNGS.index(bug.rung)])
        if bug.rung == "fast":
            return  # only a GPU can tell: test_measured
        verdicts = (check.run() for check in grading.checks() if check.rung == bug.rung)
        verdict = max(verdicts, key=lambda v: v.status != "pass")
    assert verdict.status == "fail"
    assert not EXCEPTION.search(verdict.message), f"it does not even run: {verdict.message}"


@pytest.mark.parametrize(("part", "variant"), every(lambda p: p.exercise.variants))
def test_variant(part, variant, grade, repeats):
    grading = grade(part, variant.apply(source(part)))
    passes(grading)
    for grading.seed in range(2, 1 + repeats):
        passes(grading, ("correct", "moves"))


@pytest.mark.parametrize("part", [pytest.param(p, id=p.id) for p in PARTS.values()])
def test_complete(part):
    exercise = part.exercise
    assert len(exercise.bugs) >= 4
    assert len(exercise.variants) >= 2
    assert len({c.id for c in exercise.cases}) == len(exercise.cases)
    assert len(part.hints()) == 3
    assert all("```" not in hint for hint in part.hints()), "hints give no code"
    assert f"## {part.id} " in part.lesson.read_text()
    if exercise.speed:
        assert any(b.rung in ("moves", "fast") for b in exercise.bugs), "no naive kernel is planted"
        assert any(speed.naive_fails for speed in exercise.speed)


@pytest.mark.parametrize("part", [pytest.param(p, id=p.id) for p in PARTS.values()])
def test_measured(part, measured):
    """Its state on a GPU is on record, of the solution as it is now, and its naive kernel is too slow there; or the
    part says that its targets are a guess."""
    states = [m["parts"][part.id] for m in measured if part.id in m["parts"]]
    states = [s for s in states if s["fingerprint"] == measure.fingerprint(source(part))]
    if part.exercise.provisional:
        assert not states, "it is on record: drop `provisional`"
        return
    assert states, f"not measured since it was changed: `python -m workbook.measure FILE {part.id}` on a GPU"
    naive = next((b.what for b in part.exercise.bugs if b.rung in ("moves", "fast")), None)
    for state in states:
        assert {name: c["status"] for name, c in state["checks"].items() if c["status"] != "pass"} == {}
        timed = [c["facts"]["timing"] for c in state["checks"].values() if c["rung"] == "fast"]
        for speed, reference, slow in zip(part.exercise.speed, timed, state["slow"].get(naive, ()), strict=True):
            assert judged(reference, speed) == "pass"
            if speed.naive_fails:
                assert judged(slow["facts"]["timing"], speed) == "fail", f"{naive!r} is fast enough"


def judged(measured, speed):
    """The verdict on what was measured, by the target that the spec has now."""
    return timing.status(measured["low"], measured["high"], speed.target)


def test_twins():
    """The same paths in the three trees, and nothing else beside lessons and labs."""

    def paths(tree):
        return {p.relative_to(tree).as_posix() for p in tree.glob("[0-9]_*/*/*.py")}

    known = {part.path for part in PARTS.values()}
    for tree in (catalog.STAGES, catalog.SOLUTIONS, catalog.CHECKS):
        assert paths(tree) == known, tree.name
