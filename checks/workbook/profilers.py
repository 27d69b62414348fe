"""The profilers: how each is called, what it needs, and what it means when it fails."""

import contextlib
import glob
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from .counters import METRICS, SECTIONS

LIMIT = 600  # seconds that a tool may take
PERMISSION = "https://developer.nvidia.com/ERR_NVGPUCTRPERM"  # the source of what is said of it below


@dataclass(frozen=True)
class Tool:
    """what: it tells. calls: of the part, that it sees. suffix: of the file that it leaves; opened: by what."""

    name: str
    what: str
    calls: int
    suffix: str
    opened: str
    places: tuple[str, ...] = ()  # of the program, where PATH has none
    program: bool = True  # or a library


TOOLS = {
    tool.name: tool
    for tool in (
        Tool(
            "ncu", "a kernel's counters: what limits it, bandwidth, stalls, occupancy", 1, ".ncu-rep",
            "Nsight Compute: ncu-ui", ("/usr/local/cuda*/bin/ncu", "/opt/nvidia/nsight-compute/*/ncu"),
        ),
        Tool(
            "nsys", "a timeline: kernels, gaps, launches", 10, ".nsys-rep",
            "Nsight Systems: nsys-ui", ("/usr/local/cuda*/bin/nsys", "/opt/nvidia/nsight-systems/*/bin/nsys"),
        ),
        Tool(
            "torch", "torch.profiler's timeline, and torch's own work on the CPU; needs no other program", 10, ".json",
            "https://ui.perfetto.dev", program=False,
        ),
        Tool(
            "proton", "Triton's profiler: time, bytes and flops of each kernel", 10, ".hatchet",
            "proton-viewer -m time/ms FILE, after pip install llnl-hatchet pandas", program=False,
        ),
    )
}  # fmt: skip


class Failed(Exception):
    """The message says why a tool told nothing, and what to do about it."""


def found(tool: Tool) -> str:
    """The path of its program, the newest where several are installed; empty without one."""
    there = [path for place in tool.places for path in glob.glob(place) if os.access(path, os.X_OK)]
    return shutil.which(tool.name) or max(there, key=_numbers, default="")


def missing(tool: Tool) -> str:
    """Why a tool cannot be used here and how to get it, or an empty string."""
    if tool.name == "proton" and not importlib.util.find_spec("triton.profiler"):
        return "this build of Triton has no proton (triton.profiler): the wheels of PyPI do"
    if not tool.program or found(tool):
        return ""
    product = {"ncu": "Nsight Compute", "nsys": "Nsight Systems"}[tool.name]
    package = product.lower().replace(" ", "-")
    return (
        f"there is no {tool.name} on the PATH, nor where NVIDIA's installers put it. It is part of {product}, "
        f"which comes with the CUDA toolkit, or alone from https://developer.nvidia.com/{package}"
    )


def commands(tool: Tool, stem: Path, runner: list[str]) -> list[list[str]]:
    """What to run, in order: the calls under the tool, which leave STEM with its suffix; then what makes that readable.

    Of ncu that is what the last command says, of nsys the file STEM.sqlite.
    """
    if not tool.program:
        return [runner]
    program, file = found(tool), f"{stem}{tool.suffix}"
    if tool.name == "nsys":
        trace = ["--trace=cuda,nvtx", "--sample=none", "--cpuctxsw=none"]
        only = ["--capture-range=cudaProfilerApi", "--capture-range-end=stop"]
        return [
            [program, "profile", *trace, *only, f"--output={file}", *runner],
            [program, "export", "--type=sqlite", f"--output={stem}.sqlite", file],
        ]
    # clocks as they are elsewhere, not held at the base clock; that caches are emptied before each pass is the default
    how = ["--profile-from-start=off", "--clock-control=none"]
    what = ["--set=detailed", *(f"--section={name}" for name in SECTIONS), f"--metrics={','.join(METRICS)}"]
    return [
        [program, *how, *what, "--import-source=yes", f"--export={stem}", *runner],
        [program, f"--import={file}", "--csv", "--page=raw", "--print-units=base"],
    ]


def run(command: list[str]) -> str:
    """What a command says, out and err. Raises Failed where it fails, or does not end."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "PYTHONPATH": _packages()}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, start_new_session=True
    )
    try:
        said = process.communicate(timeout=LIMIT)[0].decode(errors="replace")
    except subprocess.TimeoutExpired:
        raise Failed(f"{Path(command[0]).name} did not end within {LIMIT} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError):  # what the tool itself started, too
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if why := complaint(process.returncode, said):
        raise Failed(why)
    return said


def complaint(status: int, said: str) -> str:
    """Why a tool told nothing, by what it said; an empty string where nothing is wrong with it."""
    if "ERR_NVGPUCTRPERM" in said or "CUPTI_ERROR_INSUFFICIENT_PRIVILEGES" in said:
        return (
            "no permission to read this GPU's counters (ERR_NVGPUCTRPERM): by default the driver lets root alone.\n"
            'As root:         sudo env "PATH=$PATH" make profile ...\n'
            "For all users:   the line `options nvidia NVreg_RestrictProfilingToAdminUsers=0` in a file of "
            "/etc/modprobe.d/, then a reboot (where the driver is in the initrd, update-initramfs -u before)\n"
            "In a container:  start it with --cap-add=SYS_ADMIN\n"
            f"On a rented GPU: its owner has to allow it, and many do not. NVIDIA says more at {PERMISSION}"
        )
    if "driver resource was unavailable" in said.lower():
        return "another profiler holds the counters: DCGM does (dcgmi profiling --pause), or a tool that still runs"
    if "no kernels were profiled" in said.lower():
        return "no kernel was launched in the call that is profiled"
    if "cuptiSubscribe" in said:
        return "another profiler holds CUPTI in this process; is it itself run under one?"
    if not status and "==ERROR==" not in said:
        return ""
    lines = [line for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"==ERROR==|error", line, re.I)]
    return f"status {status}: {' '.join((errors or lines or ['it said nothing'])[-1:])[:300]}"


def runner(job: str) -> list[str]:
    return [sys.executable, "-m", "workbook.profile_runner", job]


def _packages() -> str:
    """PYTHONPATH, where the package itself is found too."""
    here = str(Path(__file__).resolve().parents[1])
    return os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)


def _numbers(path: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", path)]
