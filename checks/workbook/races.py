"""Which program touched which byte of a launch, and where two are in each other's way. For a worker only.

The interpreter runs the programs of a launch one after the other, a GPU side by side: what one program
leaves for another works here and fails there. An access comes as *runs*, sorted, disjoint intervals of
addresses given by their starts and their ends (int64 arrays of one length).
"""

import numpy as np
from triton.runtime import interpreter

SECTOR_BITS = 5  # a GPU moves no less than 32 bytes


def runs(addresses, size):
    """The bytes at ``addresses``, ``size`` each, as sorted, disjoint intervals: starts and ends."""
    addresses = addresses.view(np.int64)
    steps = addresses[1:] - addresses[:-1]
    if not np.count_nonzero(steps != size):  # one contiguous block, as most accesses are
        return addresses[:1], addresses[-1:] + size
    if steps.min() < 0:
        addresses = np.sort(addresses)
        steps = addresses[1:] - addresses[:-1]
    jumps = np.flatnonzero(steps > size)
    return addresses[np.append(0, jumps + 1)], addresses[np.append(jumps, -1)] + size


def footprint(starts, ends) -> tuple[int, int]:
    """The sectors that the runs touch, and their bytes; the usual single run takes no numpy call."""
    if len(starts) == 1:
        start, end = int(starts[0]), int(ends[0])
        return ((end - 1) >> SECTOR_BITS) - (start >> SECTOR_BITS) + 1, end - start
    first, last = starts >> SECTOR_BITS, (ends - 1) >> SECTOR_BITS
    shared = first[1:] == last[:-1]
    return int((last - first + 1).sum() - shared.sum()), int((ends - starts).sum())


class Timeline:
    """The programs of a launch, in order. An event is a line in a program; their numbers only rise."""

    def __init__(self):
        self.events = [None]  # (program, line); event 0 is that nothing happened
        self.atomics = False  # whether any program has used an atomic: these can order programs

    def begin(self, program) -> None:
        self.program, self.first_event, self.event_of_line = program, len(self.events), {}
        self.synchronised = False  # whether this program has used an atomic: it may hold a lock

    def note_atomic(self) -> None:
        self.atomics = self.synchronised = True

    def event(self, line) -> int:
        if line not in self.event_of_line:
            self.event_of_line[line] = len(self.events)
            self.events.append((self.program, line))
        return self.event_of_line[line]

    def of_others(self, events):
        return (events > 0) & (events < self.first_event)


class Allocation:
    """The bytes [low, high) and their history in one launch, kept by elements of ``size`` bytes.

    ``stores`` and ``loads`` hold for each element the event that last stored and that first loaded it,
    made at the first store: most allocations are only read, and for these a list of loads is enough.
    """

    def __init__(self, low, high, size):
        self.low, self.high, self.size = low, high, size
        self.stores = self.loads = None
        self.loaded = False
        self.loads_before_any_store = []

    def holds(self, low, high) -> bool:
        return self.low <= low and high <= self.high

    def load(self, timeline, line, starts, ends, name) -> str | None:
        """Note a load; return the race it is part of, if any. ``name(address)`` names an element."""
        if self.stores is None:
            self.loads_before_any_store.append((timeline.event(line), starts, ends))
            return None
        elements = self.elements(starts, ends)
        self.note_load(timeline.event(line), elements)
        return self.unordered(timeline, elements, "loads", self.stores, "stores", name)

    def store(self, timeline, line, starts, ends, addresses, values, name) -> str | None:
        """Note a store before it happens; return the race it is part of, if any. ``values`` are in order."""
        if self.stores is None:
            self.expect_stores()
        elements, race = self.elements(starts, ends), None
        if self.loaded:
            race = self.unordered(timeline, elements, "stores to", self.loads, "loads", name)
        if not timeline.synchronised and timeline.of_others(self.stores[elements]).any():
            race = self.different_values(timeline, addresses, values, name) or race
        self.stores[elements] = timeline.event(line)
        return race

    def elements(self, starts, ends):
        """The elements that the runs cover: for one run a slice, which is far faster, else indices."""
        if len(starts) == 1:
            return slice((int(starts[0]) - self.low) // self.size, -((self.low - int(ends[0])) // self.size))
        first, last = (starts - self.low) // self.size, -((self.low - ends) // self.size)
        lengths = last - first
        return np.repeat(last - lengths.cumsum(), lengths) + np.arange(lengths.sum())

    def note_load(self, event, elements) -> None:
        self.loaded = True
        first = self.loads[elements]
        self.loads[elements] = np.where(first == 0, event, first)

    def expect_stores(self) -> None:
        count = (self.high - self.low) // self.size + 1
        self.stores, self.loads = np.zeros(count, np.int32), np.zeros(count, np.int32)
        for event, starts, ends in self.loads_before_any_store:
            self.note_load(event, self.elements(starts, ends))

    def unordered(self, timeline, elements, does, history, did, name) -> str | None:
        """One program loads and another stores, and nothing says which comes first."""
        events = history[elements]
        clash = timeline.of_others(events)
        if timeline.atomics or not clash.any():
            return None
        at = int(np.argmax(clash))
        program, line = timeline.events[events[at]]
        element = elements.start + at if isinstance(elements, slice) else int(elements[at])
        return (
            f"program {timeline.program} {does} {name(self.low + element * self.size)}, "
            f"which program {program} {did} at line {line}: on a GPU either may come first"
        )

    def different_values(self, timeline, addresses, values, name) -> str | None:
        """Two programs may store the same bytes to one address: a last block that overlaps the one before."""
        events = self.stores[(addresses.view(np.int64) - self.low) // self.size]
        everywhere = np.ones(addresses.shape, bool)
        stored = interpreter._interpreter.load(addresses, everywhere, np.zeros_like(values), values.dtype)
        bits = f"u{values.itemsize}"
        clash = timeline.of_others(events) & (stored.view(bits) != values.view(bits))
        if not clash.any():
            return None
        lane = int(np.argmax(clash))
        program, _ = timeline.events[events[lane]]
        where = name(addresses[lane])
        return f"programs {program} and {timeline.program} both store to {where}, with different values"
