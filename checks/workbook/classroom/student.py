"""The edition that a class gets: the workbook without solutions, bugs and variants, every part a fresh stub.

Copied is what git tracks (what lies here, where there is no git), dotfiles aside. The stubs are derived anew and kept
a second time, in checks/stubs/, from where `make reset` lays them; of the measured runs stays what targets are made of.
"""

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .. import catalog, new, stub
from .trim import trimmed

LEFT_OUT = ("solutions/", "checks/selfcheck/", "checks/rubric")
TARGETS = ("new", "stubs", "test", "figures", "grade", "student")  # of the Makefile: what they need is left out


class CannotWrite(Exception):
    """The message says why."""


def write(folder: Path) -> list[str]:
    """Writes the edition into a new or empty folder, whole or not at all. Returns the files that git does not track.

    Raises CannotWrite where the folder will not do, a part's files will not, or a solution's text would be in it.
    """
    folder = folder.resolve()
    if not any(part.file(catalog.SOLUTIONS).exists() for part in catalog.parts()):
        raise CannotWrite("this edition has no solutions: there is nothing to leave out")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CannotWrite(f"{folder} is there already: name a new or an empty folder")
    if folder.is_relative_to(catalog.ROOT) and _git("check-ignore", str(folder)) is None:
        raise CannotWrite(
            f"{folder} would be a part of this workbook: name a folder elsewhere, or one that git ignores"
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as beside:
            edition = Path(beside) / "edition"
            untracked = _fill(edition)
            if told := list(given_away(edition)):
                raise CannotWrite(f"nothing is written, solutions would be given away: {'; '.join(told[:5])}")
            edition.rename(folder)
    except new.CannotLay as error:
        raise CannotWrite(str(error)) from None
    except OSError as error:
        raise CannotWrite(f"the edition cannot be written: {error}") from None
    return untracked


def given_away(edition: Path) -> Iterator[str]:
    """Where the answer to a blank, of two lines or more, stands in the edition; in words, for each."""
    texts = {file: _bare(file.read_bytes()) for file in sorted(edition.rglob("*")) if file.is_file()}
    for part in catalog.parts():
        source = part.file(catalog.SOLUTIONS).read_text() if part.file(catalog.SOLUTIONS).exists() else ""
        for number, (_, body) in enumerate(stub.REGION.findall(source), 1):
            answer = _bare(body.encode())
            for file, text in texts.items():
                if answer.count("\n") > 2 and answer in text:
                    yield f"blank {number} of {part.id} is answered in {file.relative_to(edition)}"


def _bare(text: bytes) -> str:
    """Lines without their indentation, blank ones and comments, each between newlines."""
    lines = (line.strip() for line in text.decode(errors="replace").splitlines())
    return "\n".join(["", *(line for line in lines if line and not line.startswith("#")), ""])


def _fill(edition: Path) -> list[str]:
    tracked, untracked = _files()
    for path in tracked:
        file = edition / path
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(catalog.ROOT / path, file)
    _edit(edition / "Makefile", _without_targets)
    for file in (edition / "checks/measured").glob("*.json"):
        _edit(file, _without_checks)
    for part in catalog.parts():
        spec = part.file(edition / "checks")
        if spec.exists():
            _edit(spec, trimmed)
            for tree in (edition / "stages", edition / "checks/stubs"):
                part.file(tree).parent.mkdir(parents=True, exist_ok=True)
                part.file(tree).write_text(new.stub_of(part))
    return untracked


def _files() -> tuple[list[str], list[str]]:
    """Paths that belong to the edition; and those that would, were they tracked."""
    if tracked := _git("ls-files", "-z"):
        untracked = _git("ls-files", "-z", "--others", "--exclude-standard") or ""
        return [list(filter(_wanted, paths.split("\0"))) for paths in (tracked, untracked)]
    found = (file.relative_to(catalog.ROOT).as_posix() for file in sorted(catalog.ROOT.rglob("*")) if file.is_file())
    return [path for path in found if "__pycache__" not in path and ".egg-info" not in path and _wanted(path)], []


def _wanted(path: str) -> bool:
    visible = path == ".gitignore" or "/." not in f"/{path}"
    return visible and not path.startswith(LEFT_OUT) and (catalog.ROOT / path).is_file()


def _edit(file: Path, change) -> None:
    """Raises CannotWrite where the file is not as `change` expects it."""
    try:
        file.write_text(change(file.read_text()))
    except (ValueError, SyntaxError) as error:
        raise CannotWrite(f"{file.name}: {error}") from None


def _without_targets(makefile: str) -> str:
    targets = "|".join(TARGETS)
    makefile = re.sub(rf"^({targets}):.*\n(?:[ \t].*\n)*\n?", "", makefile, flags=re.M)
    return re.sub(r"^\.PHONY:.*$", lambda line: re.sub(rf" ({targets})\b", "", line[0]), makefile, flags=re.M)


def _without_checks(run: str) -> str:
    """A measured run of which only the timed checks of the solutions are left."""
    told = json.loads(run)
    for id, part in told["parts"].items():
        timed = {name: check for name, check in part["checks"].items() if check["rung"] == "fast"}
        told["parts"][id] = {"checks": timed}
    return json.dumps(told, indent=1) + "\n"


def _git(*words: str) -> str | None:
    """What git answers, here; None without git, or where it says no."""
    try:
        command = ["git", "-C", str(catalog.ROOT), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError, UnicodeDecodeError):
        return None
