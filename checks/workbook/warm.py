"""Trusted: warm servers, one a mode, with torch and triton imported, that fork a worker in under 0.1 s.

python -m workbook.warm MODE FD runs a server. Modes: interpret (on the CPU), compile (for a GPU that need not be
there), gpu. They do not mix in one process: Triton reads TRITON_INTERPRET when it is imported.
"""

import atexit
import contextlib
import json
import os
import re
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from . import buffers

ARENA = 64 << 20  # bytes of a CPU arena
LIMIT = 200_000  # bytes a message
PACKAGES = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
KEEP = (
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "CC",
    "CUDA_HOME",
    "CUDA_VISIBLE_DEVICES",
)
_servers: dict[str, tuple[socket.socket, subprocess.Popen]] = {}


def warm_up(*modes: str) -> None:
    """Starts servers without waiting for them, so that several warm up at once."""
    for mode in modes:
        if mode not in _servers or _servers[mode][1].poll() is not None:
            _servers[mode] = _start(mode)


def fork(mode: str, job: dict, fds: list[int]) -> None:
    """Asks for a worker. fds: its channel, its arena, its log, and the pipe that tells its pid and its end."""
    for _ in range(2):
        warm_up(mode)
        try:
            socket.send_fds(_servers[mode][0], [json.dumps(job).encode()], fds)
            return
        except OSError:  # the server died since; a new one is tried once
            _stop(mode)


def _start(mode: str) -> tuple[socket.socket, subprocess.Popen]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    cache = tempfile.mkdtemp(prefix="workbook-")
    env = {k: v for k, v in os.environ.items() if k in KEEP} | {
        "PYTHONPATH": os.pathsep.join([PACKAGES, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "TRITON_INTERPRET": str(int(mode == "interpret")),
        "TRITON_CACHE_DIR": cache,
        "TRITON_DEFAULT_FP_FUSION": "1",  # what it is anyway; 3.9 warns where it is not said
    }
    command = [sys.executable, "-m", "workbook.warm", mode, str(theirs.fileno()), cache]
    process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=env, start_new_session=True)
    theirs.close()
    return ours, process


def _stop(mode: str) -> None:
    control, process = _servers.pop(mode)
    control.close()
    process.wait()


@atexit.register
def stop_all() -> None:
    """A server ends when its control socket closes, and takes its workers with it."""
    for mode in list(_servers):
        _stop(mode)


class Worker:
    """One forked process with one submission in it. Its answers are {"done": ...} or {"error": {...}}."""

    def __init__(self, mode: str, file: Path, deadline: float):
        self.sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.file, self.log, self.read = file, os.memfd_create("log"), 0
        fd = buffers.create(ARENA if mode == "interpret" else 1)
        self.arena = buffers.attach(fd)
        self.status, status = os.pipe()
        fork(mode, {"file": str(file)}, [theirs.fileno(), fd, self.log, status])
        for used in (fd, status):
            os.close(used)
        theirs.close()
        self.pid = int(os.read(self.status, 16) or 0)
        self.loaded = self._hear("loaded", deadline)

    def ask(self, do: str, deadline: float, **request) -> dict:
        """Sends a request and waits for its answer; after `deadline` seconds the worker is ended."""
        try:
            self.sock.send(json.dumps({"do": do, "deadline": deadline, **request}).encode())
        except OSError:
            pass  # it died; hearing says how
        return self._hear(do, deadline)

    def printed(self) -> str:
        """What the submission has written to stdout and stderr since the last call."""
        text = os.pread(self.log, 20_000, self.read).decode(errors="replace")
        self.read = os.fstat(self.log).st_size
        return text

    def close(self) -> None:
        self.sock.close()
        with contextlib.suppress(ProcessLookupError):
            if self.pid:
                os.killpg(self.pid, signal.SIGKILL)
        for fd in (self.status, self.log):
            os.close(fd)

    def _hear(self, do, deadline):
        self.sock.settimeout(deadline)
        try:
            data = self.sock.recv(LIMIT)
        except TimeoutError:
            where = self._stuck()
            return _error("TimeOut", f"no answer within {deadline:g} s", where)
        except OSError:
            data = b""
        if not data:
            code = int(os.read(self.status, 16) or 0)
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"
            return _error("Died", f"the process {how} before it was done", self._stuck())
        try:
            answer = json.loads(data)
            if answer.get("done") == do or isinstance(answer.get("error", {}).get("message"), str):
                return answer
        except (ValueError, AttributeError, RecursionError):
            pass
        return _error("Nonsense", "the process answered something else than it was asked", None)

    def _stuck(self):
        """The line of the submission that Python was last seen in, from the traceback that faulthandler wrote."""
        text = os.pread(self.log, 1 << 20, 0).decode(errors="replace")
        lines = re.findall(rf'File "{re.escape(str(self.file))}", line (\d+)', text[text.rfind("most recent call") :])
        return int(lines[0]) if lines else None


def _error(type_: str, message: str, line: int | None) -> dict:
    return {"error": {"type": type_, "message": message, "line": line, "todo": None}}


def serve(mode: str, control: socket.socket) -> None:
    """Forks a worker for every request; says its pid, then its exit status, on the pipe that came with it."""
    import torch
    import triton  # noqa: F401

    from . import worker

    torch.set_num_threads(1)
    worker.prepare(mode)
    selector = selectors.DefaultSelector()
    selector.register(control, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is control:
                message, fds, _, _ = socket.recv_fds(control, 1 << 16, 4)
                if not message:
                    return
                channel, arena, log, status = fds
                pid = os.fork()
                if pid == 0:
                    selector.close()
                    control.close()
                    os.close(status)
                    worker.run(mode, json.loads(message), channel, arena, log)
                os.write(status, f"{pid}\n".encode())
                for fd in (channel, arena, log):
                    os.close(fd)
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, status))
            else:
                pid, status = key.data
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with contextlib.suppress(BrokenPipeError):
                    os.write(status, f"{code}\n".encode())
                os.close(status)
                selector.unregister(key.fileobj)
                os.close(key.fileobj)


if __name__ == "__main__":
    mode, fd, cache = sys.argv[1:]
    try:
        serve(mode, socket.socket(fileno=int(fd)))
    finally:
        shutil.rmtree(cache, ignore_errors=True)
