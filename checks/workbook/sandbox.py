"""Walls around a worker, in layers; each is used where a trial run has shown that it stands.

- namespaces: a root of its own with only Python, the libraries and the submission's file in it, all read-only; no
  network; no process in sight but its own, and all of them end with the first.
- landlock: the kernel refuses files beyond those, TCP, and signals to processes outside, also inside containers
  that allow no namespaces.
- limits: processes, open files, file sizes and memory.

`python -m workbook.sandbox` tries the layers and prints which stand, as JSON. This module imports nothing heavy: the
trial must not cost a second, and a worker enters before it loads the submission.
"""

import contextlib
import ctypes
import json
import os
import resource
import select
import shutil
import signal
import site
import socket
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from . import landlock

LAYERS = ("namespaces", "landlock", "limits")
MEMORY = {"interpret": 4 << 30, "compile": 8 << 30, "gpu": 48 << 30}  # bytes that a worker's processes may use
SPARE = 512 << 20  # bytes that are left to the machine, whatever the limits say
PROCESSES, FILES, FILE_BYTES, SCRATCH_BYTES = 128, 512, 256 << 20, 512 << 20
OVER_MEMORY = 97  # exit status of a worker that used too much
NOBODY = 2_000_000_000  # first of the user ids that a grader who is root gives its workers, one each
SYSTEM = "/usr /bin /sbin /lib /lib32 /lib64 /etc /opt /nix/store /run/opengl-driver".split()  # noqa: SIM905
DEVICES = "null zero full random urandom".split()  # noqa: SIM905
GPU_DEVICES = ("nvidia*", "dxg")

libc = ctypes.CDLL(None, use_errno=True)
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
MNT_DETACH = 2
NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = 1 << 17, 1 << 26, 1 << 27, 1 << 28, 1 << 29, 1 << 30
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 4, 36, 38
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
MOUNT_SETATTR = 442


@cache
def trial() -> dict[str, str]:
    """Each layer -> an empty string where it stands here, or why it does not."""
    command = [sys.executable, "-m", "workbook.sandbox"]
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    env = os.environ | {"PYTHONPATH": os.pathsep.join([package, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)}
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
    die_with_parent()
    isolated = "namespaces" in names
    user = (os.getuid(), os.getgid())
    if isolated:
        _unshare(*user)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = os.fork()
    if child:
        _close_all(set())
        watch(child, MEMORY[mode])
    die_with_parent()
    if isolated:
        _build_root(scratch, file, seed, mode == "gpu")
        scratch = "/tmp"
        child = os.fork()
        if child:  # the first process of the namespace: the others end with it
            _close_all(set())
            _exit_as(_wait(child))
        die_with_parent()
        _drop_privileges(*user)
        die_with_parent()  # a change of user has undone it
    else:
        shutil.copytree(seed, os.path.join(scratch, "triton"), dirs_exist_ok=True)
    os.setsid()
    _close_all(keep)
    os.chdir(scratch)
    tempfile.tempdir = None
    os.environ.update(HOME=scratch, TMPDIR=scratch, TRITON_CACHE_DIR=os.path.join(scratch, "triton"), USER="learner")
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if "limits" in names:
        _limit(isolated, mode)
    if "landlock" in names:
        landlock.restrict(read=[*visible(), file, "/sys"], write=[scratch, "/dev", "/proc"])


def visible() -> list[str]:
    """The folders that a worker reads: the system's, Python's and its packages', never the workbook's own."""
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    packages = [*site.getsitepackages(), site.getusersitepackages()]
    named = [p for name in ("PYTHONPATH", "LD_LIBRARY_PATH", "CUDA_HOME") for p in os.environ.get(name, "").split(":")]
    found = []
    for path in [*SYSTEM, sys.base_prefix, sys.prefix, *packages, *named]:
        for place in dict.fromkeys((path, os.path.realpath(path) if path else "")):
            inside = any(Path(place).is_relative_to(p) for p in found)
            if os.path.isabs(place) and place not in ("/", own) and os.path.exists(place) and not inside:
                found.append(place)
    return found


def die_with_parent() -> None:
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def descendants(pid: int) -> list[int]:
    """Process ids of all below a process, parents first."""
    found = []
    with contextlib.suppress(OSError):
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in map(int, children.read_text().split()):
                found += [child, *descendants(child)]
    return found


def submission(pid: int) -> list[int]:
    """The processes below a watcher that run the submission's code: not the first of its namespace."""
    return descendants(pid)[1 if "namespaces" in layers() else 0 :]


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
        if _used(child) > limit or _available() < SPARE:
            end(os.getpid())
            os._exit(OVER_MEMORY)
    status = _wait(child)
    end(os.getpid())
    _exit_as(status)


def _used(child: int) -> int:
    total = 0
    for pid in [child, *descendants(child)]:
        with contextlib.suppress(OSError, IndexError):
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    return total


def _available() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return SPARE


def _wait(child: int) -> int:
    """The exit status of a child, while others that were left to this process are reaped."""
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(status)


def _exit_as(status: int) -> None:
    os._exit(status if status >= 0 else 128 - status)


def _close_all(keep: set[int]) -> None:
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd > 2 and fd not in keep:
            with contextlib.suppress(OSError):
                os.close(fd)


def _check(result: int, what: str) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def _unshare(uid: int, gid: int) -> None:
    """New namespaces. Root needs no user namespace, and its workers get a user id of their own instead."""
    flags = NEWNS | NEWPID | NEWNET | NEWIPC | NEWUTS
    _check(libc.unshare(flags | (NEWUSER if uid else 0)), "new namespaces")
    if uid:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def _drop_privileges(uid: int, gid: int) -> None:
    if uid == 0:
        nobody = NOBODY + os.getppid() + int.from_bytes(os.urandom(3), "big")
        os.setgroups([])
        os.setgid(nobody)
        os.setuid(nobody)
        libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)  # or /proc/self belongs to root
    header, nothing = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    _check(libc.capset(header, nothing), "to give up privileges")


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str = "") -> None:
    words = [None if w is None else os.fsencode(w) for w in (source, target, kind)]
    _check(libc.mount(*words, ctypes.c_ulong(flags), data.encode()), f"to mount {target}")


