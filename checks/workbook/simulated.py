"""A GPU that is not there, for benchmarks to be tried on: what is asked of it takes virtual time, and nothing else.

`Device` is all of it, in plain Python; `install` puts it in the place of torch.cuda and of Python's clocks. The GPU is
made up, with the numbers of a large one. Times are in microseconds, sizes in bytes.
"""

import contextlib
import random
import time
import timeit
from collections.abc import Iterator
from types import SimpleNamespace

import torch
from torch.overrides import TorchFunctionMode

# the GPU
L2 = 96 << 20
MEMORY = 3e6  # bytes a microsecond that come from memory,
CACHE = 12e6  # and from the L2
FLOOR = 2.0  # that a kernel takes which moves nothing
LATENCY = 4.0  # from a launch to the start, where the GPU waits for it
IDLE = 50e3  # without work, and the GPU falls asleep;
RISE = 20e3  # as long after it has woken its clock is low,
SLOW = 1.3  # and everything takes so many times as long
# the time of calls
SPREAD = 0.015  # standard deviation
EVERY = 8  # one of so many is disturbed by a neighbour,
DISTURBED = 2.0  # and takes so many times as long
# the host
COMPILE = 300e3  # in the first call
LAUNCH = 6.0  # of a kernel
RECORD = 1.0  # of an event
LOOK = 0.1  # at its clock
WAKE = 5.0  # after it has waited
LIMIT = 10e6  # for a whole measurement

TELLS = set("item tolist cpu numpy __bool__ __float__ __int__ __index__ __repr__ __format__".split())  # noqa: SIM905


class Refused(Exception):
    """What the simulated GPU does not do, or no longer."""


def cold(size: int) -> float:
    """What a kernel takes that finds none of its bytes in the L2."""
    return FLOOR + size / MEMORY


def noise(seed: int) -> Iterator[float]:
    """What the time of one call after the other is multiplied by."""
    draw = random.Random(seed)
    while True:
        disturbed = draw.randrange(EVERY)
        for call in range(EVERY):
            yield draw.gauss(1, SPREAD) * (DISTURBED if call == disturbed else 1)


class Cache:
    """The L2: how much of which buffer lies there. What was used least recently leaves first."""

    def __init__(self):
        self.held = {}  # in the order of the last use

    def use(self, buffer, size: int) -> int:
        """Reads or writes a buffer from end to end; how many of its bytes were there.

        One that is larger than the L2 finds none: its end has driven out its beginning.
        """
        found = self.held.pop(buffer, 0)
        self.held[buffer] = min(size, L2)
        over = sum(self.held.values()) - L2
        for other, there in list(self.held.items()):
            if over <= 0:
                break
            self.held[other] -= min(there, over)
            over -= min(there, over)
        return min(found, size) if size <= L2 else 0


class Device:
    """The GPU and its host, which runs ahead: a launch only puts work into the queue.

    now: the host's clock. free: when the queue will have been worked off. calls: how many there were. flushed, waited:
    bytes that other kernels moved, and how often the host waited, between the last two of them.
    """

    def __init__(self, seed: int):
        self.now = self.free = self.woken = 0.0
        self.cache, self.noise, self.compiled = Cache(), noise(seed), False
        self.calls = self.flushed = self.waited = 0
        self.since = [0, 0]  # bytes and waits since the last call

    def call(self, size: int) -> None:
        """The call that is to be measured: a kernel that moves `size` bytes."""
        if not self.compiled:
            self.spend(COMPILE)
            self.compiled = True
        self._launch({"call": size}, next(self.noise))
        self.calls += 1
        (self.flushed, self.waited), self.since = self.since, [0, 0]

    def move(self, sizes: dict) -> None:
        """Any other kernel: how many bytes of which buffers it reads or writes."""
        self._launch(sizes)
        self.since[0] += sum(sizes.values())

    def record(self) -> float:
        """The time at which the queue gets to an event that is recorded now."""
        self.spend(RECORD)
        self.free = max(self.free, self.now + LATENCY)
        return self.free

    def wait(self, until: float | None = None) -> None:
        """The host waits until then, or for all that is in the queue."""
        self.now = max(self.now, self.free if until is None else until)
        self.spend(WAKE)
        self.since[1] += 1

    def look(self) -> float:
        """The host's clock."""
        self.spend(LOOK)
        return self.now

    def spend(self, microseconds: float) -> None:
        """Time passes for the host."""
        self.now += microseconds
        if max(self.now, self.free) > LIMIT:
            raise Refused(f"a measurement takes more than {LIMIT / 1e6:g} s: make fewer calls, or does a loop not end?")

    def _launch(self, sizes, factor=1.0):
        self.spend(LAUNCH)
        start = max(self.free, self.now + LATENCY)
        if start - self.free > IDLE:
            self.woken = start
        if start < self.woken + RISE:
            factor *= SLOW
        found = sum(self.cache.use(buffer, size) for buffer, size in sizes.items())
        self.free = start + factor * (FLOOR + (sum(sizes.values()) - found) / MEMORY + found / CACHE)


