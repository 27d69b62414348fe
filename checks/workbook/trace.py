"""Triton's interpreter observed: bounds, races, bytes and sectors a line. Imported by a worker only.

An access is what one program reads or writes with one tl.load, tl.store or atomic. It is held as *runs*:
sorted, disjoint intervals of byte addresses. A contiguous block is one run and a tile one run a row, so that
everything asked of an access (is it inside, how many sectors, who was here before) is arithmetic on a few
intervals.

A pointer knows the kernel argument it came from: the argument's handle is given a pointer type of its
own, which Triton's pointer arithmetic hands on. So a stray pointer is caught even in memory that another
argument owns.
"""

import copy
import sys
from collections import defaultdict

import numpy as np
import triton.language as tl
from triton.runtime import interpreter
from triton.runtime.interpreter import GridExecutor, InterpreterBuilder
from triton.tools.tensor_descriptor import TensorDescriptor

from . import flops
from .order import Windows
from .races import Allocation, Timeline, footprint, runs
from .schedule import Schedule

MOST_FINDINGS = 8


class OutOfBounds(Exception):
    """A program was about to touch memory outside the allocation that its pointer belongs to."""


class Argument:
    """A pointer that the kernel was given: ``count`` elements of ``size`` bytes from address ``origin``."""

    def __init__(self, name, origin, size, count, allocation):
        self.name, self.origin, self.size, self.count, self.allocation = name, origin, size, count, allocation

    def element(self, address) -> str:
        return f"element {(int(address) - self.origin) // self.size} of {self.name}"


class Launch:
    """The launch in progress: its kernel, the kernel's file, and the memory it was given."""

    def __init__(self, kernel, file):
        self.kernel, self.file = kernel, file
        self.arguments, self.allocations, self.timeline = [], {}, Timeline()
        self.owners = defaultdict(list)  # of a tensor, by its id: several where it was given as several arguments


