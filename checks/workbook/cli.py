"""The commands. Each prints for a learner; the exit status is for scripts."""

import json
import secrets
from pathlib import Path
from typing import Annotated

import typer

from . import catalog, doctor, progress, report
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

    warm.warm_up("interpret", "compile")  # while torch is imported here
    seed = secrets.randbelow(10**6) if seed is None else seed
    outcomes = [grade(part, tree, seed, peers, verbose, len(chosen) == 1) for part in chosen]
    report.summary(outcomes, tree)
    if json_file:
        json_file.write_text(json.dumps(report.as_json(outcomes, tree, seed), indent=1) + "\n")
    bad = {"fail", "todo", "error"} | ({"ungraded", "inconclusive"} if strict else set())
    if any(verdict.status in bad for outcome in outcomes for _, verdict in outcome.results):
        raise typer.Exit(1)


def grade(part: Part, tree: Path, seed: int, peers: bool = False, verbose: bool = False, alone: bool = True):
    """Climbs one part, shows its outcome, and keeps it where the tree is the learner's."""
    from .ladder import climb

    before = progress.digest(part.file(tree))
    with report.console.status(f"{part.id} {part.title}") as status:
        outcome = climb(part, tree, seed, peers, lambda c: status.update(f"{part.id} {part.title}: {c.name}"))
    report.show(outcome, tree, verbose, alone)
    if tree == catalog.STAGES:
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
        say(f"{part.id} is left as it is")
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


@app.command()
def inspect(
    id: Id = "",
    tree: Annotated[Path | None, typer.Option(help="the folder to look into; stages/ if none is named")] = None,
    diff: Annotated[Path | None, typer.Option(metavar="TREE", help="beside the same part in another folder")] = None,
    save: Annotated[Path | None, typer.Option(metavar="DIR", help="write TTIR, TTGIR, PTX and SASS there")] = None,
):
    """What a kernel became: resources, instructions, and what each of its lines moves."""
    from . import warm

    part = one("inspect", id)
    trees = [graded_tree(tree, [part])] + ([graded_tree(diff, [part])] if diff else [])
    warm.warm_up("interpret", "compile")  # while torch is imported here
    from . import drawing, gather, listing
    from .inspection import CannotInspect

    try:
        if save:
            listing.check(save)
        with report.console.status(part.id) as status:
            found = [
                gather.gather(part, folder, bool(save), lambda what: status.update(f"{part.id} {what}"))
                for folder in trees
            ]
        if diff:
            drawing.compare(*found)
        else:
            drawing.show(found[0])
        if save:
            say(f"{listing.save(found[0], save)} files are in {report.shown(save)}")
    except CannotInspect as error:
        say(f"{part.id} is not inspected: {error}", "red")
        raise typer.Exit(1) from None


@app.command(name="doctor")
def examine():
    """What this machine has, and what can be graded here."""
    report.examination(doctor.rows(catalog.ROOT), doctor.rungs())
    if doctor.unsupported():
        raise typer.Exit(1)


@app.command()
def stubs(id: Id = "", check: Annotated[bool, typer.Option("--check", help="only name what differs")] = False):
    """Derive the stubs in stages/ from solutions/. A file that someone has worked in is left alone."""
    bad = 0
    for part in select(id):
        try:
            if check:
                file = part.file(catalog.STAGES)
                did = "same" if file.exists() and file.read_text() == files.stub_of(part) else "not the derived stub"
            else:
                did = files.lay_stub(part)
        except files.CannotLay as error:
            did = str(error)
        left = f"edited, left alone (make reset EX={part.id} keeps a copy and lays the stub)"
        if did != "same":
            say(f"{report.shown(part.file(catalog.STAGES))}: {left if did == 'edited' else did}")
        bad += did not in ("same", "new", "updated")
    if bad:
        raise typer.Exit(1)


@app.command()
def new(
    id: Annotated[str, typer.Argument(metavar="ID", parser=str.lower, help="of a new part, such as 2.1c")] = "",
    name: Annotated[str, typer.Option(help="of its file and entry, such as split_k")] = "",
    exercise_name: Annotated[str, typer.Option(help="where the exercise is new as well")] = "",
):
    """Lay the files of a new part: a solution, a spec and a lesson that grade as they are."""
    if not (id and name):
        stop("for example: make new EX=2.1c NAME=split_k")
    try:
        laid = files.lay_part(id, name, exercise_name)
    except files.CannotLay as error:
        stop(str(error))
    for file in laid:
        say(report.shown(file))
    say(f"next: write the kernel, then make check EX={id} TREE=solutions, then make stubs EX={id}")


@app.command(name="grade")
def grade_class(
    folder: Annotated[Path | None, typer.Argument(metavar="SUBMISSIONS", help="a folder or a zip each")] = None,
    out: Annotated[Path | None, typer.Argument(metavar="OUT", help="the folder of their results")] = None,
    id: Annotated[str, typer.Option("--id", parser=str.lower, help="only this part, exercise or stage")] = "",
    rubric: Annotated[Path | None, typer.Option(help="TOML; checks/rubric.toml if none is named")] = None,
    jobs: Annotated[int, typer.Option(min=0, help="submissions at a time; 0 chooses")] = 0,
    without_sandbox: Annotated[bool, typer.Option("--without-sandbox", help="though nothing contains them")] = False,
):
    """Grade a class: a truthful result for each submission, a page and a table."""
    from . import sandbox
    from .classroom import grading, show
    from .classroom.rubric import DEFAULT, BadRubric, load

    if not (folder and out):
        stop("for example: make grade SUBMISSIONS=submissions OUT=results")
    if (missing := sandbox.missing()) and not without_sandbox:
        stop(f"{missing}; ARGS=--without-sandbox grades all the same, on a machine that may be lost")
    try:
        work = grading.Class(folder, out, select(id), load(rubric or DEFAULT), jobs)
        found = show.graded(work)
    except (grading.CannotGrade, BadRubric) as error:
        stop(str(error))
    except (KeyboardInterrupt, OSError) as error:
        stop(f"{str(error) or 'stopped'}; the same command goes on with those that have no result yet")
    show.summary(work, found)
    if any(result["reason"] for result in found):
        raise typer.Exit(1)


@app.command()
def student(folder: Annotated[str, typer.Argument(metavar="DIR", help="new or empty")] = ""):
    """Write the edition that a class gets: no solutions, no bugs and variants, every part a fresh stub."""
    from .classroom import student as edition

    if not folder:
        stop("where to? For example: make student DIR=../class-edition")
    try:
        untracked = edition.write(Path(folder))
    except edition.CannotWrite as error:
        stop(str(error))
    if untracked:
        more = f", and {len(untracked) - 5} more" if len(untracked) > 5 else ""
        say(f"left out, as git does not track them: {', '.join(untracked[:5])}{more}", "yellow")
    say(f"{report.shown(Path(folder))} is the edition for a class; `make` in it lists what it can do")


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