gpu = Device(0)


def renew(seed: int) -> Device:
    """Another device in the place of the one before: idle, its cache empty, nothing compiled."""
    global gpu
    gpu = Device(seed)
    return gpu


class Event:
    """torch.cuda.Event: the time at which the queue gets to it."""

    def __init__(self, enable_timing=False, blocking=False, interprocess=False):
        self.timing, self.time = enable_timing, None

    def record(self, stream=None):
        self.time = gpu.record()

    def query(self):
        return self.time is None or self.time <= gpu.look()

    def synchronize(self):
        gpu.wait(self.time or 0.0)

    def elapsed_time(self, end_event):
        if not (self.timing and end_event.timing):
            raise ValueError("Both events must be created with argument 'enable_timing=True'.")
        if self.time is None or end_event.time is None:
            raise ValueError("Both events must be recorded before calculating elapsed time.")
        if not (self.query() and end_event.query()):
            raise RuntimeError("Both events must be completed before calculating elapsed time.")
        return (end_event.time - self.time) / 1e3


class Stream:
    """torch.cuda.Stream: there is one queue, and every stream is it."""

    def synchronize(self):
        gpu.wait()

    def record_event(self, event=None):
        event = event or Event()
        event.record()
        return event


class Memory(TorchFunctionMode):
    """Tensors on the GPU have no data (they are torch's meta tensors), but whatever touches them moves their bytes."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), func.__name__
        there = _sizes([*args, *kwargs.values()])
        if there and name == "__get__" and func.__self__ in (torch.Tensor.device, torch.Tensor.is_cuda):
            return torch.device("cuda", 0) if func.__self__ is torch.Tensor.device else True
        if there and (name in TELLS or (name == "to" and "cpu" in map(str, [*args[1:], *kwargs.values()]))):
            gpu.wait()
            return func(torch.zeros(args[0].shape, dtype=args[0].dtype), *args[1:], **kwargs)
        if name == "cuda":
            func, args, kwargs = torch.Tensor.to, (args[0], "cuda"), {}
        if func is torch.Tensor.to:
            args = [args[0], *map(_meta, args[1:])]
        if "device" in kwargs:
            kwargs["device"] = _meta(kwargs["device"])
        in_place = there and (name == "__setitem__" or (name.endswith("_") and not name.endswith("__")))
        # what works in place has nothing to compute here, and some of it would import torch's compiler, for 2 s
        result = args[0] if in_place else func(*args, **kwargs)
        storages = {storage for storage, _ in there}
        new = {place: size for place, size in _sizes([result]).items() if place[0] not in storages}
        if (new or in_place or "out" in kwargs) and "empty" not in name:
            gpu.move(there | new)
        return result


def _meta(device):
    """Where a tensor lies here that was asked for on a device; anything else as it is."""
    return "meta" if isinstance(device, (str, torch.device)) and str(device).startswith("cuda") else device


def _sizes(values) -> dict[tuple[int, int], int]:
    """(storage, offset) -> bytes of each tensor on the GPU among the values, also in tuples and lists of them."""
    flat = [t for x in values for t in (x if isinstance(x, (tuple, list)) else [x])]
    there = [t for t in flat if isinstance(t, torch.Tensor) and t.is_meta]
    return {(t.untyped_storage()._cdata, t.storage_offset()): t.nbytes for t in there}


def install() -> None:
    """Puts the device in the place of torch.cuda and of Python's clocks, for as long as the process lives."""
    import triton.testing

    def refuse(*_, **__):
        raise Refused("do_bench is what you rebuild here: events around each call, a flush before it, the median")

    triton.testing.do_bench = triton.testing.do_bench_cudagraph = refuse
    properties = SimpleNamespace(
        name="simulated GPU", L2_cache_size=L2, multi_processor_count=132, total_memory=80 << 30, major=9, minor=0
    )
    for name, stand_in in {
        "Event": Event,
        "Stream": Stream,
        "stream": lambda *_: contextlib.nullcontext(),
        "current_stream": lambda *_: Stream(),
        "default_stream": lambda *_: Stream(),
        "synchronize": lambda *_: gpu.wait(),
        "get_device_properties": lambda *_: properties,
        "get_device_name": lambda *_: properties.name,
        "get_device_capability": lambda *_: (properties.major, properties.minor),
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda *_: None,
        "empty_cache": lambda: None,
        "init": lambda: None,
    }.items():
        setattr(torch.cuda, name, stand_in)
    for name in ("perf_counter", "monotonic", "process_time", "time"):
        setattr(time, name, lambda: gpu.look() * 1e-6)
        setattr(time, f"{name}_ns", lambda: int(gpu.look() * 1e3))
    time.sleep = lambda seconds: gpu.spend(seconds * 1e6)
    timeit.default_timer = time.perf_counter
    Memory().__enter__()
