"""Kills every process that it may, where these are only those of its own namespace; elsewhere its own group."""
# says: was killed by SIGKILL|ProcessLookupError|PermissionError

import os
import signal
from pathlib import Path


def add(x, y):
    first = Path("/proc/1/cmdline").read_bytes()
    if os.getpid() <= 8 and b"workbook.server" in first:
        os.kill(-1, signal.SIGKILL)
    elif os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    raise RuntimeError("they are still there")
