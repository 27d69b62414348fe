"""Triton's interpreter observed: bounds, races, bytes and sectors a line. Imported by a worker only.

An access is the bytes that one program reads or writes with one tl.load, tl.store or atomic. It is held as *runs*:
sorted, disjoint intervals of addresses. A contiguous block is one run, a tile has one a row, and everything else
(bounds, sectors, races) is arithmetic on runs, which are few.

A pointer knows the kernel argument it came from: the argument's handle is given a pointer type of its own that
carries its Region, and Triton's own pointer arithmetic hands the type on.
"""

import copy
import sys
from collections import defaultdict

import numpy as np
import triton.language as tl
from triton.runtime import interpreter
from triton.runtime.interpreter import GridExecutor, InterpreterBuilder
from triton.tools.tensor_descriptor import TensorDescriptor

SECTOR = 5  # log2 of the 32 bytes that a GPU moves at least
MOST_FINDINGS = 8


class OutOfBounds(Exception):
    """A kernel was about to touch memory outside the allocation of the argument that its pointer came from."""


class Region:
    """The memory behind one kernel argument during one launch."""

    def __init__(self, name, tensor, allocation):
        span = 1 + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True)) if tensor.numel() else 0
        self.name, self.origin, self.size, self.count = name, tensor.data_ptr(), tensor.element_size(), span
        self.low, self.high = allocation or (self.origin, self.origin + span * self.size)
        self.stores = self.loads = None  # for each element, the event that last stored and that first loaded it
        self.earlier_loads = []  # (event, starts, ends) until something is stored here: most arguments are only read

    def element(self, address) -> int:
        return (int(address) - self.origin) // self.size

    def holds(self, low, high) -> bool:
        return self.low <= low and high <= self.high

    def slots(self, starts, ends):
        """The elements in the runs, as a slice or an array of indices, counted from the allocation's begin."""
        first, last = (starts - self.low) // self.size, (ends - self.low + self.size - 1) // self.size
        if len(first) == 1:
            return slice(int(first[0]), int(last[0]))
        lengths = last - first
        return np.repeat(last - lengths.cumsum(), lengths) + np.arange(lengths.sum())


class Launch:
    """What is known of the launch in progress. An event is a source line in one program; events only count up."""

    def __init__(self, kernel, file, regions):
        self.kernel, self.file, self.regions = kernel, file, regions
        self.events = [None]  # (program, line); number 0 means that nothing has happened
        self.atomics = False

    def begin(self, program) -> None:
        self.program, self.first_event, self.event_of_line, self.synchronised = program, len(self.events), {}, False

    def event(self, line) -> int:
        if line not in self.event_of_line:
            self.event_of_line[line] = len(self.events)
            self.events.append((self.program, line))
        return self.event_of_line[line]


def runs(addresses, size):
    """Sorted, disjoint intervals [start, end) of the bytes at ``addresses``, ``size`` bytes each."""
    addresses = addresses.astype(np.int64)
    while True:
        breaks = np.flatnonzero(addresses[1:] != addresses[:-1] + size)
        starts = addresses[np.concatenate(([0], breaks + 1))]
        ends = addresses[np.concatenate((breaks, [-1]))] + size
        if (starts[1:] >= ends[:-1]).all():
            return starts, ends
        addresses = np.unique(addresses)


def sectors(starts, ends) -> int:
    first, last = starts >> SECTOR, (ends - 1) >> SECTOR
    return int((last - first + 1).sum() - (first[1:] == last[:-1]).sum())


