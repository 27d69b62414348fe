"""Processes below this one: found, watched, ended."""

import contextlib
import ctypes
import os
import resource
import select
import signal
from pathlib import Path

SPARE = 512 << 20  # bytes that are left to the machine, whatever the limits say
OVER_MEMORY = 97  # exit status of a worker that used too much
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36

libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def adopt_orphans() -> None:
    """What loses its parent below this process becomes its child, and not that of the system's first."""
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(pid: int) -> list[int]:
    """Process ids of all below a process, parents first."""
    found = []
    with contextlib.suppress(OSError):
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in map(int, children.read_text().split()):
                found += [child, *descendants(child)]
    return found


def submission(pid: int, isolated: bool) -> list[int]:
    """The processes below a watcher that run the submission's code: not the first of its namespace."""
    return descendants(pid)[1 if isolated else 0 :]


def end(pid: int) -> None:
    """Kills all below a process, also what starts meanwhile."""
    for _ in range(1000):
        below = descendants(pid)
        if not below:
            return
        for one in below:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(one, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def watch(child: int, limit: int) -> None:
    """Waits for the worker and ends as it ended; ends it where it uses too much memory, or when asked to by SIGTERM."""

    def stop(*_):
        end(os.getpid())
        os._exit(128 + signal.SIGKILL)

    signal.signal(signal.SIGTERM, stop)
    poll = select.poll()
    poll.register(os.pidfd_open(child), select.POLLIN)
    while not poll.poll(100):
        used = _used(child)
        if used > limit or (used > SPARE and _available() < SPARE):
            end(os.getpid())
            os._exit(OVER_MEMORY)
    status = wait(child)
    end(os.getpid())
    exit_as(status)


def _used(child: int) -> int:
    """Bytes that a process and all below it hold; pages that they share are counted once where it matters."""
    everyone = [child, *descendants(child)]
    held = sum(_resident(pid) + _files(pid) for pid in everyone)
    return sum(_share(pid) + _files(pid) for pid in everyone) if held > SPARE else held


def _resident(pid: int) -> int:
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    return 0


def _share(pid: int) -> int:
    """The same with each shared page divided among those that share it, which takes the kernel longer to tell."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    return _resident(pid)


def _files(pid: int) -> int:
    """Bytes of files in memory that a process holds, mapped or not."""
    total = 0
    with contextlib.suppress(OSError):
        for fd in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(fd.path).startswith("/memfd:"):
                    total += os.stat(fd.path).st_blocks * 512
    return total


def running(user: int) -> int:
    """How many threads a user runs."""
    count = 0
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            count += len(os.listdir(process / "task")) if process.stat().st_uid == user else 0
    return count


def _available() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return SPARE


def wait(child: int) -> int:
    """The exit status of a child, while others that were left to this process are reaped."""
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(status)


def exit_as(status: int) -> None:
    os._exit(status if status >= 0 else 128 - status)


def close_all(keep: set[int]) -> None:
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd > 2 and fd not in keep:
            with contextlib.suppress(OSError):
                os.close(fd)
