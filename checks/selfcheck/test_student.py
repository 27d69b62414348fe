"""The edition that a class gets: it grades as the workbook does, and gives nothing away."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from workbook import catalog, new
from workbook.classroom import student, trim

SPEC = """import torch
from workbook.exercise import Bug, Exercise, Variant, case

KEPT = 1  # ä


# what only bugs need
OLD, NEW = "a", "b"


def older(x):
    return OLD


def reference(x):
    return x + KEPT


exercise = Exercise(
    cases=[case(n=1)],
    # each of them subtle
    bugs=[Bug("ä", (older(1), NEW), caught="n=1")],
    variants=[
        Variant("b", fill={1: "c"}),
    ],
    # to the last bit
    deterministic=True,
)
"""


def test_a_spec_loses_its_bugs_and_what_only_they_need():
    expected = SPEC.replace("Bug, Exercise, Variant, case", "Exercise, case")
    expected = re.sub(r"# what only.*?(?=def reference)", "", expected, flags=re.S)
    expected = re.sub(r"    # each of them.*?(?=    # to the last)", "", expected, flags=re.S)
    assert trim.trimmed(SPEC) == expected


@pytest.mark.parametrize(
    "source, words",
    [
        ("exercise = Exercise(cases=[], bugs=[])\n", "line 1: what is cut out does not stand on lines of its own"),
        ("more = [Bug('x')]\nexercise = Exercise(\n    cases=more,\n)\n", "Bug would be left"),
    ],
)
def test_what_cannot_be_cut_out_is_said(source, words):
    with pytest.raises(ValueError, match=words):
        trim.trimmed(source)


@pytest.fixture(scope="module")
def edition(tmp_path_factory):
    folder = tmp_path_factory.mktemp("class") / "edition"
    student.write(folder)
    return folder


def in_edition(edition: Path, *words: str) -> subprocess.CompletedProcess:
    state = edition.parent / "state"
    env = {
        **os.environ,
        "PYTHONPATH": str(edition / "checks"),
        "CUDA_VISIBLE_DEVICES": "",
        "WORKBOOK_STATE": str(state),
    }
    command = [sys.executable, "-m", "workbook", *words]
    return subprocess.run(command, cwd=edition, env=env, capture_output=True, text=True, timeout=120)


def test_the_edition_grades_as_the_workbook_does(edition, tmp_path):
    part = catalog.select("1.1a")[0]
    mine = part.file(edition / "stages")
    assert mine.read_text() == new.stub_of(part)
    for source, status, code in ((None, "todo", 1), (part.file(catalog.SOLUTIONS).read_text(), "pass", 0)):
        if source:
            mine.write_text(source)
        told = in_edition(edition, "check", "1.1a", "--json", str(tmp_path / "told.json"))
        graded = json.loads((tmp_path / "told.json").read_text())["parts"]["1.1a"]
        assert (told.returncode, graded["status"]) == (code, status), told.stderr
        assert [check["name"] for check in graded["checks"]][-1] == "fast"
    assert "is the stub again" in in_edition(edition, "reset", "1.1a", "--yes").stdout
    assert mine.read_text() == new.stub_of(part)
    assert "this edition has no solutions" in in_edition(edition, "solution", "1.1a").stderr
    assert "hint 1 of 3" in in_edition(edition, "hint", "1.1a").stdout


def test_the_edition_holds_no_answers(edition):
    assert {"Makefile", "CHANGELOG.md", ".gitignore", "stages", "checks"} <= {path.name for path in edition.iterdir()}
    assert (edition / "stages/1_fundamentals/lab.py").exists()
    assert not (edition / "solutions").exists() and not (edition / "checks/selfcheck").exists()
    for part in catalog.parts():
        spec = part.file(edition / "checks").read_text()
        assert "exercise = Exercise(" in spec and not re.search("Bug|Variant|bugs|variants", spec)
    for file in (edition / "checks/measured").glob("*.json"):
        assert "slow" not in (told := json.loads(file.read_text())) and all(
            p.keys() == {"checks"} for p in told["parts"].values()
        )
    assert list(student.given_away(edition)) == []


def test_a_solution_in_the_edition_is_found(tmp_path):
    source = catalog.select("1.2c")[0].file(catalog.SOLUTIONS).read_text()
    (tmp_path / "notes.md").write_text("Indented otherwise:\n\n" + source.replace("    ", "\t"))
    assert list(student.given_away(tmp_path)) == ["blank 1 of 1.2c is answered in notes.md"]


def test_the_edition_is_given_away_never(tmp_path, monkeypatch):
    monkeypatch.setattr(student, "LEFT_OUT", ("checks/selfcheck/",))
    with pytest.raises(student.CannotWrite, match="nothing is written, solutions would be given away: blank 1"):
        student.write(tmp_path / "edition")
    assert list(tmp_path.iterdir()) == []


def test_the_edition_needs_a_folder_of_its_own(tmp_path):
    (tmp_path / "file").touch()
    for folder, words in ((tmp_path, "is there already"), (catalog.ROOT / "edition", "a part of this workbook")):
        with pytest.raises(student.CannotWrite, match=words):
            student.write(folder)


def test_without_git_what_lies_there_is_copied(tmp_path, monkeypatch):
    monkeypatch.setattr(student, "_git", lambda *words: None)
    tracked, untracked = student._files()
    assert {"Makefile", ".gitignore", "checks/workbook/cli.py"} <= set(tracked) and untracked == []
    assert not [path for path in tracked if re.search(r"__pycache__|^solutions|^\.(?!gitignore)|selfcheck", path)]


def test_the_makefile_offers_nothing_that_the_edition_lacks(edition):
    makefile = (edition / "Makefile").read_text()
    assert re.findall(r"^(new|stubs|test|figures|grade|student)\b", makefile, re.M) == []
    assert "selfcheck" not in makefile
    told = subprocess.run(["make", "-C", str(edition), "VENV=", "test"], capture_output=True, text=True)
    assert told.returncode == 2 and "No rule to make target 'test'" in told.stderr
    assert "make check " in subprocess.run(["make", "-C", str(edition)], capture_output=True, text=True).stdout
