"""Records what the solutions reach on a GPU: python -m workbook.measure FILE [ID].

For each part: every check, all peers timed in the same run, and the speed of its naive kernel, which the target must
fail. FILE is JSON, for checks/measured/, written after each part; what it holds of the same GPU and versions stays.
"""

import ast
import hashlib
import json
import sys
import tempfile
from dataclasses import asdict
from datetime import date
from pathlib import Path

import torch

from . import catalog, devices, doctor, targets
from .grader import Grading


def fingerprint(source: str) -> str:
    """Of what a solution does: its docstrings, comments and layout do not count."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    # not ast.dump, which differs from one Python to the next
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:16]


def record(part: catalog.Part) -> dict:
    """All checks of a part's solution, and its naive kernel's speed."""
    source = part.file(catalog.SOLUTIONS).read_text()
    with Grading(part, catalog.SOLUTIONS, peers=True) as grading:
        checks = {}
        for check in grading.checks():
            checks[check.name] = asdict(check.run()) | {"rung": check.rung}
            print(part.id, check.name, checks[check.name]["status"], checks[check.name]["message"], flush=True)
    slow = {}
    for bug in [bug for bug in part.exercise.bugs if bug.rung in ("moves", "fast")][:1]:
        with tempfile.TemporaryDirectory() as tree:
            file = part.file(Path(tree))
            file.parent.mkdir(parents=True)
            file.write_text(bug.apply(source))
            with Grading(part, Path(tree)) as grading:
                slow[bug.what] = [asdict(grading.fast(speed)) for speed in part.exercise.speed]
        print(part.id, "bug:", bug.what, [v["message"] for v in slow[bug.what]], flush=True)
    return {"title": part.title, "fingerprint": fingerprint(source), "checks": checks, "slow": slow}


def main(file: str, text: str = "") -> None:
    name, memory = torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory
    if device := devices.find(name, memory):
        targets.recorded().setdefault(device.name, targets.COPY * device.bandwidth)  # this run will be on record
    about, file = {"device": name, "memory": memory, **doctor.versions()}, Path(file)
    before = json.loads(file.read_text()) if file.exists() else {**about, "parts": {}}
    if differ := [key for key in about if before[key] != about[key]]:
        sys.exit(f"{file} is of another {', '.join(differ)}: name another file")
    parts = before["parts"]
    for part in catalog.select(text):
        parts[part.id] = record(part)
        told = {**about, "date": date.today().isoformat(), "parts": dict(sorted(parts.items()))}
        file.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
