"""Attaches to what started it, as a debugger does."""
# says: Operation not permitted|No such process

import ctypes
import os

ATTACH, DETACH = 16, 17


def add(x, y):
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getppid()
    if libc.ptrace(ATTACH, parent, None, None):
        raise PermissionError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    libc.ptrace(DETACH, parent, None, None)
    raise RuntimeError("it could attach")
