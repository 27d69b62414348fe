"""What a learner has done so far, in one small file beside the tree: .workbook/progress.json."""

import hashlib
import json
import os
import sys
import time
from pathlib import Path

from . import catalog
from .catalog import Part

_told = False


def folder() -> Path:
    """Where progress and kept files lie; the environment variable WORKBOOK_STATE may name another place."""
    return Path(os.environ.get("WORKBOOK_STATE") or catalog.ROOT / ".workbook")


def load() -> dict[str, dict]:
    """By part id: status, rungs passed, hash of the file graded, hints seen, hash of the stub derived last."""
    try:
        state = json.loads((folder() / "progress.json").read_text())
        return {id: dict(part) for id, part in state.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def update(part: Part, **news) -> None:
    """Keeps something about a part. Where nothing can be written, says so once and goes on."""
    global _told
    state = load()
    state.setdefault(part.id, {}).update(news)
    file = folder() / "progress.json"
    try:
        folder().mkdir(parents=True, exist_ok=True)
        new = file.with_suffix(f".{os.getpid()}")
        new.write_text(json.dumps(state, indent=1, sort_keys=True) + "\n")
        new.replace(file)
    except OSError as error:
        if not _told:
            print(f"progress is not kept: {folder()} cannot be written ({error.strerror})", file=sys.stderr)
        _told = True


def record(outcome, graded: str | None) -> None:
    """Keeps what became of a part, whose file had the digest `graded`."""
    update(outcome.part, status=outcome.status, rungs=outcome.passed(), file=graded)


def hints_seen(part: Part) -> int:
    return load().get(part.id, {}).get("hints", 0)


def digest(file: Path) -> str | None:
    """A hash of the file's content, None where it cannot be read."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    except OSError:
        return None


def standing(part: Part, state: dict[str, dict]) -> str:
    """pass, fail, todo, error, inconclusive, ungraded; `changed` since it was graded; or `new`."""
    known = state.get(part.id, {})
    if "status" not in known:
        return "new"
    return known["status"] if known.get("file") == digest(part.file(catalog.STAGES)) else "changed"


def next_part(state: dict[str, dict], after: Part | None = None) -> Part | None:
    """The first part that does not pass as it is now, behind `after` if one is named."""
    parts = catalog.parts()
    start = parts.index(after) + 1 if after else 0
    return next((part for part in parts[start:] if standing(part, state) != "pass"), None)


def keep(part: Part) -> Path | None:
    """A copy of the learner's file in a place of its own; None where there is no file."""
    file = part.file(catalog.STAGES)
    if not file.exists():
        return None
    kept = folder() / "kept" / f"{part.id}-{time.strftime('%Y%m%d-%H%M%S')}.py"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(file.read_bytes())
    return kept
