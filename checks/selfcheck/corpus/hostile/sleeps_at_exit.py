"""Ends the process, but holds it up on the way out."""
# says: SystemExit

import atexit
import sys
import time

atexit.register(time.sleep, 50)


def add(x, y):
    sys.exit(0)
