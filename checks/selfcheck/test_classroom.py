"""A class graded: whatever is handed in gets one truthful result, and a kill loses nothing."""

import csv
import json
import os
import signal
import stat
import subprocess
import sys
import time
import zipfile
from xml.etree import ElementTree

import pytest
from workbook import catalog, new, sandbox
from workbook.classroom import grading, results, rubric, submissions
from workbook.classroom.submissions import FILE_BYTES, Submission, Unreadable

PART = catalog.select("1.1a")[0]
SOURCE = PART.file(catalog.SOLUTIONS).read_text()
WANTED = [part.path for part in catalog.parts()]


def lay(folder, source=SOURCE, path=f"stages/{PART.path}"):
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(source if isinstance(source, bytes) else source.encode())
    return folder


def taken(source):
    submission = Submission("ann", source)
    submissions.read(submission, WANTED)
    return submission


def zipped(file, entries):
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return file


@pytest.mark.parametrize("above", ["", "stages/", "wrapped/stages/", "a/b/triton/stages/"])
def test_files_are_found_wherever_they_are_wrapped(tmp_path, above):
    folder = lay(tmp_path / "ann", path=above + PART.path)
    assert taken(folder).files == {PART.path: SOURCE.encode()}
    archive = zipped(tmp_path / "ann.zip", [(above + PART.path, SOURCE)])
    assert taken(archive).files == {PART.path: SOURCE.encode()}


def test_the_whole_workbook_is_its_stages(tmp_path):
    folder = lay(tmp_path / "ann", source="mine")
    for other in ("solutions", "checks", "checks/stubs", ".git"):
        lay(folder, source="theirs", path=f"{other}/{PART.path}")
    assert taken(folder).files == {PART.path: b"mine"}


def test_a_lone_file_is_known_by_its_name(tmp_path):
    assert taken(lay(tmp_path / "ann", path="homework/a_add.py")).files == {PART.path: SOURCE.encode()}


def test_links_and_devices_are_not_followed(tmp_path):
    secret = tmp_path / "secret.py"
    secret.write_text("secret")
    folder = lay(tmp_path / "ann", path="notes.txt")
    (folder / "stages/1_fundamentals").mkdir(parents=True)
    (folder / "stages" / PART.path).parent.mkdir(parents=True)
    (folder / "stages" / PART.path).symlink_to(secret)
    (folder / "stages/1_fundamentals/2_reductions").symlink_to(tmp_path)
    os.mkfifo(folder / "stages/1_fundamentals/pipe")
    submission = taken(folder)
    assert submission.files == {}
    assert "2 symbolic links were not followed" in " ".join(submission.notes)


def test_a_pipe_at_a_wanted_path_does_not_hang(tmp_path):
    folder = lay(tmp_path / "ann", path="notes.txt")
    (folder / PART.path).parent.mkdir(parents=True)
    os.mkfifo(folder / PART.path)
    assert taken(folder).files == {}


def test_a_zip_leads_nowhere_else(tmp_path):
    link = zipfile.ZipInfo(f"b/{PART.path}")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive = zipped(
        tmp_path / "ann.zip",
        [
            (f"/{PART.path}", "absolute"),
            (f"../{PART.path}", "above"),
            (f"C:/{PART.path}", "drive"),
            (link, "/etc/passwd"),
        ],
    )
    submission = taken(archive)
    assert submission.files == {}
    assert submission.notes[0].startswith("4 entries lead out of the zip or are links")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ann.zip"]


def test_a_zip_bomb_is_not_unpacked(tmp_path):
    archive = zipped(tmp_path / "ann.zip", [(PART.path, b"#" * (200 << 20)), ("more", b"0" * (50 << 20))])
    started = time.monotonic()
    submission = taken(archive)
    assert time.monotonic() - started < 2
    assert submission.files == {}
    assert f"larger than {FILE_BYTES >> 10} KB" in submission.notes[0]


