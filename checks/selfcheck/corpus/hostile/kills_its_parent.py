"""Kills what started it."""
# says: was killed by SIGKILL|ended with exit status|PermissionError|ProcessLookupError|it is still there

import os
import signal
from pathlib import Path

parent = os.getppid()


def add(x, y):
    if b"workbook.server" in Path(f"/proc/{parent}/cmdline").read_bytes():  # nobody else may be hurt
        os.kill(parent, signal.SIGKILL)
    raise RuntimeError("it is still there")
