"""Submissions that cheat, and submissions that mean harm; a file in a folder here joins the tests by itself."""

from pathlib import Path

import pytest
import torch
from workbook import catalog

from .naive import header

FOLDER = Path(__file__).parent
EXPLOITS = {file.stem: file for file in sorted((FOLDER / "exploits").glob("*.py"))}
GPU = torch.cuda.is_available()


def here(name: str) -> bool:
    """Whether an exploit can do its work on this machine."""
    return GPU or not header(EXPLOITS[name])["needs"]


def param(value: str, name: str):
    """A parameter of a test with an exploit; one that is timed is marked, so that it is tested alone."""
    return pytest.param(value, marks=[pytest.mark.timed] * bool(header(EXPLOITS[name])["needs"]))


def submission(name: str) -> tuple[catalog.Part, str]:
    """The part that an exploit is for, and the exploit after its solution."""
    part = catalog.select(header(EXPLOITS[name])["part"])[0]
    return part, part.file(catalog.SOLUTIONS).read_text() + "\n\n" + EXPLOITS[name].read_text()


def caught(grading, name: str) -> str:
    """Status of the check that catches an exploit, after the cases before it; or that there is none."""
    exploit = header(EXPLOITS[name])
    for check in grading.checks():
        if check.name == exploit["caught"]:
            return check.run().status
        if check.rung == "correct" and not exploit["needs"]:
            check.run()
    return "no such check"
