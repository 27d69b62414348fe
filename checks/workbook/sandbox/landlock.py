"""Linux's Landlock: a process gives up files, TCP and signals for good (kernel 5.13 and later; no privilege needed)."""

import contextlib
import ctypes
import os

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # system calls, the same on every architecture
VERSION, PATH_BENEATH = 1, 1
FILES = {1: (1 << 13) - 1, 2: 1 << 13, 3: 1 << 14}  # what may be refused of files, by the version that brought it
READ = 1 << 0 | 1 << 2 | 1 << 3  # execute, read a file, list a folder
ON_A_FILE = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14
TCP, SIGNALS = 0b11, 0b11  # bind and connect (version 4); abstract sockets and signals to the outside (version 6)

libc = ctypes.CDLL(None, use_errno=True)


class Ruleset(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32)]


def version() -> int:
    """What the kernel knows; 0 where there is no Landlock."""
    return max(0, libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), VERSION))


def restrict(read: list[str], write: list[str]) -> None:
    """From now on this process and its children reach nothing but these. Raises OSError where that cannot be had."""
    known = version()
    if not known:
        raise OSError("this kernel has no Landlock")
    files = sum(bits for since, bits in FILES.items() if since <= known)
    rules = Ruleset(files, TCP if known >= 4 else 0, SIGNALS if known >= 6 else 0)
    size = ctypes.sizeof(rules) if known >= 6 else 16 if known >= 4 else 8
    ruleset = _checked(libc.syscall(CREATE_RULESET, ctypes.byref(rules), ctypes.c_size_t(size), 0))
    for paths, allowed in ((read, READ), (write, files)):
        for path in paths:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                _allow(ruleset, path, allowed & files)
    _checked(libc.syscall(RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)


def _allow(ruleset: int, path: str, allowed: int) -> None:
    parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not os.path.isdir(path):
            allowed &= ON_A_FILE
        rule = Beneath(allowed, parent)
        _checked(libc.syscall(ADD_RULE, ruleset, PATH_BENEATH, ctypes.byref(rule), 0))
    finally:
        os.close(parent)


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock: {os.strerror(code)}")
    return result
