"""What an instructor sees while a class is graded, and at its end."""

from collections import Counter

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ..report import clean, console, say, shown
from .grading import Class

SHOWN = 40  # submissions in the table; the page shows all


def graded(work: Class) -> list[dict]:
    """Grades a class, with a bar where there is a terminal and a line for each submission where there is none."""
    names, kept = [], Counter()
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    ) as progress:
        task = progress.add_task("grading", total=None)

        def starting(name):
            names.append(name)
            progress.update(task, total=len(work.submissions), description=clean(", ".join(names)[:60]))

        def done(result, was_kept):
            kept[was_kept] += 1
            if result["submission"] in names:
                names.remove(result["submission"])
            progress.update(task, total=len(work.submissions), advance=1)
            if not was_kept and not console.is_terminal:
                say(f"{result['submission']}: {standing(result)}")

        found = work.grade(starting, done)
    say(f"{kept[False]} graded, {kept[True]} kept from before")
    return found


def standing(result: dict) -> str:
    if result["status"] != "graded":
        return f"{result['status']}: {result['reason']}"
    return f"{result['points']:g} of {result['out_of']:g} points{result['reason'] and '; '}{result['reason']}"


def summary(work: Class, found: list[dict]) -> None:
    table = Table("submission", "points", "of", "", box=None, padding=(0, 2))
    for result in found[:SHOWN]:
        points = (f"{result['points']:g}", f"{result['out_of']:g}") if result["status"] == "graded" else ("", "")
        table.add_row(clean(result["submission"]), *points, clean(result["reason"]))
    console.print(table)
    if len(found) > SHOWN:
        say(f"and {len(found) - SHOWN} more")
    for remark in work.remarks:
        say(remark, "yellow")
    out = shown(work.out)
    say(f"{out}/class.html shows the class, {out}/class.csv is for the course system")
    say(f"{out}/results/ holds a result for each submission, as JSON and as JUnit")
