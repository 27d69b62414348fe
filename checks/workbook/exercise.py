"""What a spec may say. A spec is one module with one `exercise = Exercise(...)`, meant to be read as a table."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import torch

from . import RUNGS
from .buffers import span

SHORT = {
    torch.float64: "fp64",
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.int64: "int64",
    torch.int32: "int32",
    torch.int8: "int8",
    torch.bool: "bool",
}
KINDS = ("kernel", "benchmark")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One call of the entry: the arguments of the spec's `inputs`, and what the call needs."""

    values: Mapping
    entry: str | None = None  # one of the exercise's `also`; None: its own
    needs_gb: float = 0.0  # of GPU memory; above 0 the case runs on a GPU only
    slices: Callable | None = None  # inputs -> (inputs of one slice, its place in every output); see by_rows

    @property
    def id(self) -> str:
        words = [SHORT[v] if isinstance(v, torch.dtype) else f"{k}={v}" for k, v in self.values.items()]
        return ",".join([self.entry, *words] if self.entry else words)


def case(*, entry: str | None = None, needs_gb: float = 0.0, slices: Callable | None = None, **values) -> Case:
    return Case(values=values, entry=entry, needs_gb=needs_gb, slices=slices)


def by_rows(count: int) -> Callable[[Sequence], Iterable]:
    """For `case(slices=)`: the oracle works on `count` rows (dim 0) at a time, where each row stands for itself.

    Every tensor input with as many rows as the first is cut; the others are handed over whole.
    """

    def slices(inputs):
        rows = inputs[0].shape[0]
        for start in range(0, rows, count):
            part = slice(start, min(start + count, rows))
            yield (
                [t[part] if isinstance(t, torch.Tensor) and t.dim() and t.shape[0] == rows else t for t in inputs],
                (part,),
            )

    return slices


@dataclass(frozen=True)
class Window:
    """Where the lesson is about order: how often `programs` programs in a row load each byte that they load.

    reuse: the least, on average; all loads but the first of a byte find it in the L2.
    """

    programs: int
    reuse: float


@dataclass(frozen=True)
class Moves:
    """What the entry may move, graded from the trace, without a GPU.

    bytes: inputs -> necessary bytes, each element that has to be touched counted once.
    slack: bytes requested may exceed the necessary ones by this factor.
    sectors: least share of the 32-byte sectors touched that is in use.
    launches: most kernels launched, torch's own included.
    memory: inputs -> most bytes allocated beyond the outputs.
    window: what programs that run together share.
    programs: most programs of a launch, on a GPU of 4 multiprocessors.
    busy: least share of their time in which these are at work, as schedule.py counts it.
    """

    case: Case
    bytes: Callable
    slack: float = 1.05
    sectors: float = 0.9
    launches: int = 1
    memory: Callable = lambda *_: 0
    window: Window | None = None
    programs: int | None = None
    busy: float = 0.0


@dataclass(frozen=True)
class Prediction:
    """What a function of the learner's has to foretell: the share in use of the sectors that the entry's loads touch.

    function: its name. arguments: inputs -> its arguments, by name and in order.
    share: inputs -> the right number. It is asked exactly, of the function and of the trace of the learner's kernel.
    """

    function: str
    arguments: Callable
    share: Callable
    cases: Sequence[Case]


@dataclass(frozen=True)
class Speed:
    """A timed case. target is a share of the roofline time of its bytes and flops, never a time.

    bytes, flops: inputs -> necessary bytes, necessary operations (a function such as erf is one).
    products: what the operations are done on, by its name among a device's peaks, where that is not 16 bits wide.
    naive_fails: whether the naive kernel misses this target; of several timed cases one may show nothing of the lesson.
    peers: what a user would call instead, by name; the first is the baseline that learners see. Each imports
    what it needs when it is called. A peer ending in "compile" is wrapped in torch.compile by the grader.
    sweep: what `make bench` times beside the case: values of it by name, changed in step. Where none are named, its
    largest are halved over and over.
    """

    case: Case
    bytes: Callable
    target: float
    flops: Callable | None = None
    products: str = "bf16"
    naive_fails: bool = True
    peers: Mapping[str, Callable] = field(default_factory=dict)
    sweep: Mapping[str, Sequence] = field(default_factory=dict)


@dataclass(frozen=True)
class Tuning:
    """How an autotuned entry behaves when it is called on `cases`, one after the other, on each architecture.

    times: how often it tunes: once for each kind of call that deserves a choice of its own, and not more.
    Every configuration that its pruning leaves has to fit the shared memory of the architecture.
    """

    cases: Sequence[Case]
    times: int


class Substitution:
    """An edit of the solution: pairs of old and new text, each old text occurring once."""

    def __init__(self, what: str, *pairs: tuple[str, str]):
        self.what, self.pairs = what, pairs

    def apply(self, source: str) -> str:
        for old, new in self.pairs:
            if (count := source.count(old)) != 1:
                raise ValueError(f"{self.what!r}: {old!r} occurs {count} times in the solution, expected once")
            source = source.replace(old, new)
        return source


