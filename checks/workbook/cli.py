"""The commands. Each prints for a learner; the exit status is for scripts."""

import json
import secrets
import sys
from pathlib import Path
from typing import Annotated

import typer

from . import catalog, progress, report
from . import new as files
from .asked import graded_tree, one, select, stop
from .catalog import Part
from .report import say

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None, help=__doc__)
Id = Annotated[str, typer.Argument(metavar="ID", parser=str.lower, help="2.1b a part, 2.1 an exercise, 2 a stage")]


@app.command()
def check(
    id: Id = "",
    stage: Annotated[str, typer.Option(help="all parts of a stage")] = "",
    tree: Annotated[Path | None, typer.Option(help="the folder to grade; stages/ if none is named")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="the verdicts for a program")] = None,
    peers: Annotated[bool, typer.Option("--peers", help="time what a user would call instead")] = False,
    seed: Annotated[int | None, typer.Option(help="the inputs of an earlier run again")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="what is not graded here counts as failed")] = False,
    verbose: Annotated[bool, typer.Option("-v", help="also what passes: resources, figures, times")] = False,
    debug: Annotated[str, typer.Option(help="ir, autotune or assert: what Triton tells; not kept as progress")] = "",
):
    """Grade parts: correct, compiles, moves, fast."""
    if id and stage:
        stop("name a part or a stage, not both")
    chosen = select(id or stage, stage)
    tree = graded_tree(tree, chosen)
    if json_file:
        try:
            json_file.touch()
        except OSError as error:
            stop(f"{json_file} cannot be written: {error.strerror}")
    from . import warm
    from .debug import switch_on

    if debug:
        switch_on(debug)
    warm.warm_up("interpret", "compile")  # while torch is imported here
    seed = secrets.randbelow(10**6) if seed is None else seed
    outcomes = [grade(part, tree, seed, peers, verbose, len(chosen) == 1, debug) for part in chosen]
    report.summary(outcomes, tree)
    if json_file:
        json_file.write_text(json.dumps(report.as_json(outcomes, tree, seed), indent=1) + "\n")
    bad = {"fail", "todo", "error"} | ({"ungraded", "inconclusive"} if strict else set())
    if any(verdict.status in bad for outcome in outcomes for _, verdict in outcome.results):
        raise typer.Exit(1)


def grade(
    part: Part, tree: Path, seed: int, peers: bool = False, verbose: bool = False, alone: bool = True, debug: str = ""
):
    """Climbs one part, shows its outcome, and keeps it where the tree is the learner's; with `debug`, what was told."""
    from .debug import keep
    from .ladder import climb

    before = progress.digest(part.file(tree))
    with report.console.status(f"{part.id} {part.title}") as status:
        outcome = climb(part, tree, seed, peers, lambda c: status.update(f"{part.id} {part.title}: {c.name}"))
    kept = keep(outcome, debug) if debug else ""
    report.show(outcome, tree, verbose, alone)
    if kept:
        say(kept, indent=6)
    elif tree == catalog.STAGES:
        progress.record(outcome, before)
    return outcome


@app.command(name="progress")
def show_progress():
    """What has been done: a bar a stage, a mark a part."""
    state = progress.load()
    report.standings([(part, progress.standing(part, state)) for part in catalog.parts()])


@app.command(name="next")
def show_next():
    """The part to do next: its file, its lesson, its command."""
    state = progress.load()
    part = progress.next_part(state)
    if part is None:
        say("every part passes all that was graded here. Congratulations: you write Triton kernels.", "bold green")
        return
    say(f"{part.id} {part.title}", "bold")
    say(f"read   {report.shown(part.lesson)}", indent=2)
    say(f"write  {report.shown(part.file(catalog.STAGES))}", indent=2)
    say(f"grade  make check EX={part.id}   (make watch does so on every save)", indent=2)
    if progress.standing(part, state) == "changed":
        say("its file has changed since it was graded", "yellow", 2)


@app.command()
def watch(id: Id = ""):
    """Grade a part again on every save."""
    from .watch import Watch

    part = one("watch", id) if id else progress.next_part(progress.load()) or catalog.parts()[0]
    Watch(part).run()


@app.command()
def hint(id: Id = ""):
    """The next hint: first a question, then the idea, then what in Triton does it."""
    give_hint(one("hint", id))


@app.command()
def reset(id: Id = "", yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False):
    """Lay the stub of a part again; a copy of your file is kept."""
    part = one("reset", id)
    if not yes and not confirm(f"lay the stub of {part.id} again? a copy of your file is kept"):
        say(f"{part.id} is left as it is" + ("" if sys.stdin.isatty() else "; ARGS=--yes does so without asking"))
        return
    lay_again(part)


@app.command()
def solution(id: Id = "", yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False):
    """What the reference does otherwise, as a diff. Nothing is overwritten."""
    part = one("solution", id)
    reference, mine = part.file(catalog.SOLUTIONS), part.file(catalog.STAGES)
    if not reference.exists():
        stop(f"this edition has no solutions: there is no {report.shown(reference)}")
    passed = progress.standing(part, progress.load()) == "pass"
    if not (passed or yes or confirm(f"{part.id} does not pass yet; show the reference all the same?")):
        say("not shown")
        return
    report.difference(mine, reference)


def give_hint(part: Part) -> None:
    hints, seen = part.hints(), progress.hints_seen(part)
    if not hints:
        say(f"{part.id} has no hints; its lesson is {report.shown(part.lesson)}")
        return
    number = min(seen, len(hints) - 1)
    say(f"hint {number + 1} of {len(hints)} for {part.id} {part.title}", "bold")
    report.markdown(hints[number])
    progress.update(part, hints=number + 1)
    if number + 1 == len(hints) and part.file(catalog.SOLUTIONS).exists():
        say(f"that was the last; make solution EX={part.id} shows the reference", "dim")


def lay_again(part: Part) -> None:
    try:
        text = files.stub_of(part)
        kept = progress.keep(part)
        files.write_stub(part, text)
    except files.CannotLay as error:
        stop(str(error))
    except OSError as error:
        stop(f"{part.id} is left as it is: {error}")
    if kept:
        say(f"your file is kept as {report.shown(kept)}")
    say(f"{report.shown(part.file(catalog.STAGES))} is the stub again")


def confirm(question: str) -> bool:
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        print()
        return False


from . import instruments, staff  # noqa: E402, F401  whose commands join the app
