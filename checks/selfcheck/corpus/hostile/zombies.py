"""Starts 200 processes that end at once, and waits for none."""
# says: more than 4 GB of memory|temporarily unavailable

import os


def add(x, y):
    for _ in range(200):
        if os.fork() == 0:
            os._exit(0)
    raise RuntimeError("200 have ended and are not reaped")
