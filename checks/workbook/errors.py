"""Untrusted: what a worker says of an error that it ran into."""

import re
import traceback


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
