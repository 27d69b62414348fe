"""The lab of a stage in JupyterLab: lab.py is the workbook's, lab.ipynb beside it is made once and the learner's.

Git ignores the notebook, so that neither an update nor a second `make lab` touches what a learner did in it.
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
    return f"{', '.join(lacking)} missing for {sys.executable}: `{sys.executable} -m pip install {' '.join(lacking)}`"


def lay(lab: Path) -> tuple[Path, bool]:
    """The learner's notebook, made if it is not there; and whether it was made from another lab.py than today's."""
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
        raise CannotOpen(
            f"{notebook} cannot be read ({error}): move it away, and the next call makes it anew"
        ) from None
    return notebook, False


def open_in_jupyter(notebook: Path, words: list[str]) -> int:
    """Runs JupyterLab on it until it is told to end; its exit status. words: what else it is told, as --port 8890."""
    paths = [str(catalog.CHECKS), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, "-m", "jupyterlab", str(notebook.relative_to(catalog.ROOT)), *words]
    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is Jupyter's, which asks before it ends
    return subprocess.call(command, cwd=catalog.ROOT, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)})
