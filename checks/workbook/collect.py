"""The pytest plugin: every spec is a file of items, `2.1b::correct n=1025`, `2.1b::moves`.

An id names no path, so that it reads as learners are told; `pytest '2.1b::moves'` finds its spec again.
Nothing of the graded tree is imported or collected here, a conftest.py least of all.
"""

import re
from pathlib import Path

import pytest

from . import doctor

if missing := doctor.unsupported():
    raise pytest.UsageError(missing)

from . import catalog, ladder
from .grader import Check, Grading
from .report import clean
from .words import Verdict

ID = re.compile(r"(\d(?:\.\d+[a-z]?)?)((?:::.*)?)", re.S | re.I)
ON_REQUEST = (catalog.CHECKS / "selfcheck", catalog.CHECKS / "workbook", catalog.MEASURED)


def pytest_addoption(parser):
    group = parser.getgroup("workbook")
    group.addoption("--tree", metavar="PATH", default=str(catalog.STAGES), help="the folder to grade (stages/)")
    group.addoption("--seed", metavar="N", type=int, help="makes the inputs of a failure again")


def pytest_configure(config):
    if not Path(config.getoption("tree")).is_dir():
        raise pytest.UsageError(f"there is no folder {config.getoption('tree')} to grade")
    config.args = [path for arg in config.args for path in _paths(arg)]


def pytest_ignore_collect(collection_path, config):
    """The workbook's own tests run only when they are named."""
    if collection_path in ON_REQUEST:
        named = (Path(config.invocation_params.dir, arg.split("::")[0]).resolve() for arg in config.args)
        return None if any(path.is_relative_to(collection_path) for path in named) else True
    return None


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path, parent):
    others = yield
    part = catalog.part_at(file_path)
    return [Spec.from_parent(parent, path=file_path, name=part.id, nodeid=part.id)] if part else others


class Spec(pytest.File):
    """One part. Its workers live from its first item to its last."""

    def collect(self):
        part, tree = catalog.part_at(self.path), Path(self.config.getoption("tree"))
        self.grading = None
        try:
            self.grading = Grading(part, tree, self.config.getoption("seed"))
            checks = list(self.grading.checks())
        except (Exception, SystemExit) as error:
            verdict = Verdict("error", ladder.broken(part, error))
            checks = [Check("correct", "spec", lambda: verdict)]
        for check in checks:
            yield Item.from_parent(self, name=check.name, nodeid=f"{part.id}::{check.name}", check=check)

    def teardown(self):
        if self.grading:
            self.grading.__exit__(None, None, None)


class Item(pytest.Item):
    """One check of a part."""

    def __init__(self, *, check: Check, **kwargs):
        super().__init__(**kwargs)
        self.check = check

    def runtest(self):
        verdict = self.check.run()
        if verdict.printed:
            self.add_report_section("call", "output", clean(verdict.printed))
        if verdict.status in ("ungraded", "inconclusive") and not self.config.getoption("strict"):
            pytest.skip(verdict.message)
        if verdict.status != "pass":
            raise NotPassed(clean(self._words(verdict)))

    def repr_failure(self, excinfo, style=None):
        """Our sentence; a traceback is of use only where the fault is the grader's."""
        return str(excinfo.value) if excinfo.errisinstance(NotPassed) else super().repr_failure(excinfo, style)

    def reportinfo(self):
        return self.path, None, f"{self.parent.name} {self.name}"

    def _words(self, verdict):
        if verdict.status != "fail" or not self.parent.grading or self.check.rung not in ("correct", "moves"):
            return verdict.message
        again = f"pytest '{self.nodeid}' --seed={self.parent.grading.seed}"
        return f"{verdict.message}\nthe same inputs again: {again}"


class NotPassed(Exception):
    """What the learner is told."""


def _paths(arg: str) -> list[str]:
    """The specs that an argument like `2.1b::moves` means; any other argument as it is."""
    match = ID.fullmatch(arg)
    if not match or Path(arg).exists():
        return [arg]
    try:
        return [str(catalog.CHECKS / part.path) + match[2] for part in catalog.select(match[1].lower())]
    except catalog.UnknownPart as error:
        raise pytest.UsageError(str(error)) from None
