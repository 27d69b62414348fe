"""Trusted: the grader's side of the warm server, and of the workers that it forks in under 0.1 s."""

import atexit
import contextlib
import json
import os
import re
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import sandbox

ARENA = {"interpret": 64 << 20, "compile": 8 << 20, "simulate": 1, "gpu": 1}  # bytes of the arena in main memory
LIMIT = 200_000  # bytes a message
SPIN = 0.1  # seconds in which the answer to timed calls is looked for without sleeping
LAST_WORD = 2.0  # seconds in which a process that has hung up ends as well
NOTHING = Path(__file__).with_name("nothing.py")  # for a worker that no submission is in
PACKAGES = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# of the environment; whatever else is set there can neither help nor harm a submission
KEEP = "PATH HOME USER LANG LC_ALL TMPDIR LD_LIBRARY_PATH CC CUDA_HOME CUDA_VISIBLE_DEVICES".split()  # noqa: SIM905
PRINTED = 20_000  # bytes kept of what a submission writes between two looks; all of it where Triton was asked to tell
switches: dict[str, str] = {}  # of Triton, for workers to come, in a learner's own check only: see debug.py
_server: tuple[socket.socket, subprocess.Popen] | None = None


def warm_up(*modes: str) -> None:
    """Starts the server and its modes without waiting for them."""
    for mode in modes:
        _request({"mode": mode}, [])


def _request(message: dict, fds: list[int]) -> None:
    global _server
    for _ in range(2):
        if _server is None or _server[1].poll() is not None:
            _server = _start()
        with contextlib.suppress(OSError):  # it died since; a new one is tried once
            socket.send_fds(_server[0], [json.dumps(message).encode()], fds)
            return


def _start() -> tuple[socket.socket, subprocess.Popen]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    env = {k: v for k, v in os.environ.items() if k in KEEP} | {
        "PYTHONPATH": os.pathsep.join([PACKAGES, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "TORCHINDUCTOR_COMPILE_THREADS": "1",  # so that torch.compile starts no processes in a worker
        "TRITON_DEFAULT_FP_FUSION": "1",  # what it is anyway; 3.9 warns where it is not said
        **switches,
    }
    command = [sys.executable, "-m", "workbook.server", str(theirs.fileno()), tempfile.mkdtemp(prefix="workbook-")]
    process = subprocess.Popen(
        command,
        pass_fds=[theirs.fileno()],
        env=env,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL if switches else None,  # where Triton would tell of the server's own kernels
        start_new_session=True,
    )
    theirs.close()
    return ours, process


@atexit.register
def stop() -> None:
    """Ends the server, its modes and their workers. Without this they end when the control socket closes."""
    global _server
    if _server is not None:
        control, process = _server
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        control.close()
        shutil.rmtree(process.args[-1], ignore_errors=True)
        _server = None


class Worker:
    """One forked process with one submission in it. Its answers are {"done": ...} or {"error": {...}}."""

    def __init__(self, mode: str, file: Path, deadline: float):
        from . import buffers  # imports torch, for which the servers need not wait

        self.sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.mode, self.file, self.log, self.read = mode, file, os.memfd_create("log"), 0
        self.crash = os.memfd_create("crash")  # where Python writes its own last words
        fd = buffers.create(ARENA[mode])
        self.arena = buffers.attach(fd)
        status, told = os.pipe()
        self.status = os.fdopen(status)
        self.to = secrets.token_hex(8)
        request = {"mode": mode, "file": str(file), "layers": sandbox.layers(), "to": self.to}
        _request(request, [theirs.fileno(), fd, self.log, self.crash, told])
        for used in (fd, told):
            os.close(used)
        theirs.close()
        self.pid = int(self.status.readline() or 0)
        if self.pid:
            self.loaded = self._hear("loaded", deadline)
        else:
            message = f"the {mode} process could not be started; `make doctor` may tell why"
            self.loaded = _error("NoServer", message, None)

    def ask(self, do: str, deadline: float, **request) -> dict:
        """Sends a request and waits for its answer; after `deadline` seconds the worker is ended."""
        self.to = secrets.token_hex(8)  # an answer that was sent before it was asked for does not know this
        try:
            self.sock.send(json.dumps({"do": do, "to": self.to, **request}).encode())
        except OSError:
            pass  # it died; hearing says how
        return self._hear(do, deadline)

    def printed(self) -> str:
        """What the submission has written to stdout and stderr since the last call."""
        start, self.read = self.read, os.fstat(self.log).st_size
        return os.pread(self.log, self.read - start if switches else PRINTED, start).decode(errors="replace")

    def freeze(self) -> int:
        """Stops the submission's process, so that it does nothing behind the grader's back; how many others it has."""
        self.frozen = self._submission()
        _signal(signal.SIGSTOP, self.frozen)
        return len(self.frozen) - 1

    def thaw(self) -> None:
        _signal(signal.SIGCONT, self.frozen)

    def close(self) -> None:
        """Ends the process and all that it has started."""
        self.sock.close()
        if self.pid:
            _signal(signal.SIGTERM, [self.pid])  # its watcher ends what is below it, then itself
            if not select.select([self.status], [], [], 5)[0]:
                sandbox.end(self.pid)
                _signal(signal.SIGKILL, [self.pid])
        self.status.close()
        for fd in (self.log, self.crash):
            os.close(fd)

    def _hear(self, do, deadline):
        self.sock.settimeout(deadline)
        spun = time.perf_counter() + (SPIN if do == "go" else 0)
        while time.perf_counter() < spun and not select.select([self.sock], [], [], 0)[0]:
            os.sched_yield()  # to be woken takes longer after a longer sleep, and this is timed
        try:
            data = self.sock.recv(LIMIT)
        except TimeoutError:
            _signal(signal.SIGUSR1, self._submission())
            time.sleep(0.2)
            return _error("TimeOut", f"no answer within {deadline:g} s", self._stuck())
        except OSError:
            data = b""
        if not data:
            return _error("Died", f"the process {self._end()} before it was done", self._stuck())
        try:
            answer = json.loads(data)
            if answer.pop("to") != self.to:
                return _error("Nonsense", "the process answered before it was asked", None)
            if answer.get("done") == do or isinstance(answer.get("error", {}).get("message"), str):
                return answer
        except (ValueError, AttributeError, KeyError, RecursionError):
            pass
        return _error("Nonsense", "the process answered something else than it was asked", None)

    def _submission(self):
        return sandbox.submission(self.pid, "namespaces" in sandbox.layers())

    def _end(self):
        """How it ended: its exit status is that of the submission's process, 128 and more for a signal."""
        if not select.select([self.status], [], [], LAST_WORD)[0]:
            return "closed its connection to the grader"
        code = int(self.status.readline() or 0)
        if code == sandbox.OVER_MEMORY:
            return f"was ended for using more than {sandbox.MEMORY[self.mode] >> 30} GB of memory"
        if 128 < code < 128 + signal.NSIG:
            return f"was killed by {signal.Signals(code - 128).name}"
        return f"ended with exit status {code}"

    def _stuck(self):
        """The line of the submission that Python was last seen in, from the traceback that faulthandler wrote."""
        text = os.pread(self.crash, 1 << 20, 0).decode(errors="replace")
        last = text[max(text.rfind("Stack (most recent"), text.rfind("Current thread")) :]
        lines = re.findall(rf'File "{re.escape(str(self.file))}", line (\d+)', last)
        return int(lines[0]) if lines else None


def _signal(number: int, pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _error(type_: str, message: str, line: int | None) -> dict:
    return {"error": {"type": type_, "message": message, "line": line, "todo": None}}
