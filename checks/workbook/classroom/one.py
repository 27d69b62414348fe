"""Grades one tree in a process of its own: python -m workbook.classroom.one TREE FILE SEED ID..., verdicts to FILE."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from .. import catalog, doctor, sandbox, warm
from ..report import clean
from ..sandbox import processes

PRINTED = 2000  # characters kept of what a submission printed in a check


def verdicts(tree: Path, seed: int, ids: list[str]) -> dict:
    """Provenance, and for each part its status and its checks."""
    from ..ladder import climb

    parts = {}
    for id in ids:
        (part,) = catalog.select(id)
        outcome = climb(part, tree, seed)
        checks = []
        for check, verdict in outcome.results:
            told = asdict(verdict)
            told["printed"] = clean(told["printed"][:PRINTED])[:PRINTED]
            checks.append({"name": check.name, "rung": check.rung, **told})
        blank = {"status": "not reached", "message": "", "facts": {}, "printed": "", "seconds": 0.0}
        checks += [{"name": check.name, "rung": check.rung, **blank} for check in outcome.not_run]
        parts[part.id] = {"title": part.title, "status": outcome.status, "checks": checks}
    card = doctor.gpu()
    about = {"device": card["name"] if card else None, **doctor.versions(), "layers": sandbox.layers()}
    return {"parts": parts, "provenance": {**about, "sandboxed": not sandbox.missing(), "seed": seed}}


if __name__ == "__main__":
    processes.die_with_parent()
    warm.warm_up("interpret", "compile")
    tree, file, seed, *ids = sys.argv[1:]
    found = json.dumps(verdicts(Path(tree), int(seed), ids))
    new = Path(f"{file}.new")
    new.write_text(found)
    new.replace(file)
