"""Lessons and notes as programs: the ```python blocks of a document, run as its reader would run them without a GPU.

All blocks of a document are one module, at the line numbers that they have in the document, so that Triton finds the
source of kernels there and an error names the document's own line.
"""

import ast
import contextlib
import io
import linecache
import re
import sys
import traceback
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import torch
import triton
import triton.language as tl
from markdown_it import MarkdownIt
from torch.testing import assert_close
from workbook import catalog


def source(text: str) -> str:
    """The ```python blocks of a Markdown text, every line at its number; what is no code becomes blank lines."""
    lines = [""] * len(text.splitlines())
    for token in MarkdownIt().parse(text):
        if token.type == "fence" and token.info.strip() == "python":
            code = token.content.splitlines()
            first = token.map[0] + 1
            lines[first : first + len(code)] = code
    return "\n".join(lines) + "\n"


def links(text: str) -> list[str]:
    """Where the links and pictures of a Markdown text lead."""
    inline = [child for token in MarkdownIt().enable("table").parse(text) for child in token.children or ()]
    return [str(value) for child in inline for name, value in child.attrs.items() if name in ("href", "src")]


def headings(text: str) -> set[str]:
    """The names by which links lead to the headings of a Markdown text, as GitHub makes them."""
    tokens = MarkdownIt().parse(text)
    titles = (t.content for before, t in pairwise(tokens) if before.type == "heading_open")
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def run(document: Path) -> str:
    """What is wrong with the blocks of a document, or nothing. In a process of its own, with TRITON_INTERPRET set."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            idle = _idle(document, source(document.read_text()))
        except BaseException as error:
            return printed.getvalue() + _told(document, error)
    return "\n".join(f"{document}:{line}: {name} is defined, and nothing runs it" for name, line in idle.items())


def _idle(document: Path, code: str) -> dict[str, int]:
    """Runs the blocks, then what EXERCISED has for them. Name and line of the functions that no one called."""
    module = ModuleType(document.stem)
    vars(module).update(torch=torch, triton=triton, tl=tl)
    sys.modules[module.__name__] = module
    linecache.cache[str(document)] = (len(code), None, code.splitlines(keepends=True), str(document))
    defined = {node.name: node.lineno for node in ast.walk(ast.parse(code)) if isinstance(node, ast.FunctionDef)}

    def note(frame, *_):
        if frame.f_code.co_filename == str(document):
            defined.pop(frame.f_code.co_name, None)

    sys.settrace(note)
    try:
        exec(compile(code, str(document), "exec"), vars(module))
        with contextlib.suppress(ValueError):  # a document elsewhere
            EXERCISED.get(document.relative_to(catalog.ROOT).as_posix(), lambda _: None)(module)
    finally:
        sys.settrace(None)
    return defined


def _told(document: Path, error: BaseException) -> str:
    """The error, below the lines of the document that led to it."""
    frames = traceback.extract_tb(error.__traceback__)
    while error.__cause__ and type(error).__name__ == "InterpreterError":
        error = error.__cause__
        frames += traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in frames if frame.filename == str(document)]
    return "".join(traceback.format_list(frames) + traceback.format_exception_only(error))


def vector_ops(lesson):
    x = torch.randn(2500)
    assert_close(lesson.double(x), 2 * x)
    for mode, expected in (("double", 2 * x), ("halve", x / 2)):
        out = torch.empty_like(x)
        lesson.scale_kernel[(10,)](x, out, 2500, MODE=mode, BLOCK=256)
        assert_close(out, expected)


def reductions(lesson):
    x, out = torch.randn(3, 40)[:, :37], torch.empty(3)
    lesson.length_kernel[(3,)](x, out, 37, x.stride(0), BLOCK=16)
    assert_close(out, torch.linalg.vector_norm(x, dim=1))


def matrix_ops(lesson):
    x = torch.randn(40, 50)
    for strided in (x, x.t(), x[0].expand(40, 50)):
        assert_close(lesson.corner(strided), strided[:16, :32])


def tiled_matmul(lesson):
    x, out = torch.randn(64, 96), torch.empty(64, 64)
    lesson.gram_kernel[(1,)](x, out, 96, x.stride(0))
    assert_close(out, x @ x.t())


def coalescing(lesson):
    x, out = torch.randn(37, 5), torch.empty(5)
    lesson.column_kernel[(5,)](x, out, 37, 5, BLOCK=16)
    assert_close(out, x.sum(0))


# A lesson shows a kernel and leaves it to its reader to call it: here that is done, against torch.
EXERCISED = {
    "stages/1_fundamentals/1_vector_ops/README.md": vector_ops,
    "stages/1_fundamentals/2_reductions/README.md": reductions,
    "stages/1_fundamentals/3_matrix_ops/README.md": matrix_ops,
    "stages/2_memory_patterns/1_tiled_matmul/README.md": tiled_matmul,
    "stages/2_memory_patterns/2_coalescing/README.md": coalescing,
}
