"""Prints the work of another."""
# says: FileNotFoundError|PermissionError

from pathlib import Path


def add(x, y):
    print(Path("{secret}").read_text())
    raise RuntimeError("it could be read")
