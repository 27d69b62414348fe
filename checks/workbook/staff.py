"""The commands of those who add parts and of those who teach a class; cli.py has the learner's."""

from pathlib import Path
from typing import Annotated

import typer

from . import catalog, report
from . import new as files
from .asked import select, stop
from .cli import Id, app
from .report import say


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
