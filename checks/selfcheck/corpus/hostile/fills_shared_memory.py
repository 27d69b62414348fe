"""Writes 1 GB to /dev/shm."""
# says: No space left on device|Permission denied|No such file

import os


def add(x, y):
    chunk = os.urandom(1 << 20)
    for part in range(5):
        with open(f"/dev/shm/{marker}-{part}", "wb", buffering=0) as file:
            for _ in range(205):
                if file.write(chunk) < len(chunk):
                    raise OSError("No space left on device")
    raise RuntimeError("1 GB was written")
