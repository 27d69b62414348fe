"""Writes 1 GB in all to /tmp, its home and where it is."""
# says: No space left on device|File too large|Permission denied

import os


def add(x, y):
    chunk = bytes(1 << 20)
    for place, folder in enumerate(("/tmp", os.environ["HOME"], os.getcwd())):
        for part in range(2):
            with open(f"{folder}/{marker}-{place}-{part}", "wb", buffering=0) as file:
                for _ in range(170):
                    if file.write(chunk) < len(chunk):
                        raise OSError("No space left on device")
    raise RuntimeError("1 GB was written")
