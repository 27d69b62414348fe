"""Reads address 0."""
# says: was killed by SIGSEGV before it was done: an access far out of bounds\?

import ctypes


def add(x, y):
    ctypes.string_at(0)
