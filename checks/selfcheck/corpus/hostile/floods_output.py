"""Writes 500 MB to where its prints go."""
# says: File too large|SIGXFSZ

import os


def add(x, y):
    chunk = b"nonsense" * (1 << 17)
    for _ in range(500):
        os.write(1, chunk)
    raise RuntimeError("500 MB were written")
