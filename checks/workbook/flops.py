"""Floating-point operations in Triton's interpreter, counted. Imported by a worker only.

What a lane computes counts, live or not, as on a GPU: one for an addition as for an exponential, two for a fused
multiply-add, n - 1 for a reduction or a scan of n elements. Comparisons and conversions count nothing.
"""

import numpy as np
from triton.runtime.interpreter import InterpreterBuilder, ReduceOps, ScanOps

# fmt: off
ONE = (
    "fadd", "fsub", "fmul", "fdiv", "frem", "precise_divf", "minimumf", "minnumf", "maximumf", "maxnumf", "exp", "exp2",
    "log", "log2", "sqrt", "precise_sqrt", "rsqrt", "sin", "cos", "erf", "extern_elementwise",
)
# fmt: on


def install(note) -> None:
    """Have `note(dot, other)` called with the operations of each tl.dot, and with all others. After the repairs."""
    for name in (f"create_{name}" for name in ONE if hasattr(InterpreterBuilder, f"create_{name}")):
        note_after(InterpreterBuilder, name, lambda result, *_: note(0, result.data.size))
    note_after(InterpreterBuilder, "create_fma", lambda result, *_: note(0, 2 * result.data.size))
    note_after(
        InterpreterBuilder,
        "create_dot",
        lambda result, _, a, *__: note(2 * result.data.size * a.data.shape[-1], 0),
    )
    for owner, name in ((ReduceOps, "sum"), (ReduceOps, "min_max"), (ScanOps, "cumsum"), (ScanOps, "cumprod")):
        note_after(owner, name, lambda _, operation, block, *__: note(0, combined(block, operation.axis)))


def combined(block, axis: int | None) -> int:
    """Operations that a block's reduction takes; those of integers are none."""
    data = block.handle.data
    if not np.issubdtype(data.dtype, np.floating):
        return 0
    return data.size - data.size // (data.size if axis is None else data.shape[axis])


def note_after(owner, name, note) -> None:
    plain = getattr(owner, name)

    def noted(*args, **kwargs):
        result = plain(*args, **kwargs)
        note(result, *args)
        return result

    setattr(owner, name, noted)
