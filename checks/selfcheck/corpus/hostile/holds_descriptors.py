"""Opens files until there are no more."""
# says: Too many open files

import os

held = []


def add(x, y):
    for _ in range(100_000):
        held.append(os.open("/dev/null", os.O_RDONLY))
    raise RuntimeError("100,000 files are open")
