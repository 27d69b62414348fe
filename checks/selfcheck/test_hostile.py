"""Hostile submissions: each fails with a sentence, in bounded time, and neither the next nor the machine is hurt.

A file in corpus/hostile joins by itself. Its comments `# says:` (an expression that the verdict's sentence matches),
`# seconds:` (its deadline) and `# needs: gpu` belong to the test, and the words {marker}, {secret}, {canary} and {port}
in it are filled in here.
"""

import re
import secrets
import socket
import time
from pathlib import Path

import pytest
import torch
from workbook import catalog, grader

PART = catalog.select("1.1a")[0]
HOSTILE = sorted((Path(__file__).parent / "corpus" / "hostile").glob("*.py"))
HERE = [file for file in HOSTILE if torch.cuda.is_available() or "# needs: gpu" not in file.read_text()]
DEADLINE = 3.0  # seconds, for the import and for the call, where the file has no `# seconds:`
GONE = 10.0  # seconds that a machine under load may take to free what a killed process held
ENDING = 6.0  # seconds; a worker has 5 to be gone after its deadline
SHARED = (Path("/dev/shm"), Path("/tmp"))  # folders where a submission may leave something
# every process and thread that the submission starts inherits this name
NAMED = "import ctypes; ctypes.CDLL(None).prctl(15, b'{marker}')\n"


@pytest.fixture
def target(tmp_path):
    """What a submission may try to reach, by the name of its place in the source."""
    secret, canary = tmp_path / "other" / "a_vector_add.py", tmp_path / "canary"
    secret.parent.mkdir()
    secret.write_text("# the work of another"), canary.write_text("alive")
    for path in (tmp_path, secret.parent):
        path.chmod(0o755)  # only the sandbox stands before them
    canary.chmod(0o666)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        places = {"marker": f"hostile{secrets.token_hex(4)}", "secret": secret, "canary": canary}
        yield places | {"port": listener.getsockname()[1], "listener": listener}
    for path in written(places["marker"]):
        path.unlink()


def written(marker: str) -> list[Path]:
    return [path for folder in SHARED for path in folder.glob(f"{marker}*")]


def alive(marker: str) -> list[str]:
    """The processes with a name; one that has ended and is not yet reaped does nothing more."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            name, state = re.search(r"\((.*)\) (\w)", (process / "stat").read_text()).groups()
        except OSError:
            continue
        if name == marker and state != "Z":
            found.append(process.name)
    return found


def said(source: str, name: str) -> str:
    found = re.search(f"^# {name}: (.+)$", source, re.M)
    return found[1] if found else ""


def filled(file: Path, target: dict) -> str:
    text = NAMED + file.read_text()
    for name, value in target.items():
        text = text.replace(f"{{{name}}}", str(value))
    return text


@pytest.mark.parametrize("file", [pytest.param(file, id=file.stem) for file in HERE])
def test_hostile(file, grade, target, monkeypatch):
    source, case = filled(file, target), PART.exercise.cases[0]
    deadline = float(said(source, "seconds") or DEADLINE)
    assert grade(PART).correct(case).status == "pass"  # the server is warm: its start is not the submission's time
    with monkeypatch.context() as patch:
        for mode in ("import", "interpret", "gpu"):
            patch.setitem(grader.DEADLINE, mode, deadline)
        start = time.monotonic()
        grading = grade(PART, source)
        verdict = grading.correct(case)
        grading.__exit__()
        seconds = time.monotonic() - start
    time.sleep(1)
    gone_by = time.monotonic() + GONE
    while (left := alive(target["marker"])) and time.monotonic() < gone_by:
        time.sleep(0.1)
    assert seconds < 2 * deadline + ENDING
    assert verdict.status == "fail"
    assert re.search(said(source, "says"), verdict.message), verdict.message
    assert "Traceback" not in verdict.message
    assert left == []
    assert target["secret"].read_text() not in verdict.message + verdict.printed
    assert target["canary"].read_text() == "alive"
    assert grading.file.read_text() == source
    assert written(target["marker"]) == []
    with pytest.raises(BlockingIOError):
        target["listener"].accept()
    assert grade(PART).correct(case).status == "pass"


def test_there_are_enough():
    assert len(HOSTILE) >= 15
