"""Takes 4 GB of its own in one piece, and touches every page."""
# says: MemoryError|more than 4 GB of memory|no answer within

import time


def add(x, y):
    held = bytearray(4 << 30)
    for at in range(0, len(held), 4096):
        held[at] = 1
    time.sleep(50)
