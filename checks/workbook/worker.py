"""Untrusted: a forked process that loads the learner's file, does what is asked, and says "done".

Whatever else it says explains a verdict; it never makes one.
"""

import faulthandler
import importlib.util
import json
import os
import re
import signal
import socket
import sys
import traceback
from types import SimpleNamespace

from . import sandbox

LIMIT = 150_000  # bytes a message: less than what a Unix socket takes whole


def prepare(mode: str) -> None:
    """Imports, in the server that will be forked, what workers of a mode need."""
    from . import buffers  # noqa: F401

    if mode == "interpret":
        from . import repair, trace  # noqa: F401
    if mode == "gpu":
        from . import allocator  # noqa: F401
    if mode == "compile":
        from . import codegen

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

        kit = {"interpret": Interpreter, "compile": Compiler, "gpu": Gpu}[mode](buffers, arena)
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

        from . import repair, trace

        self.buffers, self.arena, self.heap = buffers, buffers.attach(arena), None
        repair.install()
        self.trace = trace.install(self.allocation_of)
        # a small made-up GPU, so that persistent programs do loop over several tiles
        properties = SimpleNamespace(name="interpreter", multi_processor_count=4, major=9, minor=0)
        torch.cuda.get_device_properties = lambda *_: properties

    def allocation_of(self, address):
        base = self.arena.data_ptr()
        for offset, size in self.inputs:
            if offset <= address - base < offset + size:
                return base + offset, base + offset + size
        return self.heap.allocation_of(address)

    def run(self, entry, request):
        """Calls the entry once; says where its results lie, and what the trace saw."""
        described = [a for a in request["args"] if isinstance(a, dict)]
        self.inputs = [(d["offset"], self.buffers.nbytes(d)) for d in described]
        watch = request.get("watch")
        self.trace.reset(None if watch is None else self.arena.data_ptr() + watch)
        quiet = lambda: self.trace.launching  # noqa: E731
        self.heap = self.buffers.Heap(self.arena, *request["heap"], quiet)
        return called(self, entry, request) | {"facts": self.trace.facts()}


class Compiler:
    """Compiles what the entry launches, on tensors without data."""

    def __init__(self, buffers, arena):
        from . import codegen

        self.codegen, self.arena = codegen, buffers.attach(arena).numpy()

    def compile(self, entry, request):
        import torch

        def meta(a):
            dtype = getattr(torch, a["dtype"])
            return torch.empty_strided(a["shape"], a["stride"], dtype=dtype, device="meta")

        args = [meta(a) if isinstance(a, dict) else a for a in request["args"]]
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
        """Calls the entry on one slot after the other; ms by events, which the grader holds against its own clock."""
        arena, marks = self.opened.tensor, self.marks[: request["calls"]]
        self.marks[-1][0].record()  # so that the GPU has turned to this process also where nothing is called
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


def describe(error: BaseException, file: str) -> dict:
    """The innermost cause of an error, and the line of the learner's file that it came from."""
    chain = [error]
    while (
        inner := chain[-1].__cause__ or (None if chain[-1].__suppress_context__ else chain[-1].__context__)
    ) is not None:
        chain.append(inner)
    lines = [line for e in chain if (line := line_of(e, file))]
    root = chain[-1]
    message = root.msg if isinstance(root, SyntaxError) else str(root)
    todos = [m[0] for e in chain if (m := re.search(r"TODO \d\.\d+[a-z], blank \d+", str(e)))]
    todo = todos[-1] if todos else None
    return {"type": type(root).__name__, "message": message[-2000:], "line": lines[-1] if lines else None, "todo": todo}


def line_of(error: BaseException, file: str) -> int | None:
    if isinstance(error, SyntaxError):
        return error.lineno if error.filename == file else None
    node, source = getattr(error, "node", None), getattr(error, "src", None)
    if node is not None and source:  # Triton's CompilationError counts lines from the kernel's own first
        with open(file, encoding="utf-8") as f:
            text = f.read()
        if (at := text.find(source.splitlines()[0])) >= 0:
            return text.count("\n", 0, at) + node.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return lines[-1] if lines else None
