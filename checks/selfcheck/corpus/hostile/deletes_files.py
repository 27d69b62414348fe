"""Empties and deletes a file that is not its own."""
# says: FileNotFoundError|PermissionError

import os


def add(x, y):
    os.truncate("{canary}", 0)
    os.remove("{canary}")
    raise RuntimeError("it could be deleted")
