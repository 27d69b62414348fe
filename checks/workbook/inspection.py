"""What is known of an inspected kernel: as it was compiled, with no GPU, and as it was traced, on the CPU."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from . import ceilings, devices, moves
from .catalog import Part
from .exercise import Case, Moves
from .occupancy import Occupancy, occupancy
from .words import Verdict


class CannotInspect(Exception):
    """The message says why, and may quote the learner's line."""


@dataclass
class Launch:
    """One kernel of a call, compiled: its facts (see codegen.facts) and its occupancy by architecture."""

    kernel: str
    facts: dict[int, dict] = field(default_factory=dict)

    def occupancy(self, arch: int) -> Occupancy:
        facts = self.facts[arch]
        return occupancy(arch, facts["threads"], facts["registers"], facts["shared"])

    def waves(self, arch: int) -> float:
        """How often all multiprocessors fill up before every program has run, where a program fits."""
        return programs(self.facts[arch]) / (self.occupancy(arch).blocks * device(arch).multiprocessors)


@dataclass
class Compiled:
    """A call compiled: its launches in order; the bytes and the flops that its case states, 0 where it states none.

    dtype: of its first tensor, as tl.dot takes it.
    """

    case: Case
    launches: list[Launch]
    dtype: str
    bytes: int = 0
    flops: int = 0


@dataclass
class Access:
    """What one line loads from, stores to or adds to one argument of a kernel in the traced call (see trace.facts).

    bits: the widest that a thread does so at a time, 0 where it is not known; tma: it is left to TMA.
    """

    line: int
    kind: str
    arg: str
    bytes: int = 0
    useful: int = 0
    sectors: int = 0
    times: int = 0
    size: int = 0
    bits: int = 0
    tma: bool = False

    @property
    def share(self) -> float:
        """Of the sectors that are touched, the part that is in use."""
        return min(1.0, self.useful / (moves.SECTOR * self.sectors)) if self.sectors else 1.0

    @property
    def wasted(self) -> int:
        return moves.SECTOR * self.sectors - self.useful


@dataclass
class Traced:
    """A call that `moves` grades: what each line accesses, and the complaints and figures of moves.judge.

    memory: bytes that may be allocated beyond the results. operations: torch's own, with their bytes. flops: of tl.dot;
    elementwise: all other floating-point operations.
    """

    wanted: Moves
    dtype: str
    accesses: list[Access]
    complaints: list[str]
    figures: dict
    memory: int
    operations: list[dict]
    flops: int
    elementwise: int

    @property
    def case(self) -> Case:
        return self.wanted.case

    @property
    def intensity(self) -> float:
        """Operations a byte asked for; only those of tl.dot where there are such."""
        return (self.flops or self.elementwise) / max(1, self.figures["requested_bytes"])


@dataclass
class Inspection:
    """All that is known of one part's file.

    kernels: the lines of each function that is compiled for a GPU. first: of a line of a statement, the statement's
    first; the compiler and the interpreter name different ones. refused: by architecture, why it does not compile.
    wrong: the first case that fails, and how. calls: those that `moves` grades. untraced: why one was not traced.
    """

    part: Part
    tree: Path
    text: str = ""
    kernels: list[range] = field(default_factory=list)
    first: dict[int, int] = field(default_factory=dict)
    compiled: list[Compiled] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)
    wrong: tuple[Case, Verdict] | None = None
    calls: list[Traced] = field(default_factory=list)
    untraced: str = ""
    measured: list[tuple[Case, Verdict]] = field(default_factory=list)

    @property
    def file(self) -> Path:
        return self.part.file(self.tree)

    @property
    def traced(self) -> Traced | None:
        """The call that is spoken of: the first that moves too much, or else the first."""
        return next((call for call in self.calls if call.complaints), self.calls[0] if self.calls else None)

    @property
    def archs(self) -> list[int]:
        return sorted({arch for call in self.compiled for launch in call.launches for arch in launch.facts})

    @property
    def arch(self) -> int:
        """The architecture that is spoken of where one must be chosen: this GPU's, or else the newest."""
        return card.arch if (card := here()) and card.arch in self.archs else self.archs[-1]

    @property
    def launches(self) -> list[Launch]:
        """What was launched on the architecture of `arch`."""
        return [launch for call in self.compiled for launch in call.launches if self.arch in launch.facts]

    def bits(self, facts: dict, access: Access) -> int:
        """The widest that a thread of a compiled kernel does what was traced; 0 where its code has no such access."""
        rows = [row for row in facts["access"] if row["op"] == access.kind and self.same(row["line"], access.line)]
        return max((row["bits"] for row in rows), default=0)

    def same(self, one: int, other: int) -> bool:
        """Whether two lines are of one statement."""
        return self.first.get(one, one) == self.first.get(other, other)

    def intensity(self, call: Compiled, arch: int) -> tuple[float, float] | None:
        """Operations a byte of a call, and the ridge point: the number from which memory is no longer the limit.

        As its case states them, or else as they were traced; None where neither is known.
        """
        gpu, traced = device(arch), self.traced
        if call.flops:
            ratio, dtype = call.flops / call.bytes, call.dtype
        elif traced:
            ratio, dtype = traced.intensity, traced.dtype if traced.flops else "fp32"
        else:
            return None
        peak = gpu.peaks.get(dtype)
        return (ratio, 1e3 * peak / gpu.bandwidth) if peak else None


def programs(facts: dict) -> int:
    x, y, z = facts["grid"]
    return x * y * z


def here() -> devices.Device | None:
    """The GPU of this machine, where it is a known one."""
    return ceilings.device() if torch.cuda.is_available() else None


def device(arch: int) -> devices.Device:
    """The GPU that stands for an architecture: this machine's, if it is of it."""
    card = here()
    return card if card and card.arch == arch else devices.TYPICAL[arch]
