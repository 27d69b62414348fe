"""The commands that look closer: at a kernel, at its speed, at the machine, and the labs."""

from pathlib import Path
from typing import Annotated

import typer

from . import catalog, doctor, progress, report
from .asked import graded_tree, one, select, stop
from .cli import Id, app
from .report import say


@app.command(name="bench")
def time_sizes(
    id: Id = "",
    tree: Annotated[Path | None, typer.Option(help="the folder to time; stages/ if none is named")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="where plots go; .workbook/bench if not named")
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="draw this run, which is on record")
    ] = None,
    peers: Annotated[
        bool, typer.Option("--peers", help="also what else a user would call, not the first alone")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="the inputs of an earlier run again")] = None,
):
    """Time parts over many sizes on a GPU, and plot them beside the roofline; or plot a run on record, anywhere."""
    from . import bench

    if not (id or source):
        stop(f"which part? For example: make bench EX={catalog.parts()[0].id}")
    chosen, folder = select(id), out or progress.folder() / "bench"
    try:
        if source:
            bench.redraw(source, chosen, folder)
        elif not bench.run(chosen, graded_tree(tree, chosen), folder, id, peers, seed):
            raise typer.Exit(1)
    except bench.CannotBench as error:
        stop(str(error))
    except OSError as error:
        stop(f"{error.filename or folder} cannot be written: {error.strerror}")


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


@app.command()
def profile(
    id: Id = "",
    tool: Annotated[str, typer.Option(help="ncu, nsys, torch or proton")] = "",
    case: Annotated[str, typer.Option(help="which timed case, by a piece of its name; the first if not named")] = "",
    tree: Annotated[Path | None, typer.Option(help="the folder to profile; stages/ if none is named")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="where the tool's file goes; .workbook/profile if not named")
    ] = None,
):
    """Run a part's timed case under a profiler, and say in words what it tells."""
    part = one("profile", id, "TOOL=ncu")
    tree = graded_tree(tree, [part])
    from . import profiling

    try:
        asked = profiling.tool_named(tool), profiling.timed_case(part, case)
        profiling.run(part, tree, *asked, out or progress.folder() / "profile")
    except profiling.CannotProfile as error:
        stop(str(error))


@app.command(name="lab", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def open_lab(
    context: typer.Context,
    stage: Annotated[str, typer.Argument(metavar="STAGE", help="1 to 5")] = "",
):
    """The lab of a stage, in JupyterLab; more words are handed on to it, as --port 8890 or --no-browser."""
    from . import lab

    there = lab.labs()
    if stage not in there:
        asked = f"there is no lab of stage {stage}" if stage else "which stage?"
        stop(f"{asked}; there are labs of {', '.join(there)}: make lab STAGE={next(iter(there))}")
    if lacking := lab.missing():
        stop(lacking)
    try:
        notebook, older = lab.lay(there[stage])
    except lab.CannotOpen as error:
        stop(str(error))
    mine = report.shown(notebook)
    if older:
        say(f"{mine} was made from an earlier lab.py; move it away, and it is made anew", "yellow")
    say(f"{mine} is yours: git ignores it, and nothing overwrites it. Ctrl-C ends JupyterLab")
    if status := lab.open_in_jupyter(notebook, context.args):
        say(f"JupyterLab ended with status {status}; why stands above", "red")
        say(f"make lab STAGE={stage} ARGS='--port 8890' takes another port, ARGS=--no-browser only prints the address")
        raise typer.Exit(1)


@app.command(name="doctor")
def examine(quick: Annotated[bool, typer.Option("--quick", help="measure nothing")] = False):
    """What this machine has, what can be graded here, and what its GPU reaches beside what others promise."""
    report.examination(doctor.rows(catalog.ROOT), doctor.rungs())
    if doctor.unsupported():
        raise typer.Exit(1)
    if not quick:
        from . import gauges

        gauges.show()
