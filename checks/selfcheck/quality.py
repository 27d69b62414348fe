"""How far a verdict on speed can be trusted: python checks/selfcheck/quality.py FILE [RUNS] [MINUTES], on a GPU.

The references of six parts are graded again and again, on a GPU of their own and beside a neighbour that works in
bursts; so are, a tenth as often, the same kernels made slower, to 15% below their target. A reference may never fail,
a slow one never pass; inconclusive is neither. FILE is JSON, for checks/measured/grading/; the same command goes on
where it stands.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from datetime import date
from pathlib import Path

import torch
from workbook import catalog, ceilings, doctor, targets
from workbook.catalog import Part
from workbook.exercise import Exercise, Speed, case, normal
from workbook.grader import Grading

PARTS = ("1.1a", "1.2a", "1.2c", "1.2d", "1.3a")
SLOWED = 0.85  # of the target is what a slowed kernel reaches
NEIGHBOUR = """
import random, time, torch
x = torch.randn(4096, 4096, device="cuda", dtype=torch.bfloat16)
y = torch.empty_like(x)
print("ready", flush=True)
while True:
    end = time.perf_counter() + random.uniform(0.005, 0.040)
    while time.perf_counter() < end:
        for _ in range(8):
            torch.matmul(x, x, out=y) if random.random() < 0.5 else y.copy_(x)
        torch.cuda.synchronize()
    time.sleep(random.uniform(0.02, 0.12))
"""
SLOWER = """
_honest = {entry}


def {entry}(*arguments):
    result = _honest(*arguments)
    torch.cuda._sleep({cycles})
    return result
"""
MATMUL = '''"""Matmul."""

import torch
import triton
import triton.language as tl


@triton.jit
def matmul_kernel(a_ptr, b_ptr, c_ptr, m, n, k, TILE_M: tl.constexpr, TILE_N: tl.constexpr, TILE_K: tl.constexpr):
    program, tiles_m, tiles_n = tl.program_id(0), tl.cdiv(m, TILE_M), tl.cdiv(n, TILE_N)
    group = program // (8 * tiles_n) * 8
    height = min(tiles_m - group, 8)
    rows = (group + program % (8 * tiles_n) % height) * TILE_M + tl.arange(0, TILE_M)
    columns = (program % (8 * tiles_n) // height) * TILE_N + tl.arange(0, TILE_N)
    inner = tl.arange(0, TILE_K)
    a_ptrs = a_ptr + rows[:, None] * k + inner[None, :]
    b_ptrs = b_ptr + inner[:, None] * n + columns[None, :]
    sum = tl.zeros((TILE_M, TILE_N), tl.float32)
    for _ in range(0, k, TILE_K):
        sum = tl.dot(tl.load(a_ptrs), tl.load(b_ptrs), sum)
        a_ptrs += TILE_K
        b_ptrs += TILE_K * n
    tl.store(c_ptr + rows[:, None] * n + columns[None, :], sum.to(tl.bfloat16))


def matmul(a, b):
    (m, k), n = a.shape, b.shape[1]
    c = torch.empty((m, n), dtype=a.dtype, device=a.device)
    grid = (triton.cdiv(m, 128) * triton.cdiv(n, 256),)
    matmul_kernel[grid](a, b, c, m, n, k, TILE_M=128, TILE_N=256, TILE_K=64, num_warps=8, num_stages=4)
    return c
'''


def parts(tree: Path) -> list[Part]:
    """The parts to be graded, their references laid in a tree; matmul is none of the curriculum's."""
    chosen = [catalog.select(id)[0] for id in PARTS]
    for part in chosen:
        lay(part, tree, part.file(catalog.SOLUTIONS).read_text())
    matmul = Part("2_memory_patterns/9_quality/a_matmul.py")
    large = case(n=4096)
    matmul.__dict__["exercise"] = Exercise(
        entry="matmul",
        inputs=lambda n: (normal(n, n, dtype=torch.bfloat16), normal(n, n, dtype=torch.bfloat16)),
        reference=lambda a, b: a @ b,
        cases=[large],
        speed=[Speed(large, bytes=lambda a, b: 3 * a.nbytes, flops=lambda a, b: 2 * len(a) ** 3, target=0.70)],
    )
    lay(matmul, tree, MATMUL)
    return [*chosen, matmul]


