"""Takes 4 GB of its own."""
# says: MemoryError|more than 4 GB of memory

import time

held = []


def add(x, y):
    for _ in range(64):
        held.append(b"x" * (1 << 26))
    time.sleep(50)
