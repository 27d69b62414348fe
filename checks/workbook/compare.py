"""Two tensors -> agreement, or an explanation that a learner can act on."""

from dataclasses import dataclass

import torch

FLOOR = {torch.float32: 1e-6, torch.float16: 5e-4, torch.bfloat16: 4e-3}
CHUNK = 64  # elements of a row that are judged together, so that one wrong element cannot hide in a long row


@dataclass
class Disagreement:
    """What is wrong with the output `name`. index: the element that shows it, None where no element does."""

    name: str
    message: str
    index: tuple[int, ...] | None = None


def explain(name, actual, expected, yardstick, promised, before, floors) -> Disagreement | None:
    """None, or what is wrong with the output `name`.

    expected: the float64 oracle's result. yardstick: the oracle's on float32 inputs, in the output's dtype.
    promised: a meta tensor of the shape and dtype. before: what lay in the output's memory before the call, or None.
    floors: least relative error allowed, by dtype, where a spec overrides FLOOR.
    """
    if tuple(actual.shape) != tuple(promised.shape):
        return Disagreement(name, f"{name} has shape {list(actual.shape)}, expected {list(promised.shape)}")
    if actual.dtype != promised.dtype:
        return Disagreement(name, f"{name} is {_short(actual.dtype)}, expected {_short(promised.dtype)}")
    if promised.is_contiguous() and not actual.is_contiguous():
        return Disagreement(name, f"{name} is not contiguous: its strides are {list(actual.stride())}")
    if actual.numel() == 0:
        return None
    if not actual.dtype.is_floating_point:
        wrong = actual != expected
        return _found(name, actual, expected, wrong, before, "") if wrong.any() else None

    floor = floors.get(actual.dtype, FLOOR.get(actual.dtype, 0.0))
    if not (_finite(actual) and _finite(expected)) and (other := classes(actual) != classes(expected)).any():
        return _found(name, actual, expected, other | _far(actual, expected, floor), before, "", first_of=other)
    # float64 holds every other dtype's numbers, so that nothing is lost by comparing there
    found = errors(actual, expected)
    if any(error > floor for error in found):
        for measure, error, base in zip(("error", "error of the worst row"), found, errors(yardstick, expected)):
            if error > (limit := max(2 * base, floor)):
                detail = f"relative {measure} {error:.3g}, allowed {limit:.3g}"
                return _found(name, actual, expected, _far(actual, expected, limit), before, detail)
    return None


def classes(t: torch.Tensor) -> torch.Tensor:
    """0 finite, 1 NaN, 2 +inf, 3 -inf, element by element."""
    return torch.isnan(t).to(torch.int8) + 2 * torch.isposinf(t).to(torch.int8) + 3 * torch.isneginf(t).to(torch.int8)


def errors(actual: torch.Tensor, expected: torch.Tensor) -> tuple[float, float]:
    """Relative Frobenius error, and that of the worst row (of CHUNK elements); where not finite, both agree already."""
    e, d = expected, actual.to(expected.dtype) - expected
    if not _finite(expected):
        keep = torch.isfinite(expected)
        e, d = torch.where(keep, e, 0), torch.where(keep, d, 0)
    e, d = _norms(e), _norms(d)
    total = d.norm() / e.norm() if d.any() else d.new_zeros(())
    # a row far below the others is held to theirs: its own digits may have cancelled
    scale = torch.maximum(e, e.norm() / len(e) ** 0.5)
    worst = torch.where(scale > 0, d / scale, torch.where(d > 0, torch.inf, 0)).max()
    return float(total), float(worst)


def _finite(t) -> bool:
    """Whether every element is; no as well where they are too large for their norm, which only costs time."""
    return bool(t.norm().isfinite())


def _norms(t):
    """Of each CHUNK elements of a row."""
    t = t.reshape(-1, t.shape[-1]) if t.dim() > 1 else t.reshape(1, -1)
    if ragged := t.shape[1] % CHUNK:
        t = torch.nn.functional.pad(t, (0, CHUNK - ragged))
    return t.reshape(-1, CHUNK).norm(dim=1)


def _error(actual, expected) -> float:
    """Relative error of some elements, inf where it is not finite."""
    error = (actual.double() - expected.double()).norm() / expected.double().norm()
    return float(error.nan_to_num(torch.inf, torch.inf))


def _far(actual, expected, limit):
    """Elements that are wrong on their own: of another class, or off by far more than rounding."""
    keep = torch.isfinite(expected)
    e = torch.where(keep, expected, 0)
    d = (torch.where(keep, actual.to(expected.dtype), 0) - e).abs().nan_to_num(torch.inf)
    far = d > 4 * limit * torch.maximum(e.abs(), e.norm() / max(1, e.numel()) ** 0.5)
    far |= classes(actual) != classes(expected)
    return far if far.any() else d == d.max()


