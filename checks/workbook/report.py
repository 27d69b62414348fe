"""What learners see, and the same as JSON. Lines are never folded, so that a command can be copied from them."""

import contextlib
import datetime
import difflib
import os
import sys
from collections import Counter, defaultdict
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from . import RUNGS, catalog, doctor, progress, sandbox
from . import new as files
from .catalog import Part

console = Console(highlight=False)
MARKS = {
    "pass": ("✔", "green"),
    "fail": ("✘", "red"),
    "error": ("✘", "red"),
    "todo": ("○", "yellow"),
    "inconclusive": ("?", "yellow"),
    "ungraded": ("-", "dim"),
    "not reached": ("·", "dim"),
}
WRONG = ("fail", "todo", "error", "inconclusive")
PRINTED = 12  # lines shown of what the learner's code printed
NAMED = 8  # cases named in a row
if hasattr(sys.stdout, "reconfigure"):
    sys.stdout.reconfigure(errors="replace")  # a terminal that is not UTF-8


def clean(text: str) -> str:
    """What a submission wrote, without the control characters that would reach the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text.expandtabs())


def say(text: str = "", style: str = "", indent: int = 0) -> None:
    """Prints lines, unfolded."""
    for line in clean(text).split("\n"):
        console.print(Text(" " * indent + line, style), soft_wrap=True)


def command(what: str, part: Part, tree: Path, **more) -> str:
    """The make command that does something again with a part."""
    words = [f"make {what}", f"EX={part.id}"]
    words += [] if tree == catalog.STAGES else [f"TREE={shown(tree)}"]
    return " ".join(words + [f"{name}={value}" for name, value in more.items()])


def shown(path: Path) -> str:
    """A path as one would type it here."""
    path = Path(path).resolve()
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def ladder_line(outcome) -> Text:
    """id, title and one mark a rung."""
    line = Text(f"{outcome.part.id:<6}{outcome.part.title:<42}")
    for name in RUNGS:
        status, verdicts, left = outcome.rung(name)
        if status:
            mark, style = MARKS[status]
            words = f"{mark} {name}"
            graded = len(verdicts) + left - sum(v.status == "ungraded" for v in verdicts)
            if name == "correct" and graded > 1:
                words += f" {sum(v.status == 'pass' for v in verdicts)}/{graded}"
            line.append(f"  {words:<{15 if name == 'correct' else 0}}", style)
    return line


def show(outcome, tree: Path, verbose: bool = False, alone: bool = True) -> None:
    """One part: its line, and below it what did not pass, and what to do next; more where it is graded `alone`."""
    console.print(ladder_line(outcome), soft_wrap=True)
    for group in _alike(outcome.results):
        _, verdict = group[0]
        if verdict.status in WRONG:
            _failure(outcome, group, tree)
        elif verdict.message and (verdict.status == "pass" or verbose):
            say(f"{_names(group)}: {verdict.message}", "dim", 6)
        for check, verdict in group:
            if "minimum" in verdict.facts and (verbose or (alone and "timing" in verdict.facts)):
                asked = ", ".join(f"{gpu} {rate}" for gpu, rate in verdict.facts["minimum"].items())
                say(f"{check.name} asks: {asked}", "dim", 6)
            if verbose:
                _facts(check, verdict)
            _peers(verdict)
    left = outcome.rung("correct")[2]
    if left:
        say(f"{left} more case{'s' * (left > 1)} not run", "dim", 6)
    _printed(outcome, verbose, alone)
    if step := _next_step(outcome, tree, alone):
        say(f"next: {step}", indent=6)


def summary(outcomes: list, tree: Path) -> None:
    """What was not graded and why, what the code ran behind; after more than one part, how many of each stage pass."""
    reasons = defaultdict(Counter)
    for outcome in outcomes:
        for check, verdict in outcome.results:
            if verdict.status == "ungraded":
                reasons[verdict.message][check.rung] += 1
    for reason, rungs in reasons.items():
        *names, last = [_large(outcomes, reason, n) if rung == "correct" else rung for rung, n in rungs.items()]
        say(f"not graded here: {', '.join([*names, 'and ' + last] if names else [last])} ({reason})", "dim")
    say(f"your code ran behind {', '.join(sandbox.layers()) or 'no walls: make doctor tells why'}", "dim")
    if len(outcomes) < 2:
        return
    for stage in sorted({o.part.stage for o in outcomes}):
        mine = [o for o in outcomes if o.part.stage == stage]
        open_ones = [o.part.id for o in mine if o.status not in ("pass", "ungraded")]
        passing = sum(o.status == "pass" for o in mine)
        after = f"; next: {open_ones[0]}" if open_ones else ""
        exercises = {o.part.exercise_id for o in mine}
        what = f"stage {stage}" if len(exercises) > 1 else exercises.pop()
        say(f"{what}: {passing} of {len(mine)} parts pass{after}", "bold")


def _large(outcomes, reason, count):
    """What cases were left out; by name where it is one."""
    left = [c.name for o in outcomes for c, v in o.results if v.status == "ungraded" and v.message == reason]
    return left[0] if count == 1 else f"{count} cases of correct"


def as_json(outcomes: list, tree: Path, seed: int) -> dict:
    """Everything that was graded, machine-readable."""
    card = doctor.gpu()
    return {
        "device": card["name"] if card else None,
        **doctor.versions(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "tree": str(tree),
        "seed": seed,
        "parts": {o.part.id: {"title": o.part.title, "status": o.status, "checks": _checks(o)} for o in outcomes},
    }


def _checks(outcome) -> list[dict]:
    rows = [
        {
            "name": check.name,
            "rung": check.rung,
            "status": verdict.status,
            "message": verdict.message,
            "seconds": round(verdict.seconds, 3),
            "facts": verdict.facts,
        }
        for check, verdict in outcome.results
    ]
    blank = {"status": "not reached", "message": "", "seconds": 0.0, "facts": {}}
    return rows + [{"name": check.name, "rung": check.rung, **blank} for check in outcome.not_run]


def _alike(results):
    """Groups of checks to be told of together: the cases that fail, and checks of a rung that say the same."""
    groups = defaultdict(list)
    for check, verdict in results:
        says = "" if check.rung == "correct" and verdict.status == "fail" else verdict.message
        groups[check.rung, verdict.status, says].append((check, verdict))
    return groups.values()


def _failure(outcome, group, tree):
    """What is wrong, in full for the first case that fails, and which other cases fail and pass."""
    check, verdict = group[0]
    failing_case = check.rung == "correct" and verdict.status == "fail"
    sentence, *quoted = verdict.message.split("\n")
    say(f"{check.name if failing_case else _names(group)}: {sentence}", MARKS[verdict.status][1], 6)
    for line in quoted:
        say(line, indent=8)
    if verdict.status == "fail" and check.rung in ("correct", "moves") and outcome.loadable:
        again = command("check", outcome.part, tree, SEED=outcome.seed)
        say(f"seed {outcome.seed}: {again} replays it", "dim", 6)
    if failing_case:
        passing = [(c, v) for c, v in outcome.results if c.rung == "correct" and v.status == "pass"]
        others = (("also fails", group[1:]), ("passes", passing))
        if narrowed := "; ".join(f"{what}: {_cases(them)}" for what, them in others if them):
            say(narrowed, indent=6)


def _names(group):
    first, *others = (check for check, _ in group)
    return ", ".join([first.name, *(_short(check) for check in others)])


def _cases(group):
    more = [f"and {len(group) - NAMED} more"] if len(group) > NAMED else []
    return ", ".join([_short(check) for check, _ in group[:NAMED]] + more)


def _short(check):
    return check.name.removeprefix(f"{check.rung} ")


def _printed(outcome, verbose, alone):
    """What the learner's code printed, once: in the first check that went wrong, or else in the first that passes."""
    printing = [(check, verdict) for check, verdict in outcome.results if verdict.printed.strip()]
    check, verdict = min(printing, key=lambda row: row[1].status not in WRONG, default=(None, None))
    if check and (alone or verdict.status in WRONG):
        lines = verdict.printed.rstrip().splitlines()
        say(f"your code printed in {check.name}:", "dim", 6)
        say("\n".join(lines if verbose else lines[:PRINTED]), indent=8)
        if len(lines) > PRINTED and not verbose:
            say(f"and {len(lines) - PRINTED} more lines (ARGS=-v shows them)", "dim", 8)


