"""Children that have children, 200 in all, each of which counts its own share."""
# says: more than 4 GB of memory|temporarily unavailable

import os
import time


def spread(share):
    while share > 1:
        half = share // 2
        if os.fork() == 0:
            share = half
        else:
            share -= half


def add(x, y):
    spread(200)
    time.sleep(50)
