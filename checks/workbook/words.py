"""What a worker says of an error -> one clear line for the learner: what is wrong, where, what to do."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from .catalog import Part
from .exercise import Exercise

TORCH = "the work is asked of a Triton kernel of your own, not of torch"


@dataclass
class Verdict:
    """status: pass, fail, todo, ungraded (not graded here, with the reason), inconclusive, or error (ours).

    message: the sentence; further lines quote the learner's file. printed: what the learner's code wrote.
    """

    status: str
    message: str = ""
    facts: dict = field(default_factory=dict)
    printed: str = ""
    seconds: float = 0.0


def told(error: dict, part: Part, exercise: Exercise, file: Path, calls: str = "") -> Verdict:
    """The verdict (todo or fail) on an error that a worker told. calls: what the grader called, if not the entry."""
    # Triton's compiler quotes the whole kernel down to a caret; the line of it is quoted below
    line, message = error.get("line"), re.split(r"\n *\^\n", error["message"])[-1].strip()
    # and torch's compiler goes on for those who work on torch
    message = re.split(r"\n\s*(?:Hint:|Developer debug context|from user code|Set TORCHDYNAMO)", message)[0].rstrip()
    if (error.get("todo") or "").startswith(f"TODO {part.id}, "):
        return Verdict("todo", open_blanks(part, file))
    kind = error["type"]
    if kind in ("NoServer", "NoSandbox"):
        return Verdict("error", message)
    calls = calls or f"{exercise.entry}({', '.join(exercise.argument_names)})"
    if kind == "TimeOut":
        text = f"{message}: an endless loop?"
    elif kind == "Died":
        text = message + (": an access far out of bounds?" if "SIGSEGV" in message or "SIGBUS" in message else "")
    elif kind in ("OutOfBounds", "Nonsense", "MissingEntry", "WrongResult", "Refused"):
        text = message + (f": the grader calls {calls}" if kind == "MissingEntry" else "")
    elif kind == "TypeError" and re.search(rf"{calls.partition('(')[0]}\(\) (takes|missing|got)", message):
        text = f"{message}: the grader calls {calls}"
    elif kind == "UnicodeDecodeError" or "null bytes" in message or "codec can't decode" in message:
        text = "the file is not UTF-8 text"
    elif kind == "BdbQuit":
        text = "breakpoint() has no terminal in the grader: print instead"
    elif "has no len()" in message:
        text = f"{kind}: {message}: is the grid a tuple, as in `grid = (programs,)`?"
    elif "has initial type" in message and "re-assigned" in message:
        text = f"{kind}: {message}: begin, before the loop, with a block of the shape and dtype that it has in the end"
    elif "incompatible dimensions" in message:
        text = f"{kind}: {message}: does a block lack its [:, None] or [None, :]?"
    elif least := re.search(r"Input shapes should have .* and K >= (\d+)", message):
        text = f"the blocks of tl.dot are too narrow: the dimension that is summed over has at least {least[1]}"
    elif found := re.search(r"returned an incorrect number of gradients \(expected (\d+), got (\d+)\)", message):
        text = (
            f"the backward returns {'too few' if int(found[2]) < int(found[1]) else 'too many'} gradients: one for "
            "each argument of the forward, None for an argument that has none"
        )
    elif "Pending unbacked symbols" in message or "data-dependent" in message:
        text = "torch.compile cannot take the call whole: no branch in it may depend on what a tensor holds"
    elif kind == "IncompatibleTypeErrorImpl":
        text = f"{message}: does a comparison beside & or | lack its brackets, as in `(a < b) & (c < d)`?"
    elif "data pointer of Tensor (e.g. FakeTensor" in message:
        text = "a kernel is launched while torch.compile traces: launch it by `wrap_triton(kernel)[grid](...)`"
    elif "'function' object has no attribute" in message:
        text = f"{message}: a function that a kernel calls needs @triton.jit too"
    elif kind == "AssertionError" and message.endswith("is not string"):
        text = 'a print in a kernel begins with a string, as in `print("offsets", offsets)`'
    elif kind == "AutotunerError" and "after pruning" in message:
        text = "no configuration is left after pruning: the pruning function has to return a list of at least one"
    elif kind == "SyntaxError":
        text = f"syntax error: {message}"
    elif kind in ("IndentationError", "TabError"):
        text = f"wrong indentation: {message}"
    elif "CUDA enabled" in message or "No CUDA GPUs" in message or "NVIDIA driver" in message:
        text = "asks for a GPU by name: take the device from an input instead, as in `device=x.device`"
    elif kind == "OutOfMemoryError":
        text = "out of GPU memory: " + message.split(". ")[0]
    elif "illegal memory access" in message or "misaligned address" in message:
        text = "illegal memory access on the GPU: a load or store out of bounds"
    else:
        text = f"{kind}: {message}" if message else kind
    return Verdict("fail", text + _at(file, line))


def open_blanks(part: Part, file: Path) -> str:
    """Which blanks of the learner's file are open, and the line of the first."""
    lines = {
        int(match[1]): number
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if (match := re.search(rf"TODO {re.escape(part.id)}, blank (\d+)", line))
    }
    numbers = [str(n) for n in sorted(lines)]
    if len(numbers) == 1:
        text = f"blank {numbers[0]} is still open"
    else:
        text = f"blanks {', '.join(numbers[:-1])} and {numbers[-1]} are still open; begin with blank {numbers[0]}"
    return text + _at(file, lines[min(lines)])


def _at(file: Path, line: int | None) -> str:
    """The learner's line, quoted below the message."""
    if not line:
        return ""
    try:
        text = file.read_text(encoding="utf-8").splitlines()[line - 1].strip()
    except (OSError, UnicodeDecodeError, IndexError):
        return ""
    return f"\n{file.name}:{line}: {text}"
