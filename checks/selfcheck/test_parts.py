"""Every part: its solution passes, its blanks fail with their TODO, its bugs are caught, its variants pass."""

import itertools
import re

import pytest
import torch
from workbook import RUNGS, catalog, measure, oracle, stub, timing
from workbook import exercise as spec
from workbook.grader import GRAPH

PARTS = {part.id: part for part in catalog.parts()}
CPU_SECONDS = 3.0
OTHERS = {"compiles sm_80", "compiles sm_90"}  # left out for bugs and variants: sm_86 has the least shared memory
SMALL = 400  # numbers in the inputs of a case that is differentiated step by step
EXCEPTION = re.compile(r"(Name|Syntax|Attribute|Indentation|Type)Error|syntax error")


def source(part):
    return part.file(catalog.SOLUTIONS).read_text()


def every(things):
    return [pytest.param(part, x, id=f"{part.id} {label(x)}") for part in PARTS.values() for x in things(part)]


def label(x):
    return getattr(x, "what", x)


def cpu_cases(part):
    return [c for c in part.exercise.cases if not c.needs_gb]


def passes(grading, rungs=("correct", "compiles", "moves"), but=()):
    for check in grading.checks():
        if check.rung in rungs and check.name not in but:
            verdict = check.run()
            assert verdict.status in ("pass", "ungraded"), f"{check.name}: {verdict.message}"
            if verdict.status == "ungraded":
                assert "GPU" in verdict.message


def thinned(grading, step):
    """The cases of `correct` but every `step`th, which are left out unless all is to be counted."""
    return {c.name for number, c in enumerate(grading.checks()) if c.rung == "correct" and number % step}


@pytest.mark.timed
@pytest.mark.parametrize("part", [pytest.param(p, id=p.id) for p in PARTS.values()])
def test_solution(part, grade):
    grading = grade(part)
    passes(grading, ("correct", "compiles", "moves", "fast"))
    for _ in range(3):  # another process may have had its turn in between
        if (seconds := sum(grading.correct(c).seconds for c in cpu_cases(part))) <= CPU_SECONDS:
            break
    assert seconds <= CPU_SECONDS, f"the CPU cases take {seconds:.1f} s, at most {CPU_SECONDS} are allowed"


@pytest.mark.parametrize(("part", "number"), every(lambda p: range(1, stub.blanks(source(p)) + 1)))
def test_blank(part, number, grade):
    grading = grade(part, stub.derive(source(part), part.id, only=number))
    # a blank may be needed by some cases only, or by a prediction, which nothing else needs
    checks = [check for check in grading.checks() if check.rung in ("correct", "moves")]
    verdicts = ((check, check.run()) for check in checks)
    check, first = next(found for found in verdicts if found[1].status not in ("pass", "ungraded"))
    compiles = [c for c in grading.checks() if c.rung == "compiles" and c.name not in {GRAPH, *OTHERS}]
    for verdict in (first, *(c.run() for c in compiles if is_compiled(part.exercise, check))):
        assert verdict.status == "todo"
        assert verdict.message.splitlines()[0] == f"blank {number} is still open"


def is_compiled(exercise, check):
    """Whether the rung `compiles` calls the entry of a case as well."""
    called = {c.entry for c in (exercise.cases[0], *(speed.case for speed in exercise.speed))}
    return check.rung == "correct" and exercise.find(check.name.removeprefix("correct ")).entry in called


@pytest.mark.parametrize("part", [pytest.param(p, id=p.id) for p in PARTS.values()])
def test_stub(part, grade):
    derived = stub.derive(source(part), part.id)
    path = part.file(catalog.STAGES)
    assert path.read_text() == derived, f"{path} is not the derived stub: `make stubs` derives it"
    assert grade(part, derived).correct(part.exercise.cases[0]).status == "todo"


@pytest.mark.parametrize(("part", "bug"), every(lambda p: p.exercise.bugs))
def test_bug(part, bug, grade, repeats):
    grading = grade(part, bug.apply(source(part)))
    if bug.rung == "correct":
        case = part.exercise.find(bug.caught)
        verdict = grading.refuses(case) if case in part.exercise.refuses else grading.correct(case)
    else:
        # what it compiles to is nothing that `moves` asks for
        below = ("correct",) if bug.rung == "moves" else RUNGS[: RUNGS.index(bug.rung)]
        passes(grading, below, OTHERS | thinned(grading, 4) if repeats == 1 else ())
        if bug.rung == "fast":
            return  # only a GPU can tell: test_measured
        verdicts = (check.run() for check in grading.checks() if check.rung == bug.rung)
        verdict = max(verdicts, key=lambda v: v.status != "pass")
    assert verdict.status == "fail"
    assert not EXCEPTION.search(verdict.message), f"it does not even run: {verdict.message}"


@pytest.mark.parametrize(("part", "variant"), every(lambda p: p.exercise.variants))
def test_variant(part, variant, grade, repeats):
    grading = grade(part, variant.apply(source(part)))
    # what it compiles to is asked where all is counted: the compiler takes most of the time
    rungs = ("correct", "moves") if repeats == 1 else ("correct", "compiles", "moves")
    passes(grading, rungs, thinned(grading, 2) if repeats == 1 else ())
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


@pytest.mark.parametrize("part", [pytest.param(p, id=p.id) for p in PARTS.values()])
def test_gradients(part, monkeypatch):
    """What the oracle of a backward says by autograd is what small steps say."""
    exercise, asked, compared = part.exercise, [], 0
    for case in cpu_cases(part) if exercise.kind == "kernel" else ():
        torch.manual_seed(0)
        inputs, reference = exercise.of(case).inputs(**case.values), exercise.of(case).reference
        tensors = oracle.copies([a for a in inputs if isinstance(a, torch.Tensor)], dtype=torch.float64)
        if sum(t.numel() for t in tensors) > SMALL or not all(t.isfinite().all() for t in tensors):
            continue
        asked.clear()
        with monkeypatch.context() as patch:
            patch.setattr(spec, "differentiate", lambda *what: asked.append(what) or by_steps(*what))
            stepped = oracle.several(reference(*oracle.copies(inputs, dtype=torch.float64)))
        if asked:
            exact = oracle.several(reference(*oracle.copies(inputs, dtype=torch.float64)))
            torch.testing.assert_close(stepped, exact, rtol=1e-5, atol=1e-7)
            compared += 1
    text = (catalog.CHECKS / part.path).read_text()
    assert compared or "gradients(" not in text, f"no case is small enough: at most {SMALL} numbers in its inputs"


def by_steps(function, leaves, upstream, step=1e-5):
    """As exercise.differentiate, by central differences, one number after the other."""

    def loss():
        return sum((out * up).sum() for out, up in zip(oracle.several(function(*leaves)), oracle.several(upstream)))

    with torch.no_grad():
        found = [torch.zeros_like(leaf) for leaf in leaves]
        for leaf, gradient in zip(leaves, found):
            for at in itertools.product(*map(range, leaf.shape)):
                value = leaf[at].item()
                leaf[at] = value + step
                above = loss()
                leaf[at] = value - step
                gradient[at] = (above - loss()) / (2 * step)
                leaf[at] = value
    return tuple(found)


def test_twins():
    """The same paths in the three trees, and nothing else beside lessons and labs."""

    def paths(tree):
        return {p.relative_to(tree).as_posix() for p in tree.glob("[0-9]_*/*/*.py")}

    known = {part.path for part in PARTS.values()}
    for tree in (catalog.STAGES, catalog.SOLUTIONS, catalog.CHECKS):
        assert paths(tree) == known, tree.name
