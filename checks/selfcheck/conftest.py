"""Fixtures of the workbook's own tests, and the counts they end with."""

import json
from pathlib import Path

import pytest
from workbook import catalog
from workbook.grader import Grading


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


def pytest_terminal_summary(terminalreporter):
    def count(status, test):
        return sum(f"::{test}[" in r.nodeid for r in terminalreporter.stats.get(status, []) if r.when == "call")

    if not count("passed", "test_solution"):
        return
    cases = sum(len(part.exercise.cases) for part in catalog.parts())
    terminalreporter.section("the workbook")
    for words, test in (
        (f"solutions pass (with {cases} cases)", "test_solution"),
        ("blanks fail with their TODO", "test_blank"),
        ("planted bugs caught", "test_bug"),
        ("variants pass", "test_variant"),
    ):
        passed = count("passed", test)
        terminalreporter.write_line(f"{passed} of {passed + count('failed', test)} {words}")
