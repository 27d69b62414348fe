"""Walls around a worker, in layers; each is used where a trial run has shown that it stands.

- namespaces: a root of its own with only Python, the libraries and the submission's file in it, all read-only; no
  network; no process in sight but its own, and all of them end with the first.
- landlock: the kernel refuses files beyond those, TCP, and signals to processes outside, also inside containers
  that allow no namespaces.
- limits: processes, open files, file sizes and memory.

`python -m workbook.sandbox.probe` tries them. Nothing heavy is imported here: the trial must not cost a second, and a
worker enters before it loads the submission.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from functools import cache

from . import landlock, namespaces, processes
from .processes import OVER_MEMORY, end, submission

__all__ = ["LAYERS", "MEMORY", "OVER_MEMORY", "end", "enter", "layers", "missing", "submission", "trial"]

LAYERS = ("namespaces", "landlock", "limits")
# bytes that a worker's processes may use, by its mode
MEMORY = {"interpret": 4 << 30, "simulate": 4 << 30, "compile": 8 << 30, "gpu": 48 << 30}
PROCESSES, FILES, FILE_BYTES = 128, 512, 256 << 20
PR_SET_NO_NEW_PRIVS = 38


@cache
def trial() -> dict[str, str]:
    """Each layer -> an empty string where it stands here, or why it does not."""
    command = [sys.executable, "-m", "workbook.sandbox.probe"]
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(namespaces.OWN), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    }
    try:
        done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        return json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return dict.fromkeys(LAYERS, f"the trial did not run: {error}")


def layers() -> list[str]:
    """The layers that workers are put into here."""
    return [name for name, reason in trial().items() if not reason]


def missing() -> str:
    """Why untrusted work cannot be contained here, or an empty string."""
    if not {"namespaces", "landlock"} & set(layers()):
        reasons = "; ".join(f"{name}: {reason}" for name, reason in trial().items() if reason)
        return f"nothing contains a submission here ({reasons})"
    return ""


def enter(names: list[str], mode: str, file: str, scratch: str, seed: str, keep: set[int]) -> None:
    """Returns in a process inside the walls. The calling one stays outside, watches its memory, and ends as it ends.

    file: the submission, which is copied in. scratch: an empty folder, the only one that the worker may write to.
    seed: a folder whose content becomes Triton's cache. keep: descriptors that stay open inside.
    """
    sys.stdout.flush()
    processes.die_with_parent()
    isolated = "namespaces" in names
    user = (os.getuid(), os.getgid())
    if isolated:
        namespaces.unshare(*user)
    processes.adopt_orphans()
    child = os.fork()
    if child:
        processes.close_all(set())
        processes.watch(child, MEMORY[mode])
    processes.die_with_parent()
    if isolated:
        namespaces.build_root(scratch, file, seed, mode == "gpu")
        scratch = namespaces.SCRATCH
        child = os.fork()
        if child:  # the first process of the namespace: the others end with it
            processes.close_all(set())
            processes.exit_as(processes.wait(child))
        processes.die_with_parent()
        namespaces.drop_privileges(*user)
        processes.die_with_parent()  # a change of user has undone it
    else:
        shutil.copytree(seed, os.path.join(scratch, "triton"), dirs_exist_ok=True)
    os.setsid()
    processes.close_all(keep)
    os.chdir(scratch)
    tempfile.tempdir = None
    os.environ.update(HOME=scratch, TMPDIR=scratch, TRITON_CACHE_DIR=os.path.join(scratch, "triton"), USER="learner")
    processes.libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if "limits" in names:
        _limit(isolated, mode)
    if "landlock" in names:
        devices = namespaces.devices(mode == "gpu")
        own = ["/proc"] if mode == "gpu" else []  # where CUDA names its threads
        landlock.restrict(read=[*namespaces.visible(), file, "/sys", "/proc"], write=[scratch, *devices, *own])


def _limit(isolated: bool, mode: str) -> None:
    limits = {"CORE": 0, "NOFILE": FILES, "FSIZE": FILE_BYTES}
    # in a namespace it counts what runs there, elsewhere all that the user runs
    limits["NPROC"] = PROCESSES if isolated else PROCESSES + processes.running(os.getuid())
    if mode != "gpu":  # CUDA reserves more than it uses
        limits["DATA"] = MEMORY[mode]
    for name, value in limits.items():
        number = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(number)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (value, value))