@pytest.mark.parametrize(
    "data, words",
    [
        (b"", "damaged"),
        (b"PK\x03\x04 and no more", "damaged"),
        (b"Rar!\x1a\x07", "damaged"),
        (
            b"PK\x01\x02"
            + bytes([20, 0, 20, 0, 0, 8])
            + bytes(18)
            + b"\2"
            + bytes(17)
            + b"\xff\xfe"
            + b"PK\5\6"
            + bytes(4)
            + bytes([1, 0, 1, 0, 48, 0, 0, 0])
            + bytes(6),
            "damaged.*utf-8",
        ),
    ],
)
def test_a_damaged_zip_says_so(tmp_path, data, words):
    (tmp_path / "ann.zip").write_bytes(data)
    with pytest.raises(Unreadable, match=words):
        taken(tmp_path / "ann.zip")


def test_what_cannot_be_unpacked_says_so(tmp_path):
    with zipfile.ZipFile(tmp_path / "ann.zip", "w") as archive:
        archive.writestr(".", "no name")
        archive.writestr(PART.path, SOURCE, zipfile.ZIP_LZMA)
    data = bytearray((tmp_path / "ann.zip").read_bytes())
    start = data.index(PART.path.encode()) + len(PART.path) + 4
    data[start : start + 40] = b"\xff" * 40
    (tmp_path / "ann.zip").write_bytes(data)
    with pytest.raises(Unreadable, match="damaged"):
        taken(tmp_path / "ann.zip")


def test_other_files_of_the_folder_are_named(tmp_path):
    lay(tmp_path / "ann")
    (tmp_path / "ben.rar").write_bytes(b"Rar!")
    found, others = submissions.find(tmp_path)
    assert ([s.name for s in found], others) == (["ann"], ["ben.rar"])


def test_a_pipe_that_is_called_a_zip_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "ann.zip")
    with pytest.raises(Unreadable, match="neither a folder nor a file"):
        taken(tmp_path / "ann.zip")


