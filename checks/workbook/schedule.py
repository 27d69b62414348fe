"""How evenly the programs of a launch keep a GPU's multiprocessors at work, counted in operations of tl.dot."""

import heapq

MULTIPROCESSORS = 4  # of the small GPU that an interpreting worker makes up, so that persistent programs do loop


class Schedule:
    """The operations of each program of each launch, in order."""

    def __init__(self):
        self.launches = []

    def begin_launch(self) -> None:
        self.launches.append([])

    def begin_program(self) -> None:
        self.launches[-1].append(0)

    def note(self, operations: int) -> None:
        self.launches[-1][-1] += operations

    def facts(self) -> dict[str, int]:
        """work: operations of all programs. room: those that all multiprocessors could do until the last has ended."""
        work = sum(map(sum, self.launches))
        return {"work": work, "room": MULTIPROCESSORS * sum(map(length, self.launches))}


def length(programs: list[int]) -> int:
    """How long a launch takes, in operations: a program begins, in its turn, on the multiprocessor free first."""
    free = [0] * MULTIPROCESSORS
    for operations in programs:
        heapq.heapreplace(free, free[0] + operations)
    return max(free)