def _next_step(outcome, tree, alone):
    """What a learner does now: the lesson where nothing is written yet, else the hints one by one, then the reference.

    Empty where the message says what to do.
    """
    part, mine = outcome.part, outcome.part.file(tree)
    if tree != catalog.STAGES or not outcome.loadable or outcome.status not in ("fail", "todo", "pass"):
        return ""
    if outcome.status == "pass":
        return "make next" if alone else ""
    with contextlib.suppress(files.CannotLay):
        if outcome.status == "todo" and mine.read_bytes() == files.stub_of(part).encode():
            return f"read {shown(part.lesson)}, then open {shown(mine)}"
    if outcome.rung("correct")[0] == "pass" and outcome.rung("moves")[0] == "fail":
        return command("inspect", part, tree)
    if progress.hints_seen(part) < len(part.hints()):
        return command("hint", part, tree)
    return command("solution", part, tree) if part.file(catalog.SOLUTIONS).exists() else ""


def _facts(check, verdict):
    """What a kernel compiled to, what a call moved, and the time each check took."""
    for kernel in verdict.facts.get("kernels", []):
        widths = Counter()
        for access in kernel["access"]:
            widths[access["op"], access["bits"]] += access["count"]
        accesses = ", ".join(f"{count} {op}s of {bits} bits" for (op, bits), count in sorted(widths.items()))
        say(
            f"{check.name}: {kernel['kernel']} has {kernel['registers']} registers, {kernel['shared']:,} bytes of "
            f"shared memory, {kernel['spills']:,} spilled; {accesses or 'no access to global memory'}",
            "dim",
            6,
        )
    if figures := verdict.facts.get("figures"):
        say(f"{check.name}: " + ", ".join(f"{k.replace('_', ' ')} {v:,}" for k, v in figures.items()), "dim", 6)
    say(f"{check.name}: {verdict.seconds:.2f} s", "dim", 6)


