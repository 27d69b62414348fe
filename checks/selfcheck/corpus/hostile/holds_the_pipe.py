"""Ends at once, and leaves a grandchild of another session that keeps every descriptor open."""
# says: ended with exit status 0 before it was done

import os
import time


def add(x, y):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(40)
        os._exit(0)
    os._exit(0)
