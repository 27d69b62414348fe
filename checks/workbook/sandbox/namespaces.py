"""A root, a network and a process tree of a worker's own, in which it finds nothing that it does not need."""

import ctypes
import os
import shutil
import site
import sys
from pathlib import Path

from .processes import libc

SCRATCH, SCRATCH_BYTES = "/tmp", 512 << 20  # inside
NOBODY = 2_000_000_000  # first of the user ids that a grader who is root gives its workers, one each
SYSTEM = "/usr /bin /sbin /lib /lib32 /lib64 /etc /nix/store /run/opengl-driver".split()  # noqa: SIM905
DEVICES = "null zero full random urandom".split()  # noqa: SIM905
GPU_DEVICES = ("nvidia*", "dxg")
OWN = Path(__file__).resolve().parents[2]  # the workbook's checks, which no worker sees

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
MNT_DETACH = 2
NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = 1 << 17, 1 << 26, 1 << 27, 1 << 28, 1 << 29, 1 << 30
PR_SET_DUMPABLE = 4
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
MOUNT_SETATTR, AT_RECURSIVE, AT_FDCWD = 442, 0x8000, -100
KEPT = 0x40F  # flags of a mount that may not be taken away from a copy of it


def visible() -> list[str]:
    """The folders that a worker reads: the system's, Python's and its packages', never the workbook's own."""
    packages = [*site.getsitepackages(), site.getusersitepackages()]
    named = [p for name in ("PYTHONPATH", "LD_LIBRARY_PATH", "CUDA_HOME") for p in os.environ.get(name, "").split(":")]
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CC", "gcc"), "gcc", "clang"))), "")
    named.append(str(Path(os.path.realpath(compiler)).parents[1]) if compiler else "")  # Triton builds its launcher
    found = []
    for path in [*SYSTEM, sys.base_prefix, sys.prefix, *packages, *named]:
        for place in dict.fromkeys((path, os.path.realpath(path) if path else "")):
            inside = any(Path(place).is_relative_to(p) for p in found)
            if os.path.isabs(place) and place not in ("/", str(OWN)) and os.path.exists(place) and not inside:
                found.append(place)
    return found


def devices(gpu: bool) -> list[str]:
    """The devices that a worker may use."""
    patterns = [*DEVICES, *(GPU_DEVICES if gpu else ())]
    return [str(device) for pattern in patterns for device in sorted(Path("/dev").glob(pattern))]


def _check(result: int, what: str) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def unshare(uid: int, gid: int) -> None:
    """New namespaces. Root needs no user namespace, and its workers get a user id of their own instead."""
    flags = NEWPID | NEWNET | NEWIPC | NEWUTS
    _check(libc.unshare(flags | (NEWUSER if uid else 0)), "new namespaces")
    if uid:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def drop_privileges(uid: int, gid: int) -> None:
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
    if libc.syscall(MOUNT_SETATTR, AT_FDCWD, os.fsencode(target), AT_RECURSIVE, attributes, 32):
        kept = os.statvfs(target).f_flag & KEPT
        _mount(None, target, None, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | kept)


def build_root(base: str, file: str, seed: str, gpu: bool) -> None:
    """A root with nothing in it but what a worker needs, on a folder that is hidden by it.

    In a mount namespace of this process alone: the watcher outside keeps its own, or it would lose sight of /proc.
    """
    _check(libc.unshare(NEWNS), "a new mount namespace")
    _mount(None, "/", None, MS_REC | MS_PRIVATE)
    _mount("tmpfs", base, "tmpfs", MS_NOSUID | MS_NODEV, "size=16m,mode=755")
    for folder in (SCRATCH, "/dev/shm"):
        os.makedirs(base + folder)
        _mount("tmpfs", base + folder, "tmpfs", MS_NOSUID | MS_NODEV, f"size={SCRATCH_BYTES},mode=1777")
    for path in [*visible(), *(["/sys"] if gpu else [])]:
        if os.path.islink(path):
            os.makedirs(os.path.dirname(base + path), exist_ok=True)
            os.symlink(os.readlink(path), base + path)
        else:
            _bind(path, base + path)
            _read_only(base + path)
    for device in devices(gpu):
        _bind(device, base + device)
    os.makedirs(f"{base}/proc")
    _mount("proc", f"{base}/proc", "proc", MS_NOSUID | MS_NODEV)
    if not os.path.exists(base + file):
        os.makedirs(os.path.dirname(base + file), exist_ok=True)
        shutil.copyfile(file, base + file)
    cache = os.path.join(base + SCRATCH, "triton")
    shutil.copytree(seed, cache, copy_function=shutil.copyfile)
    for folder, _, names in os.walk(cache):
        os.chmod(folder, 0o777)
        for name in names:
            os.chmod(os.path.join(folder, name), 0o755)
    os.chdir(base)
    _check(libc.syscall(PIVOT_ROOT[os.uname().machine], b".", b"."), "to change the root")
    _check(libc.umount2(b".", MNT_DETACH), "to leave the old root")
    os.chdir("/")
    _mount(None, "/", None, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV)
