"""The grader that people write: in the submission's own process, a known seed, allclose, do_bench.

python naive.py CHECKS FILE... prints each file's verdict as JSON. FILE is appended to the solution of its part, which
its header names. It is here to show that an exploit is alive: one that does not fool this grader proves nothing.
"""

import importlib.util
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

GPU = os.environ.get("NAIVE_GPU") == "1"
SECONDS = 60
SLACK = 1.25  # times the reference's time


def header(file: Path) -> dict[str, str]:
    """part, caught, needs and defence of an exploit, from the comments it begins with."""
    lines = [line[2:] for line in file.read_text().splitlines() if line.startswith("# ")]
    return {"needs": "", "defence": ""} | dict(line.split(": ", 1) for line in lines if ": " in line)


def reference_of(exercise):
    return exercise.reference


def load(source: str):
    file = Path(tempfile.mkdtemp(), "submission.py")
    file.write_text(source)
    spec = importlib.util.spec_from_file_location(f"submission_{file.parent.name}", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def grade(part, solution: str, exploit: str) -> bool:
    import torch

    submission = load(solution + "\n\n" + exploit)
    torch.manual_seed(0)
    exercise = part.exercise
    inputs = on_device(exercise.inputs(**exercise.cases[0].values))
    expected = reference_of(exercise)(*inputs)
    result = getattr(submission, exercise.entry)(*inputs)
    if not torch.allclose(result, expected, rtol=1e-2, atol=1e-2):
        return False
    if not GPU:
        times = []
        for _ in range(5):
            start = time.perf_counter()
            getattr(submission, exercise.entry)(*inputs)
            times.append(time.perf_counter() - start)
        return statistics.median(times) < SECONDS
    import triton

    with torch.device("cuda"):
        large = exercise.inputs(**exercise.speed[0].case.values)
    allowed = SLACK * known_time(part, solution, large)
    return triton.testing.do_bench(lambda: getattr(submission, exercise.entry)(*large)) <= allowed


def known_time(part, solution: str, inputs) -> float:
    """Milliseconds of the reference, which such graders have written down once."""
    import torch

    entry = getattr(load(solution), part.exercise.entry)
    for _ in range(3):
        entry(*inputs)
    torch.cuda.synchronize()
    start = time.perf_counter_ns()
    for _ in range(10):
        entry(*inputs)
    torch.cuda.synchronize()
    return (time.perf_counter_ns() - start) / 1e7


def on_device(inputs):
    import torch

    return [a.cuda() if GPU and isinstance(a, torch.Tensor) else a for a in inputs]


def judge(part, solution: str, exploit: str) -> bool:
    """grade() in a fork: passed is what ends well and has not printed "fail"."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(write, 1)
        os.close(read)
        try:
            passed = grade(part, solution, exploit)
            print("pass" if passed else "fail", flush=True)
        except Exception as error:
            print("fail", repr(error), flush=True)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, errors="replace") as pipe:
        said = pipe.read()
    return os.waitpid(child, 0)[1] == 0 and "fail" not in said


def main(folder: str, *files: str) -> None:
    sys.path.insert(0, folder)
    os.environ["TRITON_INTERPRET"] = str(int(not GPU))
    import torch  # noqa: F401
    import triton  # noqa: F401
    from workbook import catalog

    verdicts = {}
    for file in map(Path, files):
        (part,) = catalog.select(header(file)["part"])
        part.exercise  # noqa: B018  before the fork
        verdicts[file.stem] = judge(part, part.file(catalog.SOLUTIONS).read_text(), file.read_text())
    print(json.dumps(verdicts))


if __name__ == "__main__":
    main(*sys.argv[1:])
