"""Code in a submission that an honest answer seldom needs: OUT/work/ -> OUT/tripwires.csv.

Where a human should look first, and never a verdict: what is found may be innocent, and whoever means to hide will
hide from it. The sandbox and the grader's own checks guard the points; this guards nothing. Found by the syntax tree:
nothing is imported or run, and what the stub holds too is not told.
"""

import ast
import csv
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from .. import catalog, new
from .similarity import cells

MOST = 12  # findings told of one file
IMPORTS = ("torch", "triton", "math", "typing", "functools", "__future__")
CALLS = re.compile("open|exec|eval|compile|__import__|globals|vars|setattr|delattr|input|breakpoint")
# attributes of a module that reach past the arithmetic
INNARDS = re.compile(
    "backends|compiler|cpp_extension|distributed|fx|hub|knobs|library|multiprocessing|ops|os|overrides|runtime|sys|utils"
)
KEEPS = re.compile("cache|lru_cache|data_ptr|gi_frame|f_back")
BESIDE = re.compile("Stream|stream|CUDAGraph|graph|make_graphed_callables|compile|Thread")
# what a host function calls to make room, to look at shapes and to launch; anything else of torch is worth a look
HOST = re.compile(
    "empty.*|new_empty.*|zeros.*|full.*|ones.*|size|stride|numel|dim|nelement|element_size|itemsize|is_contiguous|is_.*|"
    "view|view_as|reshape|flatten|t|transpose|permute|expand|expand_as|squeeze|unsqueeze|as_strided|unbind|split|chunk|"
    "device|finfo|iinfo|get_device_properties|get_device_capability|append|items|get|join|format|bit_length|index|"
    "next_power_of_2|cdiv|Config|autotune|jit|heuristics|save_for_backward|mark_non_differentiable|apply|data_ptr|"
    "from_tensor"
)


def report(out: Path) -> list[tuple[str, str, int, str]]:
    """Writes OUT/tripwires.csv and returns its rows: submission, part, line, what; what is rare in the class first."""
    rows = []
    for part in catalog.parts():
        try:
            given = {what for _, what in look(new.stub_of(part).encode(), part.exercise.kind)}
        except new.CannotLay:
            given = set()
        for folder in sorted(path for path in (out / "work").glob("*") if path.is_dir()):
            file = part.file(folder)
            try:
                source = file.read_bytes() if file.is_file() and not file.is_symlink() else b""
            except OSError:
                continue
            found = [(line, what) for line, what in look(source, part.exercise.kind) if what not in given]
            rows += [(folder.name, part.id, line, what) for line, what in found[:MOST]]
    often = Counter(what for *_, what in rows)
    rows.sort(key=lambda row: (often[row[3]], row))
    with (out / "tripwires.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("submission", "part", "line", "what"), *map(cells, rows)])
    return rows


def look(source: bytes, kind: str = "kernel") -> list[tuple[int, str]]:
    """(line, what) in order, each `what` once; nothing in a source that Python cannot read."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    found = {}
    beside = _host(tree) if kind == "kernel" else ()  # a benchmark asks torch for all that it does
    for line, what in sorted((*_anywhere(tree), *beside)):
        found.setdefault(what[:80], line)
    return [(line, what) for what, line in found.items()]


def _anywhere(tree: ast.Module) -> Iterator[tuple[int, str]]:
    modules = {}  # names that stand for modules
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                path = alias.name if isinstance(node, ast.Import) else f"{node.module or '.'}.{alias.name}"
                modules[(alias.asname or alias.name).split(".")[0]] = path
                first, *inner = path.split(".")
                if first not in IMPORTS or any(INNARDS.fullmatch(name) or name == "nn" for name in inner):
                    yield node.lineno, f"imports {path}"
    aligned = list(_asked_for_alignment(tree))
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name)) if CALLS.fullmatch(name):
                yield node.lineno, f"calls {name}"
            case ast.Attribute(attr=name) if name.startswith("_"):
                yield node.lineno, f"reaches for .{name}"
            case ast.Attribute(value=ast.Name(id=module), attr=name) if module in modules and INNARDS.fullmatch(name):
                yield node.lineno, f"reaches for {module}.{name}"
            case ast.Attribute(attr=name) if KEEPS.fullmatch(name) and node not in aligned:
                yield node.lineno, f"may tell calls apart, or keep results: .{name}"
            case ast.Name(id=name) if KEEPS.fullmatch(modules.get(name, "").removeprefix("functools.")):
                yield node.lineno, f"may tell calls apart, or keep results: {name}"
            case ast.Attribute(attr=name) if BESIDE.fullmatch(name):
                yield node.lineno, f"streams, graphs, threads or another compiler: .{name}"
            case ast.Attribute(ctx=ast.Store() | ast.Del()) if _root(node) in modules:
                yield node.lineno, f"changes {ast.unparse(node)[:60]}"
            case ast.Try():
                yield node.lineno, "catches exceptions"
            case ast.Global(names=names):
                yield node.lineno, f"keeps something between calls: global {', '.join(names)}"


def _host(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """What is asked of torch outside kernels."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    kernels = [node for node in functions if any("jit" in ast.unparse(mark) for mark in node.decorator_list)]
    inside = {id(node) for kernel in kernels for node in ast.walk(kernel)}
    for node in ast.walk(tree):
        if id(node) in inside:
            continue
        match node:
            case ast.Call(func=ast.Attribute(attr=name) as called) if _root(called) not in ("math", "triton"):
                if not HOST.fullmatch(name):
                    yield node.lineno, f"asks torch for {name}"
            case ast.BinOp(op=ast.MatMult()) | ast.AugAssign(op=ast.MatMult()):
                yield node.lineno, "asks torch for a matmul: @"


def _asked_for_alignment(tree: ast.AST) -> Iterator[ast.AST]:
    """The `x.data_ptr` of each `x.data_ptr() % 16`, which a descriptor depends on; it tells no call from another."""
    for node in ast.walk(tree):
        match node:
            case ast.BinOp(ast.Call(ast.Attribute(attr="data_ptr") as called), ast.Mod(), ast.Constant(16 | 128)):
                yield called


def _root(node: ast.AST) -> str:
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""