def test_a_folder_that_cannot_be_listed_is_not_an_empty_one(tmp_path, monkeypatch):
    def refuse(folder):
        raise PermissionError(13, "Permission denied", folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(Unreadable, match="cannot be read: Permission denied"):
        taken(lay(tmp_path / "ann"))


@pytest.mark.parametrize("name", [os.fsdecode(b"\xff\xfe"), "\U00020000" * 63, "a" * 255, "-="])
def test_every_name_is_fit_for_a_file(tmp_path, name):
    lay(tmp_path / name)
    (submission,), _ = submissions.find(tmp_path)
    (tmp_path / f".{submission.name}.junit.xml.{2**22}").touch()  # the longest that is made of it
    assert submission.name.isprintable()


def test_two_of_one_name_are_both_kept(tmp_path):
    lay(tmp_path / "Ann")
    zipped(tmp_path / "ann.zip", [(PART.path, SOURCE)])
    lay(tmp_path / "=cmd|calc!A0")
    found, _ = submissions.find(tmp_path)
    assert [s.name for s in found] == ["cmd_calc_A0", "Ann", "ann-2"]
    assert all("have one name" in submission.notes[0] for submission in found[1:])


RUBRIC = rubric.load(rubric.DEFAULT)


def checks(**statuses):
    return [{"rung": rung, "status": status} for rung, several in statuses.items() for status in several.split()]


@pytest.mark.parametrize(
    "statuses, gpu, points, out_of",
    [
        (dict(correct="pass pass", compiles="pass", moves="pass", fast="pass"), True, 10, 10),
        (dict(correct="pass pass", compiles="pass", moves="pass", fast="ungraded"), False, 8, 8),
        (dict(correct="pass pass", compiles="pass", moves="pass", fast="inconclusive"), True, 8, 8),
        (dict(correct="pass fail", compiles="reach", moves="reach", fast="reach"), True, 2.5, 10),
        (dict(correct="pass fail", compiles="reach", moves="reach", fast="reach"), False, 2.5, 8),
        (dict(correct="todo reach", compiles="reach", moves="reach", fast="reach"), False, 0, 8),
        (dict(correct="pass ungraded", compiles="pass fail", moves="fail", fast="fail"), True, 5.5, 10),
        (dict(correct="error"), True, 0, 0),
    ],
)
def test_points(statuses, gpu, points, out_of):
    told = [{**c, "status": c["status"].replace("reach", "not reached")} for c in checks(**statuses)]
    earned = RUBRIC.part("1.1a", told, gpu)
    assert (earned["points"], earned["out_of"]) == (points, out_of)


@pytest.mark.parametrize(
    "text, words",
    [
        ("points = ", "is not TOML"),
        ("point = 3", "'point' is unknown"),
        ("points = -1", "points is -1"),
        ("[weights]\nspeed = 1", "'speed' is unknown"),
        ("[points_of]\n'9.9z' = 1", "'9.9z' is unknown"),
        ("[late]\ndue = 2026-12-01", "late.due is a time with its zone"),
        ("[late]\ndue = 2026-12-01T00:00:00Z", "late.times names a CSV"),
        ("[late]\ndue = 2026-12-01T00:00:00Z\ntimes = 'none.csv'", "cannot be read"),
        ("[late]\ndue = 2026-12-01T00:00:00Z\ntimes = 'bad.csv'", "bad.csv:2: the columns are"),
    ],
)
def test_a_bad_rubric_says_what_is_wrong(tmp_path, text, words):
    (tmp_path / "rubric.toml").write_text(text)
    (tmp_path / "bad.csv").write_text("submission,time\nann,yesterday\n")
    with pytest.raises(rubric.BadRubric, match=words):
        rubric.load(tmp_path / "rubric.toml")


def test_late_work_loses_by_the_day(tmp_path):
    (tmp_path / "rubric.toml").write_text(
        "points = 4\n[points_of]\n'1.1' = 6\n[late]\ndue = 2026-12-01T12:00:00+00:00\ntimes = 'times.csv'\n"
        "grace_hours = 1\nlost_per_day = 0.2\nleast = 0.5\n"
    )
    (tmp_path / "times.csv").write_text(
        "submission,time\nann,2026-12-01T12:59:00Z\nbob,2026-12-02T13:00:00+00:00\ncy,2027-01-01T00:00:00Z\n"
    )
    read = rubric.load(tmp_path / "rubric.toml")
    assert [read.late.of(name)["factor"] for name in ("ann", "bob", "cy", "dora")] == [1.0, 0.6, 0.5, 1.0]
    assert [read.part(id, checks(correct="pass"), True)["out_of"] for id in ("1.1a", "1.2a")] == [6, 4]


def grade(folder, out, *arguments, **more):
    command = [sys.executable, "-m", "workbook", "grade", str(folder), str(out), "--id", "1.1a", *arguments]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300, **more)


def environment():
    return os.environ | {"PYTHONPATH": str(catalog.CHECKS)}


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """A small class of all kinds, graded: (its folder, the folder of its results, what was printed)."""
    folder, out = tmp_path_factory.mktemp("class") / "in", tmp_path_factory.mktemp("results") / "out"
    lay(folder / "honest")
    lay(folder / "stub", new.stub_of(PART))
    lay(folder / "latin", SOURCE.replace('"""Vector add', '"""Vécteur').encode("latin-1"))
    lay(folder / "loud", SOURCE.replace("def add(", 'print("x" * 10**7)\n\n\ndef add('))
    lay(folder / "+cmd", SOURCE.replace("x + y", "x - y"))
    lay(folder / "empty", path="README.md")
    zipped(folder / "honest.zip", [(f"x/stages/{PART.path}", SOURCE)])
    (folder / "torn.zip").write_bytes(b"PK")
    return folder, out, grade(folder, out)


