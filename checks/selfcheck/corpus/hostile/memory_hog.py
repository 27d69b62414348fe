"""Takes 4 GB of memory that is shared, which no limit on a process's own data counts."""
# says: more than 4 GB of memory
# seconds: 20

import mmap
import time

MB = bytes(1 << 20)
held = mmap.mmap(-1, 4 << 30)


def add(x, y):
    for at in range(0, len(held), len(MB)):
        held[at : at + len(MB)] = MB
    time.sleep(25)