def _peers(verdict):
    timing = verdict.facts.get("timing")
    if not timing or not timing["peers"]:
        return
    table = Table("", "ms", "times yours", box=None, padding=(0, 2))
    table.add_row("yours", f"{timing['ms']:.4f}", "")
    for name, ms in timing["peers"].items():
        told = (f"{ms:.4f}", f"{ms / timing['ms']:.2f}") if isinstance(ms, (int, float)) else (Text(ms), "")
        table.add_row(Text(name), *told)
    console.print(table)


def standings(standing: list[tuple[Part, str]]) -> None:
    """A bar a stage, a mark a part."""
    for stage in sorted({part.stage for part, _ in standing}):
        mine = [(part, status) for part, status in standing if part.stage == stage]
        done = sum(status == "pass" for _, status in mine)
        filled = round(24 * done / len(mine))
        say(f"stage {stage}  {'█' * filled}{'░' * (24 - filled)}  {done} of {len(mine)}", "bold")
        for part, status in mine:
            mark, style = MARKS.get(status, ("·", "dim") if status == "new" else ("~", "yellow"))
            words = {"new": "", "pass": "", "changed": "changed since it was graded"}.get(status, status)
            say(f"{mark} {part.id:<6}{part.title:<42}  {words}".rstrip(), style, 2)


def examination(rows: list[tuple[str, str, str, str]], rungs: list[tuple[str, str]]) -> None:
    """What doctor found: a line a thing, what to do about it below, then what is graded here."""
    for name, status, found, advice in rows:
        mark, style = MARKS.get(status, ("-", "yellow"))
        say(f"{mark} {name:<18}{found}", style)
        if advice:
            say(advice, indent=20)
    say()
    for name, reason in rungs:
        say(f"{name:<10}{'not graded here: ' + reason if reason else 'graded here'}", "yellow" if reason else "green")


def markdown(text: str) -> None:
    console.print(Markdown(text) if console.is_terminal else Text(text), soft_wrap=not console.is_terminal)


def difference(mine: Path, reference: Path) -> None:
    """From the learner's file to the reference."""
    a, b = ([*f.read_text(errors="replace").splitlines()] if f.exists() else [] for f in (mine, reference))
    lines = list(difflib.unified_diff(a, b, shown(mine), shown(reference), lineterm=""))
    if not lines:
        say("your file is the reference, letter by letter")
    elif console.is_terminal:
        console.print(Syntax("\n".join(lines), "diff", background_color="default", word_wrap=True))
    else:
        say("\n".join(lines))
