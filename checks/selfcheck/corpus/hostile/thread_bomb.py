"""Starts 200 threads that do not end with the call."""
# says: can't start new thread

import threading
import time


def add(x, y):
    for _ in range(200):
        threading.Thread(target=time.sleep, args=(50,)).start()
    raise RuntimeError("200 threads are running")
