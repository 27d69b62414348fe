"""Records what the solutions reach on a GPU: python -m workbook.measure FILE [ID].

For each part: every check, all peers timed in the same run, and the speed of its naive kernel, which the target must
fail. What takes no clock is checked first, several parts at a time. FILE is JSON, for checks/measured/, written after
each part; what it holds of the same GPU and versions stays.
"""

import ast
import hashlib
import json
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from datetime import date
from multiprocessing import get_context
from pathlib import Path

import torch

from . import catalog, devices, doctor, targets
from .grader import Check, Grading
from .words import Verdict


def fingerprint(source: str) -> str:
    """Of what a solution does: its docstrings, comments and layout do not count."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    # not ast.dump, which differs from one Python to the next
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:16]


def quiet(part: catalog.Part, check: Check) -> bool:
    """Whether a check needs the GPU for itself: for its clock, or for its memory."""
    large = {f"correct {case.id}" for case in part.exercise.cases if case.needs_gb}
    return check.rung == "fast" or check.name in large or part.exercise.kind == "benchmark"


def untimed(id: str) -> dict[str, dict]:
    """What passes on a part's solution while the GPU is shared; the rest is graded again, alone, by `record`.

    Runs in a process of its own.
    """
    torch.set_num_threads(2)
    [part] = catalog.select(id)
    with Grading(part, catalog.SOLUTIONS) as grading:
        found = {check.name: verdict(part, check) for check in grading.checks() if not quiet(part, check)}
    return {name: verdict for name, verdict in found.items() if verdict["status"] == "pass"}


def verdict(part: catalog.Part, check: Check) -> dict:
    torch.cuda.empty_cache()  # for the others
    try:
        found = asdict(check.run()) | {"rung": check.rung}
    except torch.OutOfMemoryError as error:
        found = asdict(Verdict("ungraded", str(error))) | {"rung": check.rung}
    print(part.id, check.name, found["status"], found["message"], flush=True)
    return found


def record(part: catalog.Part, found: dict[str, dict]) -> dict:
    """All checks of a part's solution, of which some are found already, and its naive kernel's speed."""
    source = part.file(catalog.SOLUTIONS).read_text()
    with Grading(part, catalog.SOLUTIONS, peers=True) as grading:
        checks = {c.name: found.get(c.name) or verdict(part, c) for c in grading.checks()}
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
    parts, chosen = before["parts"], catalog.select(text)
    with ProcessPoolExecutor(max(1, min(4, os.cpu_count() // 2)), get_context("spawn")) as pool:
        found = list(pool.map(untimed, [part.id for part in chosen]))
    for part, verdicts in zip(chosen, found, strict=True):
        parts[part.id] = record(part, verdicts)
        told = {**about, "date": date.today().isoformat(), "parts": dict(sorted(parts.items()))}
        file.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