class Trace:
    """What the launches since the last reset() did; see facts(). ``launching`` is True while one executes."""

    def __init__(self, allocation_of):
        self.allocation_of = allocation_of
        self.launching = False
        self.reset()

    def reset(self, watch: int | None = None, window: int = 0) -> None:
        """Forgets everything. watch: the address of which every store is to be told. window: programs, see order.py."""
        self.launches, self.findings, self.schedule, self.elementwise, self.unfilled = [], {}, Schedule(), 0, set()
        self.watch, self.watched, self.window, self.windows = watch, [], window, None
        self.lines = defaultdict(lambda: dict(bytes=0, sectors=0, useful=0, times=0, size=0))

    def facts(self) -> dict:
        """JSON-able.

        launches: each with kernel, grid and programs. lines: one for each kernel, line, kind (load, store
        or atomic) and arg, with sums over its accesses: bytes (asked for by live lanes), useful (distinct
        bytes), sectors (of 32 bytes) and times (accesses); size: bytes of the argument. flops: of tl.dot;
        elementwise: all others. schedule: see schedule.py. window: of the last launch, see order.py. findings: each
        with kind, line, message. unfilled: lines whose loads leave masked lanes undefined.
        """
        lines = [
            dict(kernel=kernel, line=line, kind=kind, arg=arg, **counts)
            for (kernel, line, kind, arg), counts in self.lines.items()
        ]
        schedule = self.schedule.facts()
        counts = dict(flops=schedule["work"], schedule=schedule, elementwise=self.elementwise, watched=self.watched)
        counts |= dict(unfilled=sorted(self.unfilled), window=self.windows.facts() if self.windows else None)
        return dict(launches=self.launches, lines=lines, **counts, findings=list(self.findings.values()))

    def on_launch(self, executor, args, kwargs) -> None:
        self.launch = Launch(executor.fn.__name__, executor.fn.__code__.co_filename)
        given = dict(zip(executor.arg_names, args, strict=False)) | kwargs
        waiting = [(name, given[name]) for name in executor.arg_names if name in given]
        while waiting:
            name, value = waiting.pop(0)
            value = value.base if isinstance(value, TensorDescriptor) else value
            if isinstance(value, tuple):
                waiting = [(f"{name}[{i}]", item) for i, item in enumerate(value)] + waiting
            elif hasattr(value, "data_ptr"):
                self.launch.owners[id(value)].append(self.add_tensor(name, interpreter._unwrap_tensor(value)))

    def on_grid(self, builder, *grid) -> None:
        self.launches.append(dict(kernel=self.launch.kernel, grid=[int(n) for n in grid], programs=0))
        self.schedule.begin_launch()
        self.windows = Windows(self.window) if self.window else None

    def on_program(self, builder, *program) -> None:
        launch = self.launches[-1]
        launch["programs"] += 1
        self.schedule.begin_program()
        self.program = program[0] if launch["grid"][1:] == [1, 1] else program[: 2 + (launch["grid"][2] > 1)]
        self.launch.timeline.begin(self.program)
        if self.windows:
            self.windows.begin(launch["grid"], program)

    def on_load(self, builder, pointers, mask, other=None, *_, **__) -> None:
        if other is None and not np.all(mask.data):
            self.unfilled.add(self.line())
        self.access("load", pointers, mask)

    def on_store(self, builder, pointers, values, mask, *_, **__) -> None:
        self.access("store", pointers, mask, values.data)

    def on_rmw(self, builder, op, pointers, values, mask, *_) -> None:
        self.access("atomic", pointers, mask)

    def on_cas(self, builder, pointers, *_) -> None:
        self.access("atomic", pointers, np.ones(pointers.data.shape, bool))

    def on_operations(self, dot, others) -> None:
        self.schedule.note(dot)
        self.elementwise += others

    def add_tensor(self, name, tensor) -> Argument:
        origin, size = tensor.data_ptr(), tensor.element_size()
        steps = zip(tensor.shape, tensor.stride(), strict=True)
        count = 1 + sum((n - 1) * stride for n, stride in steps) if tensor.numel() else 0
        extent = self.allocation_of(origin) or (origin, origin + count * size)
        return self.add(name, origin, size, count, extent)

    def add(self, name, origin, size, count, extent) -> Argument:
        """Arguments that share an allocation share its history: an in-place kernel may race with itself."""
        allocation = self.launch.allocations.setdefault(extent, Allocation(*extent, size))
        self.launch.arguments.append(Argument(name, origin, size, count, allocation))
        return self.launch.arguments[-1]

    def line(self) -> int:
        """The line of the kernel's file that is executing, in the kernel or in a helper."""
        frame = sys._getframe(1)
        while frame.f_back and frame.f_code.co_filename != self.launch.file:
            frame = frame.f_back
        return frame.f_lineno

    def access(self, kind, pointers, mask, values=None) -> None:
        """Note one access before it is carried out; raises OutOfBounds if it would escape."""
        every = pointers.data
        live = np.asarray(mask.data, bool)  # a descriptor's mask is a bare array, whose .data is a memoryview
        select = np.ravel if np.count_nonzero(live) == live.size else lambda block: block[live]
        at = select(every)
        size = max(1, pointers.get_element_ty().primitive_bitwidth // 8)
        line = self.line()
        for argument, lanes in self.owners(pointers, at, size):
            starts, ends = runs(at[lanes], size)
            allocation, timeline, name = argument.allocation, self.launch.timeline, argument.element
            if not allocation.holds(starts[0], ends[-1]):
                raise OutOfBounds(self.escape(kind, line, argument, every, live, lanes, size))
            sectors, useful = footprint(starts, ends)
            counts = self.lines[self.launch.kernel, line, kind, argument.name]
            counts["bytes"] += at[lanes].size * size
            counts["sectors"] += sectors
            counts["useful"] += useful
            counts["times"] += 1
            counts["size"] = max(counts["size"], argument.count * argument.size)
            if kind == "load":
                if self.windows:
                    self.windows.load(starts, ends)
                self.race(argument, line, allocation.load(timeline, line, starts, ends, name))
            elif kind == "store":
                if self.watch is not None and starts[0] <= self.watch < ends[-1]:
                    self.note_watched(line, every, live, size)
                stored = at[lanes], select(values)[lanes]
                self.race(argument, line, allocation.store(timeline, line, starts, ends, *stored, name))
            else:
                timeline.note_atomic()

    def note_watched(self, line, every, live, size) -> None:
        for lane in np.flatnonzero(live & (every <= self.watch) & (self.watch < every + np.uint64(size)))[:1]:
            index = [int(i) for i in np.unravel_index(lane, every.shape)]
            self.watched.append(dict(program=self.program, lane=index[0] if len(index) == 1 else index, line=line))

    def owners(self, pointers, at, size):
        """The arguments that the addresses belong to, each with its lanes."""
        if not at.size:
            return
        if hasattr(pointers.dtype, "argument"):
            yield pointers.dtype.argument, slice(None)
            return
        left = np.arange(at.size)
        while left.size:
            argument = self.owner_of(int(at[left[0]]), size)
            extent = argument.allocation
            inside = (at[left] >= extent.low) & (at[left] + np.uint64(size) <= extent.high)
            inside[0] = True
            yield argument, left[inside]
            left = left[~inside]

    def owner_of(self, address, size) -> Argument:
        """The argument behind a pointer that was made from an integer, or chosen among several arguments."""
        arguments = self.launch.arguments
        for argument in arguments:
            if argument.allocation.holds(address, address + size):
                return argument
        extent = self.allocation_of(address)
        if extent or not arguments:
            low, high = extent or (address, address)
            return self.add("an integer's memory", low, size, (high - low) // size, (low, high))
        return min(arguments, key=lambda a: min(abs(address - a.allocation.low), abs(address - a.allocation.high)))

    def escape(self, kind, line, argument, every, live, lanes, size) -> str:
        lanes = np.flatnonzero(live)[lanes]
        at = every.ravel()[lanes]
        outside = (at < argument.allocation.low) | (at + np.uint64(size) > argument.allocation.high)
        first, many = int(np.argmax(outside)), int(outside.sum())
        lane = [int(i) for i in np.unravel_index(lanes[first], every.shape)]
        block = every.size > 1
        return (
            f"out-of-bounds {kind}, line {line}: program {self.program}"
            + (f", lane {lane[0] if len(lane) == 1 else tuple(lane)}" if block else "")
            + f": {argument.element(at[first])}, which has {argument.count}"
            + (f"; {many} of {every.size} lanes {'is' if many == 1 else 'are'} outside" if block else "")
        )

    def race(self, argument, line, message) -> None:
        where = (self.launch.kernel, line, argument.name)
        if message and len(self.findings) < MOST_FINDINGS:
            finding = dict(kind="race", line=line, message=f"race, line {line}: {message}")
            self.findings.setdefault(where, finding)


def install(allocation_of) -> Trace:
    """Observe the interpreter of this process; once, after repair.install().

    ``allocation_of(address)`` is (low, high), the byte addresses of the allocation that holds it, or None.
    """
    trace = Trace(allocation_of)
    for owner, name, observe in (
        (GridExecutor, "_init_args_hst", trace.on_launch),
        (InterpreterBuilder, "set_grid_dim", trace.on_grid),
        (InterpreterBuilder, "set_grid_idx", trace.on_program),
        (InterpreterBuilder, "create_masked_load", trace.on_load),
        (InterpreterBuilder, "create_masked_store", trace.on_store),
        (InterpreterBuilder, "create_atomic_rmw", trace.on_rmw),
        (InterpreterBuilder, "create_atomic_cas", trace.on_cas),
    ):
        observe_before(owner, name, observe)
    flops.install(trace.on_operations)
    mark_launches(trace)
    hand_on_arguments(trace)
    return trace


def observe_before(owner, name, observe) -> None:
    plain = getattr(owner, name)

    def observed(*args, **kwargs):
        observe(*args, **kwargs)
        return plain(*args, **kwargs)

    setattr(owner, name, observed)


def mark_launches(trace) -> None:
    plain = GridExecutor.__call__

    def launch(executor, *args, **kwargs):
        trace.launching = True
        try:
            return plain(executor, *args, **kwargs)
        finally:
            trace.launching = False

    GridExecutor.__call__ = launch


def hand_on_arguments(trace) -> None:
    """Give each argument's pointer a type of its own, which says whose it is."""
    convert, select = interpreter._implicit_cvt, InterpreterBuilder.create_select

    def owned(value):
        pointer = convert(value)
        if id(value) in trace.launch.owners:
            pointer.handle.dtype = copy.copy(pointer.handle.dtype)
            pointer.handle.dtype.argument = trace.launch.owners[id(value)].pop(0)
        return pointer

    def chosen(builder, condition, one, other):
        """Pointers chosen lane by lane among two arguments belong to neither type."""
        result = select(builder, condition, one, other)
        if isinstance(other.dtype, tl.pointer_type) and one.dtype is not other.dtype:
            result.dtype = tl.pointer_type(other.dtype.element_ty)
        return result

    interpreter._implicit_cvt = owned
    InterpreterBuilder.create_select = chosen
