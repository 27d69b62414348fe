"""Takes 4 GB, page by page, of memory that is shared, which no limit on a process's own data counts."""
# says: more than 4 GB of memory

import mmap
import time

GB, PAGE = 1 << 30, mmap.PAGESIZE
held = []


def add(x, y):
    for _ in range(4):
        held.append(mmap.mmap(-1, GB))
        for at in range(0, GB, PAGE):
            held[-1][at] = 1
    time.sleep(50)
