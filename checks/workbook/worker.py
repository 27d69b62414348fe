"""Untrusted: a forked process that loads the learner's file, does what is asked, and says "done".

Whatever else it says explains a verdict; it never makes one.
"""

import faulthandler
import importlib.util
import json
import os
import signal
import socket
import sys
from numbers import Real
from types import SimpleNamespace

from . import sandbox
from .errors import describe

LIMIT = 150_000  # bytes a message: less than what a Unix socket takes whole


def prepare(mode: str) -> None:
    """Imports, in the server that will be forked, what workers of a mode need."""
    from . import buffers  # noqa: F401

    if mode == "interpret":
        from . import repair, trace  # noqa: F401
    if mode == "simulate":
        from . import simulated  # noqa: F401
    if mode == "gpu":
        from . import allocator, unseen  # noqa: F401
    if mode == "compile":
        from . import autotuner, codegen, graph  # noqa: F401

        codegen.warm_up()


def run(mode: str, job: dict, scratch: str, seed: str, channel: int, arena: int, log: int, crash: int) -> None:
    """The life of a worker; never returns."""
    sock = socket.socket(fileno=channel)
    file = job["file"]

    def say(to, **message):
        data = json.dumps({"to": to, **message}).encode()
        if len(data) > LIMIT:
            error = {"type": "TooMuch", "message": "the answer is too long", "line": None}
            data = json.dumps({"to": to, "error": error}).encode()
        sock.send(data)

    try:
        sandbox.enter(job["layers"], mode, file, scratch, seed, {channel, arena, log, crash})
    except Exception as error:
        say(job["to"], error={"type": "NoSandbox", "message": f"the sandbox does not stand: {error}", "line": None})
        os._exit(1)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    sys.stdout.reconfigure(line_buffering=True)
    faulthandler.enable(crash)
    faulthandler.register(signal.SIGUSR1, crash, all_threads=False)  # the grader asks where a late worker is
    try:
        from . import buffers

        kit = {"interpret": Interpreter, "simulate": Simulator, "compile": Compiler, "gpu": Gpu}[mode](buffers, arena)
        module = load(file)
        say(job["to"], done="loaded")
    except BaseException as error:
        say(job["to"], error=describe(error, file))
        os._exit(1)
    while data := sock.recv(LIMIT):
        request = json.loads(data)
        try:
            entry = getattr(module, request["entry"], None)
            if not callable(entry):
                raise MissingEntry(f"the file defines no function {request['entry']!r}")
            entry = entry if request["do"] == "graph" else buffers.plain(entry)
            say(request["to"], done=request["do"], **getattr(kit, request["do"])(entry, request))
        except BaseException as error:
            say(request["to"], error=describe(error, file))
    os._exit(0)


class MissingEntry(Exception): ...


class WrongResult(Exception): ...