def test_every_submission_gets_a_result(graded):
    _, out, done = graded
    assert done.returncode == 1  # one could not be graded
    found = {
        name: json.loads((out / f"results/{name}.json").read_text())
        for name in ("honest", "honest-2", "stub", "latin", "loud", "cmd", "empty", "torn")
    }
    full = found["honest"]["out_of"]
    assert full > 0
    assert {name: result["points"] for name, result in found.items()} == {
        "honest": full, "honest-2": full, "loud": full, "stub": 0, "latin": 0, "cmd": found["cmd"]["points"],
        "empty": 0, "torn": 0,
    }  # fmt: skip
    assert found["cmd"]["points"] < full / 2
    assert {name for name, result in found.items() if result["status"] != "graded"} == {"torn"}
    assert found["torn"]["reason"].startswith("the zip is damaged")
    first = {name: result["parts"]["1.1a"]["checks"][0] for name, result in found.items() if result["parts"]}
    assert first["latin"]["message"] == "the file is not UTF-8 text"
    assert first["stub"]["status"] == "todo"
    assert first["empty"]["message"].startswith("there is no file a_add.py")
    assert len(first["loud"]["printed"]) == 2000
    assert found["honest"]["provenance"]["layers"] == sandbox.layers()
    assert "Traceback" not in done.stdout + done.stderr


def test_the_table_and_the_suites(graded):
    _, out, _ = graded
    with (out / "class.csv").open(newline="") as opened:
        rows = {row["submission"]: row for row in csv.DictReader(opened)}
    assert len(rows) == 8
    assert rows["torn"]["status"] == "could not be graded"
    assert rows["honest"]["1.1a"] == rows["honest"]["points"]
    suites = {file.stem: ElementTree.parse(file).getroot() for file in (out / "results").glob("*.junit.xml")}
    assert len(suites) == 8
    assert suites["honest.junit"].findall(".//failure") == []
    assert suites["cmd.junit"].findall(".//failure")
    assert suites["torn.junit"].findall(".//error")
    assert (out / "class.html").stat().st_size > 10_000


def test_the_same_again_grades_nothing(graded, tmp_path):
    folder, out, _ = graded
    before = {file.name: json.loads(file.read_text())["seconds"] for file in (out / "results").glob("*.json")}
    (tmp_path / "rubric.toml").write_text("points = 3\n")
    done = grade(folder, out, "--rubric", str(tmp_path / "rubric.toml"))
    assert "1 graded, 7 kept from before" in done.stdout  # what could not be graded is tried again
    after = {file.name: json.loads(file.read_text()) for file in (out / "results").glob("*.json")}
    assert {name: result["seconds"] for name, result in after.items() if name != "torn.json"} == {
        name: seconds for name, seconds in before.items() if name != "torn.json"
    }
    assert after["honest.json"]["out_of"] < 3.01


def test_a_kill_loses_at_most_what_is_in_hand(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    for name in ("a", "b", "c", "d"):
        lay(folder / name)
    command = [sys.executable, "-m", "workbook", "grade", str(folder), str(out), "--id", "1.1a", "--jobs", "1"]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while len(list((out / "results").glob("[abcd].json")) if out.exists() else []) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = {file.name: file.read_bytes() for file in (out / "results").glob("?.json")}
    assert 2 <= len(kept) < 4
    done = grade(folder, out)
    assert f"{4 - len(kept)} graded, {len(kept)} kept from before" in done.stdout
    assert all((out / "results" / name).read_bytes() == text for name, text in kept.items())
    assert done.returncode == 0


def test_a_grader_that_dies_is_not_the_students_fault(tmp_path, monkeypatch):
    work = grading.Class(tmp_path / "in", tmp_path / "out", [PART], RUBRIC)
    lay(tmp_path / "in/ann")
    monkeypatch.setattr(grading.sys, "executable", "/bin/false")
    (result,) = work.grade(lambda name: None, lambda result, kept: None)
    assert (result["status"], result["out_of"]) == ("could not be graded", 0)
    assert result["reason"] == "its grader ended with status 1; logs/ann.log tells more"
    assert results.junit(result).count("<error") == 1


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["in", "in/out"], "lie in one another"),
        (["none", "out"], "there is no folder"),
        (["empty", "out"], "holds no submission"),
        (["in", "out", "--rubric", "none.toml"], "cannot be read"),
        (["in"], "for example: make grade"),
    ],
)
def test_bad_arguments_get_one_line(tmp_path, arguments, words):
    lay(tmp_path / "in/ann")
    (tmp_path / "empty").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "workbook", "grade", *arguments],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
