"""The files of a part: its stub as it was laid at first, and those of a new part."""

import re
import subprocess
from pathlib import Path

from . import catalog, progress, stub
from .catalog import Part

STAGES = ("fundamentals", "memory_patterns", "fusion", "advanced", "mastery")


class CannotLay(Exception):
    """The message says why."""


def stub_of(part: Part) -> str:
    """The stub as a learner first gets it: derived; or, without a solution, as an edition keeps it or git has it."""
    solution = part.file(catalog.SOLUTIONS)
    if solution.exists() and "### BEGIN SOLUTION" in (source := solution.read_text()):
        try:
            return stub.derive(source, part.id)
        except (ValueError, SyntaxError) as error:
            raise CannotLay(f"{part.id}: {error}") from None
    kept = part.file(catalog.CHECKS / "stubs")  # of the edition for a class
    if kept.exists():
        return kept.read_text()
    if (committed := _committed(part.file(catalog.STAGES))) is not None:
        return committed
    raise CannotLay(f"{part.id}: there is no solution to derive the stub from, and no commit has it")


def lay_stub(part: Part) -> str:
    """Writes the stub if no one's work is lost by that. Returns new, same, updated, or edited: it is left alone."""
    text, file = stub_of(part), part.file(catalog.STAGES)
    if not file.exists():
        did = "new"
    elif (present := file.read_text()) == text:
        did = "same"
    elif present == _committed(file) or progress.digest(file) == progress.load().get(part.id, {}).get("stub"):
        did = "updated"
    else:
        return "edited"
    write_stub(part, text)
    return did


def write_stub(part: Part, text: str) -> None:
    file = part.file(catalog.STAGES)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    progress.update(part, stub=progress.digest(file))


def _committed(file: Path) -> str | None:
    """The file as the last commit has it; None without git, or where the commit lacks it."""
    command = ["git", "-C", str(file.parent), "show", f"HEAD:./{file.name}"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError, UnicodeDecodeError):
        return None


def lay_part(id: str, name: str, exercise_name: str) -> list[Path]:
    """Solution, spec and a lesson's paragraph of a new part, which grade as they are. Returns the files."""
    match = re.fullmatch(r"([1-5])\.(\d+)([a-z])", id)
    if not match:
        raise CannotLay(f"{id!r} is not the id of a part, such as 2.1b")
    for word in filter(None, (name, exercise_name)):
        if not re.fullmatch(r"[a-z]\w*", word):
            raise CannotLay(f"{word!r} names a file: small letters, digits and _, such as split_k")
    if taken := next((part for part in catalog.parts() if part.id == id), None):
        raise CannotLay(f"{id} is there already: {taken.path}")
    stage, number, letter = match.groups()
    beside = next((part for part in catalog.parts() if part.exercise_id == f"{stage}.{number}"), None)
    if not beside and not exercise_name:
        raise CannotLay(f"exercise {stage}.{number} is new, name it too: ARGS='--exercise-name softmax'")
    folder = Path(f"{stage}_{STAGES[int(stage) - 1]}", f"{number}_{exercise_name}")
    if beside:
        folder = Path(beside.path).parent
    part = Part((folder / f"{letter}_{name}.py").as_posix())
    files = [part.file(catalog.SOLUTIONS), part.file(catalog.CHECKS)]
    for file in files:
        if file.exists():
            raise CannotLay(f"{file} is there already")
    title = name.replace("_", " ").capitalize()
    values = {"id": id, "name": name, "title": title}
    for file, template in zip(files, (SOLUTION, SPEC), strict=True):
        _write(file, _filled(template, **values))
    lesson = part.lesson
    heading = f"# {stage}.{number} {folder.name.split('_', 1)[1].replace('_', ' ').capitalize()}\n"
    _write(lesson, (lesson.read_text() if lesson.exists() else heading) + _filled(LESSON, **values))
    write_stub(part, stub_of(part))
    return [*files, part.file(catalog.STAGES), lesson]


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def _filled(template: str, **values: str) -> str:
    for name, value in values.items():
        template = template.replace(f"<{name}>", value)
    return template


SOLUTION = '''"""<title>.

What every program does, in one or two sentences.
"""

import torch
import triton
import triton.language as tl


@triton.jit
def <name>_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    start = tl.program_id(0).to(tl.int64) * BLOCK
    offsets = start + tl.arange(0, BLOCK)
    mask = offsets < n
    # TODO: what is to be written here, naming the variables that the rest uses.
    ### BEGIN SOLUTION
    x = tl.load(x_ptr + offsets, mask=mask)
    tl.store(out_ptr + offsets, 2 * x, mask=mask)
    ### END SOLUTION


def <name>(x):
    """2 x, element by element.

    x: [n], contiguous, fp32. Returns [n], the same dtype.
    """
    out = torch.empty_like(x)
    n, BLOCK = x.numel(), 1024
    if n > 0:  # a launch of no programs is an error
        <name>_kernel[(triton.cdiv(n, BLOCK),)](x, out, n, BLOCK=BLOCK)
    return out
'''

SPEC = '''from workbook.exercise import Bug, Exercise, Moves, Speed, Variant, case, normal


def two_vectors(x):
    return 2 * x.nbytes


exercise = Exercise(
    entry="<name>",
    inputs=lambda n: (normal(n),),
    reference=lambda x: 2 * x,
    cases=[case(n=1025), case(n=1), case(n=0), case(n=1023), case(n=1024), case(n=8191)],
    moves=[Moves(case(n=2**16), bytes=two_vectors)],
    speed=[Speed(case(n=2**27), bytes=two_vectors, target=0.90, peers={"torch": lambda x: 2 * x})],
    bugs=[
        Bug("drops the ragged tail", ("triton.cdiv(n, BLOCK)", "max(1, n // BLOCK)"), caught="n=1025"),
        Bug("mask one too wide", ("mask = offsets < n", "mask = offsets <= n"), caught="n=1023"),
        Bug("every program takes the first block", ("tl.program_id(0).to(tl.int64) * BLOCK", "0"), caught="n=1025"),
        Bug("asks torch to copy x first", ("    out =", "    x = x.clone()\\n    out ="), rung="moves"),
    ],
    variants=[
        Variant("larger blocks", ("n, BLOCK = x.numel(), 1024", "n, BLOCK = x.numel(), 4096")),
        Variant("adds instead", fill={1: """
            x = tl.load(x_ptr + offsets, mask=mask, other=0.0)
            tl.store(out_ptr + offsets, x + x, mask=mask)
        """}),
    ],
)
'''

LESSON = """
## <id> <title>

What the learner will be able to do, and the one idea behind it.

<details>
<summary>Hint 1 for <id></summary>

A question that points at the idea.

</details>

<details>
<summary>Hint 2 for <id></summary>

The idea.

</details>

<details>
<summary>Hint 3 for <id></summary>

The function of Triton to use.

</details>
"""