def load(file: str):
    # linecache and inspect, which Triton reads a kernel's source by, need a module that can be found by name
    spec = importlib.util.spec_from_file_location("submission", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules["submission"] = module
    spec.loader.exec_module(module)
    return module


class Interpreter:
    """Runs the entry on the CPU, traced."""

    def __init__(self, buffers, arena):
        import torch

        from . import repair, schedule, trace

        self.buffers, self.arena, self.inputs, self.heap = buffers, buffers.attach(arena), [], None
        repair.install()
        self.trace = trace.install(self.allocation_of)
        properties = SimpleNamespace(name="interpreter", major=9, minor=0)
        properties.multi_processor_count = schedule.MULTIPROCESSORS
        properties.shared_memory_per_block_optin = 99 << 10
        torch.cuda.get_device_properties = lambda *_: properties

    def allocation_of(self, address):
        base = self.arena.data_ptr()
        for offset, size in self.inputs:
            if offset <= address - base < offset + size:
                return base + offset, base + offset + size
        return self.heap.allocation_of(address) if self.heap else None

    def run(self, entry, request):
        """Calls the entry once; says where its results lie, and what the trace saw."""
        described = [a for a in request["args"] if isinstance(a, dict)]
        self.inputs = [(d["offset"], self.buffers.nbytes(d)) for d in described]
        watch = request.get("watch")
        self.trace.reset(None if watch is None else self.arena.data_ptr() + watch, request["window"])
        quiet = lambda: self.trace.launching  # noqa: E731
        self.heap = self.buffers.Heap(self.arena, *request["heap"], quiet)
        return called(self, entry, request) | {"facts": self.trace.facts()}

    def predict(self, entry, request):
        """What a function of the learner's says in a number."""
        return {"value": number(entry(*request["args"]))}


class Simulator:
    """Hands the entry, a benchmark, a call on a GPU that is not there."""

    def __init__(self, buffers, arena):
        from . import simulated

        self.renew = simulated.renew
        simulated.install()

    def benchmark(self, entry, request):
        gpu = self.renew(request["seed"])
        ms = number(entry(lambda: gpu.call(request["bytes"])))
        return {"ms": ms, "calls": gpu.calls, "flushed": gpu.flushed, "waited": gpu.waited}


class Compiler:
    """Compiles what the entry launches, on tensors without data."""

    def __init__(self, buffers, arena):
        from . import autotuner, codegen, graph

        self.codegen, self.autotuner, self.kernels = codegen, autotuner, graph.kernels
        self.arena = buffers.attach(arena).numpy()

    def compile(self, entry, request):
        args = self.codegen.arguments(request["args"])
        with self.codegen.capture(request["arch"]) as launches:
            entry(*args)
        told, at = [], 0
        for launch in launches:
            stage, text = self.codegen.source(launch)
            self.arena[at : at + len(text)] = bytearray(text)
            place = {"stage": stage, "start": at, "size": len(text), "options": self.codegen.options(launch)}
            told.append({"grid": launch.grid, "line": self.codegen.line_of_def(launch.kernel.src.fn), **place})
            at += len(text)
        return {"facts": told}

    def tune(self, entry, request):
        """Calls the entry on one set of arguments after the other; says when it would tune, and among what."""
        with self.autotuner.observe(request["arch"]) as tunings:
            for args in request["calls"]:
                entry(*self.codegen.arguments(args))
        return {"facts": tunings}

    def graph(self, entry, request):
        """How many kernels are in the graph that torch.compile makes of a call, alone and with its backward."""
        alone, both = self.kernels(entry, self.codegen.arguments(request["args"]), request["arch"])
        return {"alone": alone, "both": both}

    def again(self, entry, request):
        """Compiles the intermediate code that lies in the arena: what another worker told of, without its word."""
        text = self.arena[: request["size"]].tobytes()
        kernel = self.codegen.again(text, request["stage"], request["options"], request["arch"])
        places, at = {}, 0
        for name, text in self.codegen.texts(kernel).items() if request["listed"] else ():
            encoded = text.encode()
            self.arena[at : at + len(encoded)] = bytearray(encoded)
            places[name] = at, at + len(encoded)
            at += len(encoded)
        return {"facts": self.codegen.figures(kernel), "texts": places}


class Gpu:
    """Runs and times the entry on the GPU."""

    def __init__(self, buffers, arena):
        import torch

        from .allocator import Allocator

        torch.cuda.init()
        self.torch, self.buffers, self.allocator = torch, buffers, Allocator()

    def run(self, entry, request):
        opened = self.buffers.DeviceArena(request["size"], request["arena"])
        try:
            self.arena = opened.tensor
            self.heap = self.buffers.Heap(self.arena, *request["heap"])
            answer = called(self, entry, request)
            self.torch.cuda.synchronize()
            return answer
        finally:
            del self.arena, self.heap
            opened.close()

    def benchmark(self, entry, request):
        """Hands the entry, a benchmark, a call on the GPU."""
        from . import unseen

        return {"ms": number(entry(unseen.copy(request["bytes"])))}

    def open(self, entry, request):
        """Opens the arena of the timed calls: for each a slot of inputs and of places for its results."""
        self.opened = self.buffers.DeviceArena(request["size"], request["arena"])
        arena = self.opened.tensor
        self.calls = [
            (arguments(self.buffers, arena, args), [self.buffers.view(arena, d) for d in results])
            for args, results in request["slots"]
        ]
        Event = self.torch.cuda.Event
        self.marks = [(Event(enable_timing=True), Event(enable_timing=True)) for _ in range(len(self.calls) + 1)]
        for mark in [mark for pair in self.marks for mark in pair]:
            mark.record()  # which creates it
        return {}

    def go(self, entry, request):
        """Calls the entry on one slot after the other; ms by events, which the grader holds against its own clock.

        spin: cycles that the GPU is kept busy first, while the calls queue up behind, so that none waits for Python.
        """
        arena, marks = self.opened.tensor, self.marks[: request["calls"]]
        self.marks[-1][0].record()  # so that the GPU has turned to this process also where nothing is called
        if request["spin"]:
            self.torch.cuda._sleep(request["spin"])
        elsewhere, copied = [], False
        for call, ((start, end), (args, places)) in enumerate(zip(marks, self.calls)):
            self.allocator.offer(places)
            start.record()
            results = entry(*args)
            end.record()
            for output, (t, place) in enumerate(zip(several(results), places, strict=True)):
                if t.data_ptr() == place.data_ptr():
                    continue
                if 0 <= t.data_ptr() - arena.data_ptr() < len(arena):
                    elsewhere.append([call, output, self.buffers.describe(t.data_ptr() - arena.data_ptr(), t)])
                else:
                    place.copy_(t)
                    copied = True
        self.allocator.offer([])
        self.torch.cuda.synchronize()
        return {"ms": [start.elapsed_time(end) for start, end in marks], "elsewhere": elsewhere, "copied": copied}

    def close(self, entry, request):
        self.calls = None
        self.opened.close()
        return {}


def arguments(buffers, arena, args):
    return [buffers.view(arena, a) if isinstance(a, dict) else a for a in args]


def called(kit, entry, request) -> dict:
    args = arguments(kit.buffers, kit.arena, request["args"])
    with kit.heap:
        result = entry(*args)
    operations = kit.heap.operations[:200]
    results = [kit.heap.place(t) for t in several(result)]
    return {"results": results, "taken": kit.heap.taken, "operations": operations, "elsewhere": kit.heap.elsewhere}


def several(result) -> list:
    import torch

    results = list(result) if isinstance(result, (tuple, list)) else [result]
    for r in results:
        if type(r) is not torch.Tensor:
            raise WrongResult(f"returned {'None' if r is None else type(r).__name__} where a tensor is expected")
    return results


def number(result) -> float:
    if isinstance(result, bool) or not isinstance(result, Real):
        raise WrongResult(f"returned {'None' if result is None else type(result).__name__} where a number is expected")
    return float(result)
