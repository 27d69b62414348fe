"""What this machine has, and what can be graded with it. Imports torch only when it is asked for a GPU."""

import importlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

from . import sandbox

PYTHON = (3, 10)
NEEDED = {"torch": ((2, 11), None), "triton": ((3, 6), (3, 9)), "numpy": ((1, 26), None)}  # oldest, newest tested
FIX = "`make` sets up an environment of its own, or `pip install -e '.[pinned]'`"


def versions() -> dict[str, str | None]:
    """The version of Python and of each package that grading needs, None where it is missing."""
    return {"python": platform.python_version()} | {name: _version(name) for name in NEEDED}


def unsupported() -> str:
    """Why nothing can be graded with this Python and these packages, in one sentence; or an empty string."""
    if sys.platform != "linux":
        return "Triton needs Linux: on Windows use WSL 2, on a Mac a Linux machine or a notebook host"
    found = versions()
    for name, (oldest, _) in NEEDED.items():
        if found[name] is None:
            return f"{name} is not installed for {sys.executable}: {FIX}"
        if _numbers(found[name]) < oldest:
            return f"{name} {found[name]} is too old, {_dotted(oldest)} or newer is needed: {FIX}"
    return ""


def no_compiler() -> str:
    """Why Triton cannot build its launcher for a GPU, in one sentence; or an empty string.

    It asks the compiler that CC names, or else gcc or clang, and needs the headers of Python.
    """
    named = os.environ.get("CC")
    if named and not shutil.which(named):
        return f"CC names {named}, and there is no such program: unset CC, or name a C compiler that is installed"
    if not (named or shutil.which("gcc") or shutil.which("clang")):
        return "Triton needs a C compiler on a GPU: `apt install gcc` (or `conda install gcc`), or name yours in CC"
    headers = Path(sysconfig.get_paths()["include"], "Python.h")
    if not headers.exists():
        return f"Triton needs Python's headers on a GPU, and there is no {headers}: `apt install python3-dev`"
    return ""


def gpu() -> dict | None:
    """name, driver, memory (GB), free (GB) and capability of the GPU that torch sees first; None without one."""
    import torch

    if not torch.cuda.is_available():
        return None
    free, total = torch.cuda.mem_get_info()
    major, minor = torch.cuda.get_device_capability()
    return {
        "name": torch.cuda.get_device_name(),
        "driver": _driver(),
        "memory": total / 1e9,
        "free": free / 1e9,
        "capability": f"sm_{major}{minor}",
    }


def rows(root: Path) -> list[tuple[str, str, str, str]]:
    """The examination: what, its mark (pass, fail, or note where it is no fault), what was found, what to do."""
    found, table = versions(), []
    python_ok = sys.version_info >= PYTHON
    table.append(("Python", "pass" if python_ok else "fail", f"{found['python']}, {sys.executable}", ""))
    for name, (oldest, newest) in NEEDED.items():
        if found[name] is None or _numbers(found[name]) < oldest:
            table.append((name, "fail", found[name] or "missing", f"{_dotted(oldest)} or newer is needed: {FIX}"))
        elif newest and _numbers(found[name]) > newest:
            tested = f"tested with {_dotted(oldest)} to {_dotted(newest)} only"
            table.append((name, "note", found[name], tested))
        else:
            table.append((name, "pass", found[name], ""))
    card = gpu() if found["torch"] else None
    if card:
        what = f"{card['name']}, {card['capability']}, {card['free']:.0f} of {card['memory']:.0f} GB free"
        table.append(("GPU", "pass", f"{what}, driver {card['driver']}", ""))
    else:
        table.append(("GPU", "note", "none that torch can use", "all but speed is graded without one"))
    missing = no_compiler()
    table.append(("C compiler", ("fail" if card else "note") if missing else "pass", _compiler(), missing))
    if os.environ.get("TRITON_INTERPRET", "0") != "0":
        table.append(("TRITON_INTERPRET", "note", "set", "speed is not graded while it is: unset TRITON_INTERPRET"))
    layers, amiss = sandbox.layers(), [f"{name}: {why}" for name, why in sandbox.trial().items() if why]
    table.append(("sandbox", "note" if amiss else "pass", ", ".join(layers) or "none", "; ".join(amiss)))
    if not os.access(root, os.W_OK):
        table.append(("checkout", "note", f"{root} is read-only", "progress is not kept; name one in WORKBOOK_STATE"))
    else:
        table.append(("checkout", "pass", str(root), ""))
    return table


def rungs() -> list[tuple[str, str]]:
    """Each rung of the ladder, and why it is not graded here: an empty string where it is."""
    problem = unsupported()
    speed = problem
    if not problem:
        speed = no_compiler() if gpu() else "needs a GPU"
        if not speed and os.environ.get("TRITON_INTERPRET", "0") != "0":
            speed = "TRITON_INTERPRET is set"
    return [("correct", problem), ("compiles", problem), ("moves", problem), ("fast", speed)]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # built by a vendor under another name, perhaps
        try:
            return importlib.import_module(package).__version__
        except (ImportError, AttributeError):
            return None


def _numbers(version: str) -> tuple[int, int]:
    major, minor = version.split("+")[0].split(".")[:2]
    return int(major), int("".join(c for c in minor if c.isdigit()))


def _dotted(numbers: tuple[int, int]) -> str:
    return ".".join(map(str, numbers))


def _compiler() -> str:
    named = os.environ.get("CC")
    return (shutil.which(named) if named else shutil.which("gcc") or shutil.which("clang")) or "none"


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.split()[0]
    except (OSError, IndexError, subprocess.TimeoutExpired):
        return "unknown"
