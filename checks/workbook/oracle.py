"""Trusted: what an entry has to return, from the spec's reference on copies of the inputs."""

import math

import torch

from . import compare
from .exercise import Case, Exercise

SMALL = 16 << 20  # bytes
NEAR = 10  # times the least error allowed


def promised(exercise: Exercise, inputs) -> list[torch.Tensor]:
    """Meta tensors of the shapes and dtypes that the entry has to return."""
    tensors = [a for a in inputs if isinstance(a, torch.Tensor)]
    if all(t.device.type == "cpu" for t in tensors) and sum(t.nbytes for t in tensors) < SMALL:
        # as quick as on meta tensors, and it saves importing torch's compiler (1.4 s), which meta arithmetic does
        return [torch.empty_like(t, device="meta") for t in several(exercise.reference(*copies(inputs)))]
    return several(exercise.reference(*copies(inputs, device="meta")))


def disagree(exercise: Exercise, case: Case, inputs, results, poison=None) -> compare.Disagreement | None:
    """None, or where results and oracle differ. poison: what lay in the results' memory before the
    call, where that is known.

    The oracle is the reference on float64 copies; its result on float32 copies, rounded to the output's dtype, is the
    yardstick of the error allowed. A case may have both made slice by slice.
    """
    wanted = promised(exercise, inputs)
    for some, place in case.slices(inputs) if case.slices else [(inputs, ...)]:
        exact = several(exercise.reference(*copies(some, dtype=torch.float64)))
        single = several(exercise.reference(*copies(some, dtype=torch.float32)))
        for name, actual, before, expected, yardstick, promise in zip(
            exercise.outputs, results, poison or [None] * len(results), exact, single, wanted, strict=True
        ):
            if actual.shape == promise.shape:
                actual, promise = actual[place], promise[place]
                before = None if before is None else before[place]
            expected, yardstick = expected.to(actual.device), yardstick.to(actual.device, promise.dtype)
            if found := compare.explain(name, actual, expected, yardstick, promise, before, exercise.tolerance):
                return found
    return None


def near(exercise: Exercise, inputs, results) -> bool:
    """Whether results are those of the reference in float32, but for rounding: quick, and never said of wrong ones."""
    narrow = all(a.itemsize <= 2 for a in inputs if isinstance(a, torch.Tensor) and a.is_floating_point())
    try:
        torch.set_float32_matmul_precision("high" if narrow else "highest")  # TF32 holds all of an fp16 or bf16 number
        expected = several(exercise.reference(*copies(inputs, dtype=torch.float32)))
    finally:
        torch.set_float32_matmul_precision("highest")
    for actual, single in zip(results, expected, strict=True):
        if actual.shape != single.shape or actual.dtype not in compare.FLOOR:
            return False
        limit = NEAR * compare.FLOOR[actual.dtype]
        off, typical = float((actual - single).norm(torch.inf)), float(single.norm()) / single.numel() ** 0.5
        if not math.isfinite(typical):  # nor is an element, then
            return False
        # where no element is off by more than a typical one may be, no row is, and not the whole
        if not (off <= limit * typical or all(error <= limit for error in compare.errors(actual, single))):
            return False
    return True


def copies(inputs, dtype=None, device=None) -> list:
    """The inputs again; only floating-point tensors change their dtype."""

    def copy(a):
        if not isinstance(a, torch.Tensor):
            return a
        return a.to(dtype=dtype if a.is_floating_point() else None, device=device, copy=True)

    return [copy(a) for a in inputs]


def several(value) -> list[torch.Tensor]:
    return list(value) if isinstance(value, (tuple, list)) else [value]