def _found(name, actual, expected, wrong, before, detail, first_of=None) -> Disagreement:
    where = wrong if first_of is None else first_of
    stale = unwritten(actual, before, wrong)
    if stale.any():
        count, verb = int(stale.sum()), "was" if stale.sum() == 1 else "were"
        where, detail = stale, f"{count:,} of {actual.numel():,} elements {verb} never written"
    elif first_of is None and actual.dtype.is_floating_point:
        error = (actual.to(expected.dtype) - expected).abs().nan_to_num(0)
        where = error == torch.where(wrong, error, -1).max()
    index = tuple(int(i) for i in where.nonzero()[0]) if where.dim() else ()
    got, want = actual[index].item(), expected[index].item()
    at = f"{name}{list(index)}" if index else name
    if stale.any():  # what lies in an element that was not written means nothing
        sentences = [f"{detail}, the first is {at}"]
    else:
        count, verb = int(wrong.sum()), "is" if wrong.sum() == 1 else "are"
        sentences = [detail or f"{count:,} of {actual.numel():,} elements of {name} {verb} wrong"]
        sentences.append(f"{at} is {_number(got)}, expected {_number(want)}")
    if hint := pattern(actual, expected, stale if stale.any() else wrong):
        sentences.append(hint)
    return Disagreement(name, "; ".join(sentences), index)


def unwritten(actual, before, wrong) -> torch.Tensor:
    """Elements that still hold what lay there before the call; none, where no more of the wrong ones do than may."""
    same = torch.zeros_like(wrong) if before is None else same_bytes(actual, before)
    by_chance = int(wrong.sum()) / 2 ** (8 * actual.itemsize)
    if int((same & wrong).sum()) <= 10 * by_chance:
        return torch.zeros_like(wrong)
    # of those, some are right by what lay there; of bytes too many hold it and were written
    return same if actual.itemsize > 1 else same & wrong


def pattern(actual: torch.Tensor, expected: torch.Tensor, wrong: torch.Tensor) -> str:
    """What the wrong elements have in common, in words; empty where nothing is seen."""
    flat, count = wrong.reshape(-1), int(wrong.sum())
    total = flat.numel()
    if total < 2 or _error(actual[wrong], expected[wrong]) < 0.01:  # a matter of rounding: no pattern tells the cause
        return ""
    at = flat.nonzero()[:, 0]
    first, last = int(at[0]), int(at[-1])
    a, e = actual.double(), expected.double()

    def close(x, y):
        return x.shape == y.shape and torch.allclose(x, y, rtol=1e-2, atol=1e-5, equal_nan=True)

    if wrong.dim() == 2 and count > 1:
        rows, columns = wrong.any(1).nonzero()[:, 0], wrong.any(0).nonzero()[:, 0]
        if close(a, e.t()) or close(a.reshape(-1), e.t().reshape(-1)):
            return "the elements stand in the order of the transposed matrix"
        if len(rows) == 1 and wrong.shape[0] > 1:
            return f"only row {int(rows[0])} is wrong"
        if len(columns) == 1 and wrong.shape[1] > 1:
            return f"only column {int(columns[0])} is wrong"
        if len(columns) < wrong.shape[1] == int(columns[0]) + len(columns):
            return f"only the columns from {int(columns[0])} on are wrong: the tail of each row"
    if count == last - first + 1 and last == total - 1 and count <= total / 2 and total >= CHUNK:
        return f"only the tail is wrong, from element {first:,} on: look at the mask and at the grid"
    if count > 0.5 * total:
        x, y = a.reshape(-1), e.reshape(-1)
        if not x.isfinite().all():
            return ""
        if not x.any():
            return "the result is all zeros"
        if not actual.dtype.is_floating_point:  # an index is not a multiple of another
            return ""
        if close(x, -y):
            return "every sign is flipped"
        if close(x[1:], y[:-1]) or close(x[:-1], y[1:]):
            return "the result is right but shifted by one element"
        scale = (x * y).sum() / (y * y).sum()
        if abs(scale - 1) > 0.01 and close(x, scale * y):
            return f"the result is {float(scale):.4g} times what is expected"
        return ""
    for block in (1 << k for k in range(14, 3, -1)):
        if total > block and count % block == 0:
            whole = flat[: total // block * block].reshape(-1, block)
            if int(whole.all(1).sum()) * block == count:
                return f"whole blocks of {block:,} are wrong, the first from element {first:,} on"
    return ""


def same_bytes(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Whether the elements of two tensors of one shape and dtype agree bit for bit, NaN included."""

    def raw(t):
        return t.contiguous().reshape(-1).view(torch.uint8).reshape(*t.shape, t.itemsize)

    return (raw(a) == raw(b)).all(-1)


def _number(x) -> str:
    return f"{x:.6g}" if isinstance(x, float) else str(x)


def _short(dtype) -> str:
    return str(dtype)[6:]
