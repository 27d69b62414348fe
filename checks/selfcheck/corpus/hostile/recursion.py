"""Calls itself without end, past what Python would stop."""
# says: was killed by SIGSEGV|RecursionError

import sys

sys.setrecursionlimit(1 << 30)


class Deep:
    def __getattr__(self, name):
        return getattr(Deep(), name + "x"[:0])


def add(x, y):
    return repr(getattr(Deep(), "value"))  # noqa: B009