def lay(part: Part, tree: Path, source: str) -> None:
    part.file(tree).parent.mkdir(parents=True, exist_ok=True)
    part.file(tree).write_text(source)


def slowed(part: Part, grading: Grading, speed: Speed) -> str:
    """The source of a part that reaches SLOWED of its target; what is missing to that is idled away."""
    timing = grading.fast(speed).facts["timing"]
    tick = ceilings.milliseconds(lambda: torch.cuda._sleep(10**6), 20) / 10**6
    missing = timing["share"] * timing["ms"] / (SLOWED * timing["target"]) - timing["ms"]
    source = grading.file.read_text()
    return source + SLOWER.format(entry=part.exercise.entry, cycles=max(0, round(missing / tick)))


def series(gradings: list[Grading], speeds: dict, runs: int, until: float, counts: dict, keep) -> None:
    """Adds to the statuses of each part, graded in turn by one worker each, until all have `runs` or time is over."""
    while min(count.total() for count in counts.values()) < runs and time.time() < until:
        for grading in gradings:
            id, start = grading.part.id, time.time()
            verdict = grading.fast(speeds[id])
            counts[id][verdict.status] += 1
            print(f"{until - start:.0f} s left, {time.time() - start:.2f} s", id, verdict.status, verdict.message)
        keep()


@contextlib.contextmanager
def neighbour():
    """A process that uses the GPU in bursts."""
    process = subprocess.Popen([sys.executable, "-c", NEIGHBOUR], stdout=subprocess.PIPE)
    process.stdout.readline()
    try:
        yield
    finally:
        process.kill()
        process.wait()


def main(file: str, runs: str = "30", minutes: str = "30") -> None:
    """Grades until every part has had its runs, or the time is over; goes on where FILE stands."""
    until, device = time.time() + 60 * float(minutes), ceilings.device()
    if device:
        targets.recorded().setdefault(device.name, targets.COPY * device.bandwidth)
    file, about = Path(file), {"device": torch.cuda.get_device_name(), **doctor.versions()}
    before = json.loads(file.read_text()) if file.exists() else {}
    if differ := {name for name in about if before.get(name, about[name]) != about[name]}:
        sys.exit(f"{file} is of another {', '.join(sorted(differ))}: name another file")
    found = {name: {id: Counter(c) for id, c in counts.items()} for name, counts in before.get("verdicts", {}).items()}

    def keep():
        wrong = sum(
            count["fail" if name.startswith("reference") else "pass"]
            for name in found
            for count in found[name].values()
        )
        told = {**about, "date": date.today().isoformat(), "wrong": wrong, "verdicts": found}
        file.write_text(json.dumps(told, indent=1) + "\n")
        return wrong

    with contextlib.ExitStack() as stack:
        honest, slow = (Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(2))
        chosen = parts(honest)
        speeds = {part.id: replace(part.exercise.speed[0], peers={}) for part in chosen}
        references = [stack.enter_context(Grading(part, honest)) for part in chosen]
        for part, grading in zip(chosen, references, strict=True):
            lay(part, slow, slowed(part, grading, speeds[part.id]))
        slower = [stack.enter_context(Grading(part, slow)) for part in chosen]
        few = max(1, int(runs) // 10)
        plan = (("slowed", slower, few), ("reference", references, int(runs)))
        for third in (1, 2, 3):  # so that time that runs out leaves some of each
            for where, beside in (("beside a neighbour", neighbour), ("alone", contextlib.nullcontext)):
                with beside():
                    for what, gradings, count in plan:
                        counts = found.setdefault(f"{what}, {where}", {part.id: Counter() for part in chosen})
                        series(gradings, speeds, -(-count * third // 3), until, counts, keep)
    print(f"{keep()} wrong verdicts in {sum(c.total() for counts in found.values() for c in counts.values())}")


if __name__ == "__main__":
    main(*sys.argv[1:])
