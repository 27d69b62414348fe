"""Tries each layer on this machine: `python -m workbook.sandbox.probe` prints what is amiss with it, as JSON."""

import contextlib
import ctypes
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from . import FILE_BYTES, LAYERS, enter


def _try(name: str) -> str:
    """Enters one layer and tries what it should refuse, and what it should not. An empty string, or what was amiss."""
    folder = Path(tempfile.mkdtemp(prefix="workbook-trial-"))
    secret, file, scratch, seed = folder / "secret", folder / "sub" / "part.py", folder / "scratch", folder / "seed"
    for made in (file.parent, scratch, seed):
        made.mkdir()
    secret.write_text("secret"), file.write_text("part")
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    heard, said = os.pipe()
    child = os.fork()
    if child == 0:
        words = "it let go of nothing"
        try:
            os.close(heard)
            mode = "gpu" if os.path.exists("/dev/nvidiactl") else "compile"
            enter([name], mode, str(file), str(scratch), str(seed), {said})
            words = _amiss(name, str(secret), str(file), address, mode)
        except BaseException as error:
            words = str(error)
        os.write(said, words.encode()[:4000])
        os._exit(0)
    os.close(said)
    with os.fdopen(heard, errors="replace") as pipe:
        words = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    shutil.rmtree(folder, ignore_errors=True)
    return words if code == 0 or words else f"its process ended with {code}"


def _amiss(name: str, secret: str, file: str, address, mode: str) -> str:
    """Inside a layer: what does not hold, or hinders honest work."""
    if Path(file).read_text() != "part":
        return "the submission cannot be read"
    Path("try").write_text("mine")
    if name == "limits":
        return "" if resource.getrlimit(resource.RLIMIT_FSIZE)[1] == FILE_BYTES else "no limit holds"
    with contextlib.suppress(OSError):
        open(secret).close()
        return "other files can be read"
    if name == "namespaces":
        with contextlib.suppress(OSError):
            socket.create_connection(address, 1).close()
            return "the network can be reached"
        if os.getppid() != 1:
            return "other processes are in sight"
    if subprocess.run([sys.executable, "-c", "import json"], capture_output=True).returncode:
        return "Python does not start"
    if (compiler := shutil.which(os.environ.get("CC", "gcc"))) and subprocess.run(
        [compiler, "-E", "-x", "c", "/dev/null"], capture_output=True
    ).returncode:
        return "the C compiler does not run"
    if mode == "gpu":
        driver, count = ctypes.CDLL("libcuda.so.1"), ctypes.c_int()
        if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
            return "the GPU cannot be reached"
    return ""


if __name__ == "__main__":
    print(json.dumps({name: _try(name) for name in LAYERS}))
