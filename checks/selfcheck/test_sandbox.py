"""The walls around a worker: each stands because it was tried, and the trial can fail."""

import os
import time

import pytest
from workbook import catalog, sandbox
from workbook.sandbox import probe, processes
from workbook.words import told

PART = catalog.select("1.1a")[0]
SOURCE = PART.file(catalog.SOLUTIONS).read_text()
LOOK = """
import os


def look(what):
    try:
        return what()
    except OSError as error:
        return type(error).__name__


print("checks", look(lambda: os.listdir({checks!r})))
print("solution", look(lambda: len(open({solution!r}).read())))
print("write", look(lambda: open("/usr/mine", "w")))
print("processes", [p for p in os.listdir("/proc") if p.isdigit()])
print("user", os.getuid())
print("environment", sorted(os.environ))
opened = [look(lambda fd=fd: os.readlink(f"/proc/self/fd/{{fd}}")) for fd in os.listdir("/proc/self/fd") if int(fd) > 2]
print("descriptors", *(name[:8] for name in opened if name != "FileNotFoundError"))  # but the one that lists them
"""


@pytest.fixture
def seen(grade, monkeypatch):
    """What a submission saw of the machine, line by line."""
    monkeypatch.setenv("SECRET_OF_THE_COURSE", "42")
    solution = str(PART.file(catalog.SOLUTIONS))
    grading = grade(PART, SOURCE + LOOK.format(checks=str(catalog.CHECKS), solution=solution))
    verdict = grading.correct(PART.exercise.cases[0])
    assert verdict.status == "pass", verdict.message
    return dict(line.split(" ", 1) for line in verdict.printed.splitlines())


def test_a_submission_sees_neither_the_checks_nor_the_solutions(seen):
    if not {"namespaces", "landlock"} & set(sandbox.layers()):
        assert sandbox.missing()
        return
    assert seen["checks"] in ("FileNotFoundError", "PermissionError")
    assert seen["solution"] in ("FileNotFoundError", "PermissionError")
    assert seen["write"] in ("OSError", "PermissionError")


def test_a_submission_is_nobody_in_a_world_of_its_own(seen):
    if "namespaces" in sandbox.layers():
        assert seen["processes"] == "['1', '2']"
        assert seen["user"] != "0"


def test_a_submission_inherits_nothing(seen):
    assert "SECRET_OF_THE_COURSE" not in seen["environment"]
    # its arena, its channel, the file for its last words
    assert set(seen["descriptors"].split()) == {"/memfd:a", "/memfd:c", "socket:["}


@pytest.mark.parametrize("layer", sandbox.LAYERS)
def test_a_layer_that_does_not_stand_is_found_out(layer, monkeypatch):
    def enter(names, mode, file, scratch, seed, keep):
        os.chdir(scratch)

    monkeypatch.setattr(probe, "enter", enter)
    assert probe._try(layer) in ("other files can be read", "no limit holds")


def test_a_layer_that_cannot_be_had_says_why(monkeypatch):
    def refuse(*arguments):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(probe, "enter", refuse)
    assert "Operation not permitted" in probe._try("namespaces")


def test_without_walls_class_grading_is_refused(monkeypatch):
    monkeypatch.setattr(sandbox, "trial", lambda: dict.fromkeys(sandbox.LAYERS, "not on this kernel"))
    assert sandbox.missing() == (
        "nothing contains a submission here "
        "(namespaces: not on this kernel; landlock: not on this kernel; limits: not on this kernel)"
    )
    monkeypatch.setattr(sandbox, "trial", lambda: {"namespaces": "no", "landlock": "", "limits": ""})
    assert sandbox.missing() == ""


def test_a_sandbox_that_breaks_is_no_fault_of_the_learner():
    error = {"type": "NoSandbox", "message": "the sandbox does not stand: to mount /proc", "line": None}
    assert told(error, PART, PART.exercise, PART.file(catalog.STAGES)).status == "error"


def test_a_child_that_leaves_its_session_is_still_found():
    child = os.fork()
    if child == 0:
        if os.fork() == 0:
            os.setsid()
        os.execlp("sleep", "sleep", "30")
    deadline = time.monotonic() + 10
    while not (below := processes.descendants(child)) and time.monotonic() < deadline:
        time.sleep(0.01)
    for pid in [*below, child]:
        os.kill(pid, 9)
    os.waitpid(child, 0)
    assert len(below) == 1