class Trace:
    """What the launches since the last reset() did; see facts()."""

    def __init__(self, allocation_of):
        self.allocation_of = allocation_of
        self.launching = False
        self.reset()

    def reset(self) -> None:
        self.launches, self.lines, self.findings, self.flops = [], defaultdict(lambda: [0, 0, 0, 0]), {}, 0

    def facts(self) -> dict:
        """JSON-able. Bytes and sectors are summed over accesses; a sector is counted once for each access.

        launches: kernel, grid, programs. lines: kernel, line, kind (load, store, atomic), arg, bytes (asked for by
        live lanes), useful (distinct bytes), sectors (of 32 bytes), times. flops: of tl.dot. findings: races.
        """
        lines = [
            dict(zip(("kernel", "line", "kind", "arg", "bytes", "sectors", "useful", "times"), (*where, *counts), strict=True))
            for where, counts in self.lines.items()
        ]
        return dict(launches=self.launches, lines=lines, flops=self.flops, findings=list(self.findings.values()))

    def begin_launch(self, executor, named_arguments) -> None:
        self.owners, regions = {}, []
        waiting = list(named_arguments)
        while waiting:
            name, value = waiting.pop(0)
            if isinstance(value, tuple):
                waiting += [(f"{name}[{i}]", item) for i, item in enumerate(value)]
                continue
            value = value.base if isinstance(value, TensorDescriptor) else value
            if hasattr(value, "data_ptr"):
                region = self.region(name, interpreter._unwrap_tensor(value))
                self.owners.setdefault(id(value), region)
                regions.append(region)
        self.launch = Launch(executor.fn.__name__, executor.fn.__code__.co_filename, regions)

    def region(self, name, tensor) -> Region:
        return Region(name, tensor, self.allocation_of(tensor.data_ptr()))

    def line(self) -> int:
        """The line of the learner's file that is executing."""
        frame, file = sys._getframe(2), self.launch.file
        while frame.f_back and frame.f_code.co_filename != file:
            frame = frame.f_back
        return frame.f_lineno

    def access(self, kind, pointers, mask, values=None) -> None:
        """Note one access; raises OutOfBounds if it would escape. Called before it is carried out."""
        every = pointers.data
        live = np.broadcast_to(getattr(mask, "data", mask) if not isinstance(mask, np.ndarray) else mask, every.shape)
        at = every[live.astype(bool, copy=False)] if not live.all() else every.ravel()
        if not at.size:
            return
        size = max(1, pointers.get_element_ty().primitive_bitwidth // 8)
        line = self.line()
        starts, ends = runs(at, size)
        region = getattr(pointers.dtype, "region", None) or self.find(starts[0], ends[-1])
        if not region.holds(starts[0], ends[-1]):
            raise OutOfBounds(self.escape(kind, line, region, every, live, size))

        counts = self.lines[self.launch.kernel, line, kind, region.name]
        for i, amount in enumerate((at.size * size, sectors(starts, ends), int((ends - starts).sum()), 1)):
            counts[i] += amount
        if kind == "load":
            self.note_load(region, line, starts, ends)
        elif kind == "store":
            self.note_store(region, line, starts, ends, at, values, live)
        else:
            self.launch.atomics = self.launch.synchronised = True

    def find(self, low, high) -> Region:
        """The region of a pointer that was made from an integer, or chosen among several arguments."""
        return next((r for r in self.launch.regions if r.holds(low, high)), None) or min(
            self.launch.regions, key=lambda r: min(abs(low - r.low), abs(high - r.high))
        )

    def escape(self, kind, line, region, every, live, size) -> str:
        outside = live & ((every < region.low) | (every + np.uint64(size) > region.high))
        lane = tuple(int(i) for i in np.argwhere(outside)[0])
        where = f", lane {lane[0] if len(lane) == 1 else lane}" if every.size > 1 else ""
        message = (
            f"out-of-bounds {kind}, line {line}: program {self.launch.program}{where}: "
            f"element {region.element(every[lane])} of {region.name}, which has {region.count}"
        )
        return message + (f"; {outside.sum()} of {every.size} lanes are outside" if every.size > 1 else "")

    def note_load(self, region, line, starts, ends) -> None:
        launch = self.launch
        event = launch.event(line)
        if region.stores is None:
            region.earlier_loads.append((event, starts, ends))
            return
        slots = region.slots(starts, ends)
        self.compare(region, region.stores[slots], slots, line, "loads", "stores")
        unread = region.loads[slots]
        region.loads[slots] = np.where(unread == 0, event, unread)

    def note_store(self, region, line, starts, ends, at, values, live) -> None:
        launch = self.launch
        if region.stores is None:
            elements = (region.high - region.low) // region.size + 1
            region.stores, region.loads = np.zeros(elements, np.int32), np.zeros(elements, np.int32)
            for event, *extent in region.earlier_loads:
                slots = region.slots(*extent)
                unread = region.loads[slots]
                region.loads[slots] = np.where(unread == 0, event, unread)
            region.earlier_loads.clear()
        slots = region.slots(starts, ends)
        self.compare(region, region.loads[slots], slots, line, "stores to", "loads")
        before = region.stores[slots]
        if not launch.synchronised and ((before > 0) & (before < launch.first_event)).any():
            self.compare_values(region, line, at, np.broadcast_to(values.data, live.shape)[live])
        region.stores[slots] = launch.event(line)

    def compare(self, region, events, slots, line, does, did) -> None:
        """A hazard between programs: one touches what an earlier one touched, and one of the two stores."""
        launch = self.launch
        clash = (events > 0) & (events < launch.first_event)
        if launch.atomics or not clash.any():
            return
        slot = int(np.argmax(clash))
        program, there = launch.events[int(events[slot])]
        at = region.low + region.size * int(np.arange(slots.start, slots.stop)[slot] if isinstance(slots, slice) else slots[slot])
        self.race(
            line, region, does,
            f"program {self.number(launch.program)} {does} element {region.element(at)} of {region.name}, "
            f"which program {self.number(program)} {did} at line {there}: on a GPU either may come first",
        )

    def compare_values(self, region, line, at, values) -> None:
        """Two programs that store the same bytes to one address are harmless: an overlapping last block does so."""
        launch = self.launch
        events = region.stores[(at.astype(np.int64) - region.low) // region.size]
        stored = interpreter._interpreter.load(at, np.ones(at.shape, bool), np.zeros_like(values), values.dtype)
        bits = f"u{values.dtype.itemsize}"
        clash = (events > 0) & (events < launch.first_event) & (stored.view(bits) != values.view(bits))
        if clash.any():
            lane = int(np.argmax(clash))
            program, _ = launch.events[int(events[lane])]
            self.race(
                line, region, "stores",
                f"programs {self.number(program)} and {self.number(launch.program)} both store to element "
                f"{region.element(at[lane])} of {region.name}, with different values",
            )

    def race(self, line, region, how, message) -> None:
        if len(self.findings) < MOST_FINDINGS:
            where = (self.launch.kernel, line, region.name, how)
            self.findings.setdefault(where, dict(kind="race", line=line, message=f"race, line {line}: {message}"))

    def number(self, program):
        """A program of a grid of one dimension by its number, any other by its place."""
        return program[0] if self.launches[-1]["grid"][1:] == [1, 1] else program


def install(allocation_of) -> Trace:
    """Observe the interpreter of this process; once, after repair.install().

    ``allocation_of(address)`` is (low, high), the bytes of the allocation that holds the address, or None.
    """
    trace = Trace(allocation_of)

    def before(owner, name, observe):
        plain = getattr(owner, name)

        def observed(*args, **kwargs):
            observe(*args, **kwargs)
            return plain(*args, **kwargs)

        setattr(owner, name, observed)

    before(GridExecutor, "_init_args_hst", lambda executor, args, kwargs:
           trace.begin_launch(executor, [*zip(executor.arg_names, args, strict=False), *kwargs.items()]))
    before(InterpreterBuilder, "create_masked_load", lambda builder, pointers, mask, *_, **__:
           trace.access("load", pointers, mask))
    before(InterpreterBuilder, "create_masked_store", lambda builder, pointers, values, mask, *_, **__:
           trace.access("store", pointers, mask, values))
    before(InterpreterBuilder, "create_atomic_rmw", lambda builder, op, pointers, values, mask, *_:
           trace.access("atomic", pointers, mask))
    before(InterpreterBuilder, "create_atomic_cas", lambda builder, pointers, *_:
           trace.access("atomic", pointers, np.ones(pointers.data.shape, bool)))

    def count_flops(builder, a, b, *_):
        trace.flops += 2 * a.data.size * b.data.shape[-1]

    def begin_grid(builder, *grid):
        trace.launches.append(dict(kernel=trace.launch.kernel, grid=[int(n) for n in grid], programs=0))

    def begin_program(builder, *program):
        trace.launches[-1]["programs"] += 1
        trace.launch.begin(program)

    before(InterpreterBuilder, "create_dot", count_flops)
    before(InterpreterBuilder, "set_grid_dim", begin_grid)
    before(InterpreterBuilder, "set_grid_idx", begin_program)

    call, convert, select = GridExecutor.__call__, interpreter._implicit_cvt, InterpreterBuilder.create_select

    def launch(executor, *args, **kwargs):
        trace.launching = True
        try:
            return call(executor, *args, **kwargs)
        finally:
            trace.launching = False

    def own(value):
        """A tensor argument's pointer, which knows its region from here on."""
        pointer = convert(value)
        if id(value) in trace.owners:
            pointer.handle.dtype = copy.copy(pointer.handle.dtype)
            pointer.handle.dtype.region = trace.owners[id(value)]
        return pointer

    def choose(builder, condition, one, other):
        """A pointer chosen among two arguments lane by lane belongs to neither."""
        chosen = select(builder, condition, one, other)
        if isinstance(other.dtype, tl.pointer_type) and one.dtype is not other.dtype:
            chosen.dtype = tl.pointer_type(chosen.get_element_ty())
        return chosen

    GridExecutor.__call__ = launch
    interpreter._implicit_cvt = own
    InterpreterBuilder.create_select = choose
    return trace
