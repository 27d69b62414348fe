"""Trusted: the process that workers are forked from.

python -m workbook.server FD CACHE imports torch, once, and forks a server for each mode when it is first asked for;
that one imports Triton and forks the workers. Modes: interpret (on the CPU), simulate (on a GPU that is
made up, for benchmarks), compile (for a GPU that need not be there), gpu. They do not mix in one process, for Triton
reads TRITON_INTERPRET when it is imported.
"""

import contextlib
import json
import os
import selectors
import shutil
import signal
import socket
import sys
import tempfile

LIMIT = 1 << 16  # bytes of a request


def serve(control: socket.socket, cache: str) -> None:
    """Passes each request, {"mode", "file", "layers", "to"} and five file descriptors, on to the server of its mode.

    A request without descriptors only warms that server up.
    """
    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    servers = {}
    while True:
        message, fds, _, _ = socket.recv_fds(control, LIMIT, 5)
        if not message:
            return
        mode = json.loads(message)["mode"]
        for _ in range(2):
            if mode not in servers:
                servers[mode] = fork_server(mode, cache, [control, *servers.values()])
            try:
                if fds:
                    socket.send_fds(servers[mode], [message], fds)
                break
            except OSError:  # that server died; a new one is tried once
                servers.pop(mode).close()
        for fd in fds:
            os.close(fd)


def fork_server(mode: str, cache: str, inherited: list[socket.socket]) -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork():
        theirs.close()
        return ours
    for sock in [ours, *inherited]:  # a server ends when the last holder of its socket's other end is gone
        sock.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ["TRITON_INTERPRET"] = str(int(mode == "interpret"))
    os.environ["TRITON_CACHE_DIR"] = seed = os.path.join(cache, mode)
    os.makedirs(seed)
    serve_mode(mode, theirs, seed)
    os._exit(0)


def serve_mode(mode: str, control: socket.socket, seed: str) -> None:
    """Forks a worker for every request; says its pid, then its exit status, on the pipe that came with it.

    seed: the folder in which Triton has cached what every worker needs; each gets a copy, so that none can spoil it.
    """
    import triton  # noqa: F401

    from . import worker

    worker.prepare(mode)
    selector = selectors.DefaultSelector()
    selector.register(control, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is control:
                message, fds, _, _ = socket.recv_fds(control, LIMIT, 5)
                if not message:
                    return
                channel, arena, log, crash, status = fds
                scratch = tempfile.mkdtemp(prefix="worker-", dir=os.path.dirname(seed))
                pid = os.fork()
                if pid == 0:
                    worker.run(mode, json.loads(message), scratch, seed, channel, arena, log, crash)
                with contextlib.suppress(BrokenPipeError):
                    os.write(status, f"{pid}\n".encode())
                for fd in (channel, arena, log, crash):
                    os.close(fd)
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, status, scratch))
            else:
                pid, status, scratch = key.data
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with contextlib.suppress(BrokenPipeError):
                    os.write(status, f"{code}\n".encode())
                os.close(status)
                selector.unregister(key.fileobj)
                os.close(key.fileobj)
                shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    fd, cache = sys.argv[1:]
    try:
        serve(socket.socket(fileno=int(fd)), cache)
    finally:
        shutil.rmtree(cache, ignore_errors=True)
