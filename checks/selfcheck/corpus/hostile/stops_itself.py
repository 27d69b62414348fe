"""Stops its own process, which then cannot say where it is."""
# says: no answer within 3 s

import os
import signal


def add(x, y):
    os.kill(os.getpid(), signal.SIGSTOP)
