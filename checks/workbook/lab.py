"""The lab of a stage, opened in JupyterLab: lab.py is the workbook's, lab.ipynb beside it the learner's.

The notebook is made once, and git ignores it: no update and no second `make lab` touches what a learner did in it.
"""

import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from . import catalog, progress

NEEDED = ("jupyterlab", "jupytext", "ipykernel")


class CannotOpen(Exception):
    """The message says why, and what to do."""


def labs() -> dict[str, Path]:
    """The labs by their stages."""
    return {file.parent.name[0]: file for file in sorted(catalog.STAGES.glob("[0-9]_*/lab.py"))}


def missing() -> str:
    """Which packages a lab needs and this Python lacks, in one sentence; or an empty string."""
    lacking = [name for name in NEEDED if not find_spec(name)]
    if not lacking:
        return ""
    return f"not installed here: {', '.join(lacking)}: `{sys.executable} -m pip install {' '.join(lacking)}`"


def lay(lab: Path) -> tuple[Path, bool]:
    """The learner's notebook, made if it is not there; and whether it was made from an earlier lab.py."""
    import jupytext

    notebook, digest = lab.with_suffix(".ipynb"), progress.digest(lab)
    try:
        if notebook.exists():
            return notebook, jupytext.read(notebook).metadata.get("lab") != digest
        fresh = jupytext.read(lab)
        fresh.metadata["lab"] = digest
        jupytext.write(fresh, notebook)
    except OSError as error:
        raise CannotOpen(f"{notebook} cannot be written: {error.strerror}") from None
    except Exception as error:  # whatever is not a notebook
        raise CannotOpen(f"{notebook} is no notebook ({error}): move it away, and it is made anew") from None
    return notebook, False


def open_in_jupyter(notebook: Path, words: list[str]) -> int:
    """Runs JupyterLab on it until it is told to end; its exit status. words: what else it is told, as --port 8890."""
    paths = [str(catalog.CHECKS), *filter(None, [os.environ.get("PYTHONPATH")])]
    at = f"/lab/tree/{notebook.relative_to(catalog.ROOT).as_posix()}"
    places = [f"--ServerApp.root_dir={catalog.ROOT}", f"--LabApp.default_url={at}"]
    command = [sys.executable, "-m", "jupyterlab", *places, *words]
    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is Jupyter's, which asks before it ends
    return subprocess.call(command, cwd=catalog.ROOT, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)})