class Bug(Substitution):
    """A planted mistake. caught: id of the case that must catch it; rung: the rung that must fail."""

    def __init__(self, what: str, *pairs: tuple[str, str], caught: str = "", rung: str = "correct"):
        super().__init__(what, *pairs)
        if rung not in RUNGS or (rung == "correct") != bool(caught):
            raise ValueError(f"{what!r}: a bug names the case that catches it, or another rung than `correct`")
        self.caught, self.rung = caught, rung


class Variant(Substitution):
    """An honest alternative that must pass: pairs of old and new text, or `fill`, what a learner wrote in a blank."""

    def __init__(self, what: str, *pairs: tuple[str, str], fill: Mapping[int, str] | None = None):
        super().__init__(what, *pairs)
        self.fill = dict(fill or {})

    def apply(self, source: str) -> str:
        from .stub import fill

        return fill(super().apply(source), self.fill)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A further function of a part, as a backward beside its forward; the fields are those of Exercise."""

    inputs: Callable
    reference: Callable
    outputs: Sequence[str] = ("out",)
    mutates: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """A part.

    kind: `kernel`, or `benchmark`, whose entry takes a call of no arguments and returns its milliseconds. There a case
    says how many megabytes the call moves, case(mb=30); no inputs, no reference, and of the rungs `correct` alone.
    entry: the host function that is graded.
    also: further entries that are graded, by name; a case names its own.
    inputs: case values -> its positional arguments, tensors and numbers, made with torch's default device.
    reference: the oracle, run on float64, float32 and meta copies of the inputs; device-neutral.
    outputs: a name for each tensor that the entry returns.
    refuses: calls that raise ValueError.
    tolerance: least relative error allowed, by dtype, where the library's is wrong for a reason that the spec gives.
    deterministic: results repeat bit for bit on a GPU.
    mutates: inputs, by the reference's argument names, that the entry changes in place.
    provisional: not measured on a GPU as it is now; its targets are a guess until it is, and say so.
    tuning: how its autotuner behaves, where it has one.
    graph: where the entry is an operator of torch.library, a call that torch.compile has to take whole, forward and
    backward, with the kernels in its graph.
    bugs: the first whose rung is `moves` or `fast` is the naive kernel that the target of `speed` must fail.
    """

    entry: str
    cases: Sequence[Case]
    kind: str = "kernel"
    also: Mapping[str, Entry] = field(default_factory=dict)
    inputs: Callable | None = None
    reference: Callable | None = None
    outputs: Sequence[str] = ("out",)
    refuses: Sequence[Case] = ()
    moves: Sequence[Moves] = ()
    prediction: Prediction | None = None
    speed: Sequence[Speed] = ()
    tuning: Tuning | None = None
    graph: Case | None = None
    bugs: Sequence[Bug] = ()
    variants: Sequence[Variant] = ()
    tolerance: Mapping[torch.dtype, float] = field(default_factory=dict)
    deterministic: bool = False
    mutates: Sequence[str] = ()
    provisional: bool = False

    def __post_init__(self):
        if self.kind not in KINDS or (self.kind == "kernel") != bool(self.inputs and self.reference):
            kinds = " or ".join(KINDS)
            raise ValueError(f"{self.entry}: kind is {kinds}; a kernel has inputs and a reference, a benchmark neither")
        named = [*self.cases, *self.refuses, *(m.case for m in self.moves), *(s.case for s in self.speed)]
        if unknown := {c.entry for c in named} - {None, *self.also}:
            raise ValueError(f"{self.entry}: `also` holds no {', '.join(sorted(unknown))}, which a case names")

    def of(self, case: Case) -> "Exercise":
        """The exercise as it is for a case: entry, inputs, reference, outputs and mutates are those of its entry."""
        if case.entry not in self.also:
            return self
        entry = self.also[case.entry]
        return replace(self, entry=case.entry, **{f.name: getattr(entry, f.name) for f in fields(entry)})

    @property
    def argument_names(self) -> list[str]:
        if self.kind == "benchmark":
            return ["call"]
        code = self.reference.__code__
        return list(code.co_varnames[: code.co_argcount])

    def find(self, case_id: str) -> Case:
        for c in [*self.cases, *self.refuses]:
            if c.id == case_id:
                return c
        raise KeyError(f"no case {case_id!r}; there are {', '.join(c.id for c in self.cases)}")


def normal(*shape, dtype=torch.float32, scale=1.0, mean=0.0, strides=None) -> torch.Tensor:
    """Normal numbers [*shape] on torch's default device, rounded to dtype; `strides` apart, in elements."""
    if strides is not None:
        numbers = normal(span(shape, strides), dtype=dtype, scale=scale, mean=mean)
        return numbers.as_strided(shape, strides)
    if torch.get_default_device().type == "meta":  # where arithmetic would first import torch's compiler, for 2 s
        return torch.empty(shape, dtype=dtype)
    return torch.empty(shape).normal_(mean, scale).to(dtype)


def gradients(function: Callable, inputs: Sequence[torch.Tensor], upstream: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """For the reference of a backward: the gradient of each of the inputs, where function(*inputs) has `upstream`."""
    return differentiate(function, [t.detach().requires_grad_() for t in inputs], upstream)


def differentiate(function, leaves, upstream):
    # a name of its own, so that the selfcheck can put finite differences here
    return torch.autograd.grad(function(*leaves), leaves, upstream)
