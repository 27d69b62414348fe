"""The path is the identity: ids and paths, the curriculum in order, as found on disk."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imports torch, which hints and progress do without
    from .exercise import Exercise

ROOT = Path(__file__).resolve().parents[2]
STAGES, SOLUTIONS, CHECKS, MEASURED = ROOT / "stages", ROOT / "solutions", ROOT / "checks", ROOT / "checks/measured"
PATH = re.compile(r"(\d)_(\w+)/(\d+)_(\w+)/([a-z])_(\w+)\.py")
HINT = re.compile(r"<details>\s*<summary>Hint (\d) for ([\w.]+)</summary>\s*(.*?)\s*</details>", re.S)


class UnknownPart(Exception):
    """The text names no part of the workbook; the message says which there are."""


@dataclass(frozen=True)
class Part:
    """One file of the curriculum. path is relative, and the same in stages/, solutions/ and checks/."""

    path: str

    @property
    def stage(self) -> str:
        return self.path[0]

    @property
    def exercise_id(self) -> str:
        stage, _, number, *_ = PATH.fullmatch(self.path).groups()
        return f"{stage}.{number}"

    @property
    def id(self) -> str:
        return self.exercise_id + PATH.fullmatch(self.path)[5]

    @cached_property
    def exercise(self) -> Exercise:
        """The spec. Raises whatever the spec's module raises."""
        spec = importlib.util.spec_from_file_location(f"spec_{self.id.replace('.', '_')}", CHECKS / self.path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.exercise

    @cached_property
    def title(self) -> str:
        """First line of the solution's docstring (of the stub's, in an edition without solutions)."""
        for tree in (SOLUTIONS, STAGES):
            try:
                return re.match(r'\s*r?"""(.+?)[."\n]', self.file(tree).read_text())[1]
            except (OSError, UnicodeDecodeError, TypeError):
                continue
        return PATH.fullmatch(self.path)[6].replace("_", " ")

    @property
    def lesson(self) -> Path:
        return (STAGES / self.path).parent / "README.md"

    def hints(self) -> list[str]:
        text = self.lesson.read_text() if self.lesson.exists() else ""
        found = {int(number): hint for number, part, hint in HINT.findall(text) if part == self.id}
        return [found[n] for n in sorted(found)]

    def file(self, tree: Path) -> Path:
        return Path(tree) / self.path


def part_at(path: Path) -> Part | None:
    """The part whose spec lies at this path, if one does."""
    try:
        relative = path.resolve().relative_to(CHECKS).as_posix()
    except ValueError:
        return None
    return Part(relative) if PATH.fullmatch(relative) else None


@cache
def parts() -> tuple[Part, ...]:
    """The curriculum: every spec on disk, in order."""
    found = (part_at(p) for p in CHECKS.glob("[0-9]_*/[0-9]*_*/[a-z]_*.py"))
    return tuple(sorted(filter(None, found), key=lambda p: (p.stage, int(p.exercise_id.split(".")[1]), p.id)))


def select(text: str = "") -> list[Part]:
    """Parts by id: "" all, "2" a stage, "2.1" an exercise, "2.1b" a part. Raises UnknownPart."""
    chosen = [p for p in parts() if text in ("", p.stage, p.exercise_id, p.id)]
    if chosen:
        return chosen
    near = [p for p in parts() if p.exercise_id == text[:3]] or [p for p in parts() if p.stage == text[:1]] or parts()
    raise UnknownPart(f"there is no part {text!r}; the nearest are {', '.join(p.id for p in near)}")
