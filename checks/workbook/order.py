"""The order in which programs touch memory: what those that run together load between them. For a worker only.

A GPU starts programs in the order of their numbers, axis 0 first, and as many run together as it has room for. Loads
of one that another has just made come from the L2; so the distinct bytes that a window of programs in a row loads are
what memory has to deliver to them.
"""

from collections import defaultdict

import numpy as np


class Windows:
    """Loads of one launch, by windows of `programs` programs in a row."""

    def __init__(self, programs: int):
        self.programs, self.loads, self.started = programs, defaultdict(list), 0

    def begin(self, grid, program) -> None:
        """A program begins: its place in a grid of three axes."""
        (x, y, z), (size_x, size_y, _) = program, grid
        self.window = (x + size_x * (y + size_y * z)) // self.programs
        self.started += 1

    def load(self, starts, ends) -> None:
        self.loads[self.window].append((starts, ends))

    def facts(self) -> dict[str, int]:
        """Bytes that full windows load (all windows, where none is full), and these with each byte counted once."""
        full = range(self.started // self.programs) or list(self.loads)
        loads = [self.loads[window] for window in full]
        total = sum(int((ends - starts).sum()) for window in loads for starts, ends in window)
        return {"bytes": total, "distinct": sum(map(union, loads))}


def union(intervals) -> int:
    """Bytes in any of the intervals, given as pairs of arrays: starts and ends."""
    if not intervals:
        return 0
    starts, ends = (np.concatenate(side) for side in zip(*intervals, strict=True))
    order = np.argsort(starts)
    starts, ends = starts[order], np.maximum.accumulate(ends[order])
    before = np.concatenate([starts[:1], ends[:-1]])
    return int((ends - np.minimum(np.maximum(starts, before), ends)).sum())