def _bind(source: str, target: str) -> None:
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        Path(target).touch()
    _mount(source, target, None, MS_BIND | MS_REC)


def _read_only(target: str) -> None:
    attributes = (ctypes.c_uint64 * 4)(MS_RDONLY | MS_NOSUID, 0, 0, 0)
    if libc.syscall(MOUNT_SETATTR, -100, os.fsencode(target), 0x8000, attributes, 32):
        kept = os.statvfs(target).f_flag & 0x40F  # flags of the original, which may not be taken away
        _mount(None, target, None, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | kept)


def _build_root(base: str, file: str, seed: str, gpu: bool) -> None:
    """A root with nothing in it but what a worker needs, on a folder that is hidden by it."""
    _mount(None, "/", None, MS_REC | MS_PRIVATE)
    _mount("tmpfs", base, "tmpfs", MS_NOSUID | MS_NODEV, "size=16m,mode=755")
    for folder, size in (("/tmp", SCRATCH_BYTES), ("/dev/shm", SCRATCH_BYTES)):
        os.makedirs(base + folder)
        _mount("tmpfs", base + folder, "tmpfs", MS_NOSUID | MS_NODEV, f"size={size},mode=1777")
    for path in [*visible(), *(["/sys"] if gpu else [])]:
        if os.path.islink(path):
            os.makedirs(os.path.dirname(base + path), exist_ok=True)
            os.symlink(os.readlink(path), base + path)
        else:
            _bind(path, base + path)
            _read_only(base + path)
    for name in DEVICES:
        _bind(f"/dev/{name}", f"{base}/dev/{name}")
    for pattern in GPU_DEVICES if gpu else ():
        for device in Path("/dev").glob(pattern):
            _bind(str(device), base + str(device))
    os.makedirs(f"{base}/proc")
    _mount("proc", f"{base}/proc", "proc", MS_NOSUID | MS_NODEV)
    if not os.path.exists(base + file):
        os.makedirs(os.path.dirname(base + file), exist_ok=True)
        shutil.copyfile(file, base + file)
    shutil.copytree(seed, f"{base}/tmp/triton", copy_function=shutil.copyfile)
    for folder, _, names in os.walk(f"{base}/tmp/triton"):
        os.chmod(folder, 0o777)
        for name in names:
            os.chmod(os.path.join(folder, name), 0o755)
    os.chdir(base)
    _check(libc.syscall(PIVOT_ROOT[os.uname().machine], b".", b"."), "to change the root")
    _check(libc.umount2(b".", MNT_DETACH), "to leave the old root")
    os.chdir("/")
    _mount(None, "/", None, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV)


def _limit(isolated: bool, mode: str) -> None:
    limits = {"CORE": 0, "NOFILE": FILES, "FSIZE": FILE_BYTES}
    if isolated:  # elsewhere it counts all that the user runs
        limits["NPROC"] = PROCESSES
    if mode != "gpu":  # CUDA reserves more than it uses
        limits["DATA"] = MEMORY[mode]
    for name, value in limits.items():
        number = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(number)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (value, value))


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
    if mode == "gpu":
        driver, count = ctypes.CDLL("libcuda.so.1"), ctypes.c_int()
        if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
            return "the GPU cannot be reached"
    return ""


if __name__ == "__main__":
    print(json.dumps({name: _try(name) for name in LAYERS}))
