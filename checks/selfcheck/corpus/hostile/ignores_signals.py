"""Ignores every signal that can be ignored, masks the others, and goes on."""
# says: no answer within 3 s

import contextlib
import signal
import time


def add(x, y):
    for number in signal.valid_signals():
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    time.sleep(50)
