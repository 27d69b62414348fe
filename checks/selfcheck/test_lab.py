"""The labs run from the first cell to the last, and `make lab` opens a copy that nobody overwrites."""

import os
import shutil
import subprocess

import jupytext
import nbclient
import pytest
from typer.testing import CliRunner
from workbook import catalog, cli, lab, report

SECONDS = 120


@pytest.mark.timed
@pytest.mark.parametrize("stage", lab.labs())
def test_lab(stage, monkeypatch):
    """Each of its cells, where the learner runs it; on a GPU where there is one."""
    monkeypatch.setenv("PYTHONPATH", str(catalog.CHECKS))
    file = lab.labs()[stage]
    notebook = jupytext.read(file)
    nbclient.execute(notebook, cwd=str(file.parent), timeout=SECONDS, kernel_name="python3")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not [output for cell in code for output in cell.outputs if output.get("name") == "stderr"]
    assert sum("image/svg+xml" in output.get("data", ()) for cell in code for output in cell.outputs) >= 8


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A checkout of its own that holds one lab, in which Jupyter is not started but told of."""
    copied = tmp_path / "stages/1_fundamentals/lab.py"
    copied.parent.mkdir(parents=True)
    shutil.copy(lab.labs()["1"], copied)
    monkeypatch.setattr(catalog, "ROOT", tmp_path)
    monkeypatch.setattr(catalog, "STAGES", tmp_path / "stages")
    monkeypatch.setattr(report.console, "_width", 500)
    return copied


def run(*words: str, status: int = 0, patch) -> tuple[int, str, list]:
    asked = []
    patch.setattr(lab, "open_in_jupyter", lambda *words: asked.append(words) or status)
    result = CliRunner().invoke(cli.app, ["lab", *words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output, asked


def test_a_notebook_is_made_once_and_then_is_the_learners(mine, monkeypatch):
    notebook = mine.with_suffix(".ipynb")
    status, told, asked = run("1", "--port", "8890", patch=monkeypatch)
    assert (status, asked) == (0, [(notebook, ["--port", "8890"])]) and "is yours" in told and "earlier" not in told
    changed = notebook.read_text().replace("Nothing is graded here", "My own words")
    notebook.write_text(changed)
    mine.write_text(mine.read_text() + "\n# %%\n1 + 1\n")
    status, told, _ = run("1", patch=monkeypatch)
    assert status == 0 and "was made from an earlier lab.py" in told
    assert notebook.read_text() == changed


def test_what_is_in_the_way_is_told_in_a_line(mine, monkeypatch):
    assert run(patch=monkeypatch)[:2] == (2, "which stage?; there are labs of 1: make lab STAGE=1\n")
    assert "there is no lab of stage 7; there are labs of 1" in run("7", patch=monkeypatch)[1]
    status, told, _ = run("1", status=1, patch=monkeypatch)
    assert status == 1 and "JupyterLab ended with status 1" in told and "--port 8890" in told
    mine.with_suffix(".ipynb").write_text("no notebook")
    status, told, asked = run("1", patch=monkeypatch)
    assert (status, asked) == (2, []) and "is no notebook" in told and "move it away" in told
    monkeypatch.setattr(lab, "find_spec", lambda name: None if name == "jupyterlab" else 1)
    status, told, asked = run("1", patch=monkeypatch)
    assert (status, asked) == (2, []) and "-m pip install jupyterlab" in told


def test_jupyter_gets_the_notebook_and_finds_the_workbook(mine, monkeypatch):
    """A port that cannot be had is Jupyter's to tell, in words."""
    calls = []
    monkeypatch.setattr(subprocess, "call", lambda command, **where: calls.append((command, where)) or 0)
    monkeypatch.setattr(lab.signal, "signal", lambda *_: None)
    lab.open_in_jupyter(mine.with_suffix(".ipynb"), ["--no-browser"])
    ((command, where),) = calls
    at = "--LabApp.default_url=/lab/tree/stages/1_fundamentals/lab.ipynb"
    assert command[1:] == ["-m", "jupyterlab", f"--ServerApp.root_dir={catalog.ROOT}", at, "--no-browser"]
    assert where["cwd"] == catalog.ROOT and where["env"]["PYTHONPATH"].split(os.pathsep)[0] == str(catalog.CHECKS)
