"""Fixtures of the workbook's own tests, and the counts they end with."""

import fcntl
import json
from datetime import date
from pathlib import Path

import pytest
import torch
from workbook import catalog, doctor, sandbox
from workbook.grader import Grading


@pytest.fixture(autouse=True)
def alone(request, tmp_path_factory):
    """On a GPU, a test marked `timed` runs while no other does."""
    if not torch.cuda.is_available():
        yield
        return
    with (tmp_path_factory.getbasetemp().parent / "gpu.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX if request.node.get_closest_marker("timed") else fcntl.LOCK_SH)
        yield


@pytest.fixture
def grade(tmp_path):
    """grade(part, source) -> the Grading of that source; of the solution without one. Its workers end with the test."""
    opened = []

    def open_grading(part: catalog.Part, source: str | None = None) -> Grading:
        tree = catalog.SOLUTIONS
        if source is not None:
            tree = tmp_path
            file = part.file(tree)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(source)
        opened.append(Grading(part, Path(tree), seed=1))
        return opened[-1]

    yield open_grading
    for grading in opened:
        grading.__exit__()


@pytest.fixture(scope="session")
def measured():
    """The recorded runs on GPUs."""
    return [json.loads(file.read_text()) for file in sorted(catalog.MEASURED.glob("*.json"))]


@pytest.fixture(scope="session")
def repeats(pytestconfig) -> int:
    """How often each variant is graded, each time on other inputs."""
    return pytestconfig.getoption("--repeats")


def pytest_addoption(parser):
    group = parser.getgroup("selfcheck")
    group.addoption("--repeats", type=int, default=1, help="grade each variant as often, on other inputs")
    group.addoption("--figures", metavar="FILE", help="write the counts as JSON, for checks/measured/grading/")


COUNTED = {
    "test_solution": "solutions pass",
    "test_blank": "blanks fail with their TODO",
    "test_bug": "planted bugs caught",
    "test_variant": "variants pass",
    "test_exploit": "exploits caught that fool a naive grader",
    "test_defence": "defences let an exploit through when they are off",
    "test_hostile": "hostile submissions survived",
}


def pytest_terminal_summary(terminalreporter, config):
    def count(status, test):
        return sum(f"::{test}[" in r.nodeid for r in terminalreporter.stats.get(status, []) if r.when == "call")

    found = {test: (count("passed", test), count("failed", test)) for test in COUNTED}
    found = {test: (passed, passed + failed) for test, (passed, failed) in found.items() if passed + failed}
    if len(found) < 2:
        return
    terminalreporter.section("the workbook")
    for test, (passed, of) in found.items():
        terminalreporter.write_line(f"{passed} of {of} {COUNTED[test]}")
    if file := config.getoption("--figures"):
        figures = {COUNTED[test]: {"passed": passed, "of": of} for test, (passed, of) in found.items()}
        if honest := figures.get(COUNTED["test_variant"]):
            honest["repeats"] = config.getoption("--repeats")
            # the rule of three: with no rejection in n gradings, the rate is below 3/n at 95% confidence
            gradings = honest["of"] * honest["repeats"]
            honest["false rejects at most"] = round(3 / gradings, 4) if honest["passed"] == honest["of"] else None
        card = doctor.gpu()
        about = {"device": card["name"] if card else "CPU", "date": date.today().isoformat(), **doctor.versions()}
        about |= {"layers": sandbox.layers(), "tests": config.getoption("keyword") or "all"}
        Path(file).write_text(json.dumps({**about, "figures": figures}, indent=1) + "\n")
