"""What a learner sees of `make bench`: a refusal, or a progress bar, tables, and plots and the run itself as files."""

import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from . import catalog, curves, ladder, sweep, warm
from .catalog import Part
from .curves import MADE_BY, Curve, Run, is_ms, rate, size
from .exercise import Case, Speed
from .grader import Grading
from .report import console, say, shown

METADATA = {".png": {"Software": MADE_BY}, ".svg": {"Creator": MADE_BY, "Date": None}}


class CannotBench(Exception):
    """The message says why nothing is timed or drawn, and what to do."""


def run(parts: list[Part], tree: Path, folder: Path, asked: str, peers: bool, seed: int | None) -> bool:
    """Times the parts over many sizes; leaves tables, plots, and the run as JSON. Whether all could be timed."""
    timed = _timed(parts)
    if not timed:
        raise CannotBench(f"{asked} has no timed case")
    if why := sweep.refusal():
        raise CannotBench(_refused(timed, asked, why))
    plots, kept = _plots(), folder / f"{asked}.json"
    stems = [*(stem(part.id, speed.case.id) for part, speed, _ in timed), f"{asked}-roofline", f"{asked}-peers"]
    claim([kept, *_files(folder, stems)])
    warm.warm_up("interpret", "gpu")
    whose = {catalog.STAGES: "yours", catalog.SOLUTIONS: "solution"}.get(tree, tree.name)
    done, fine = Run(sweep.about(), whose, []), True
    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        steps = sum(len(cases) for *_, cases in timed) + sum(len(part.exercise.cases) for part in parts)
        bar = progress.add_task("", total=steps)
        for part in parts:

            def step(case: str, part=part):
                progress.update(bar, advance=1, description=f"{part.id} {part.title}: {case}")

            try:
                with Grading(part, tree, seed, peers) as grading:
                    sweep.correct(grading, step)
                    found = [sweep.curve(grading, speed, step) for speed in part.exercise.speed]
            except Exception as error:
                why = str(error) if isinstance(error, sweep.Wrong) else ladder.broken(part, error)
                say(f"{part.id} is not timed: {why.splitlines()[0]}", "red")
                fine = False
                continue
            done.curves += found
            for curve in found:
                show(curve, whose)
            done.write(kept)  # now, for whoever stops it half-way
    if done.curves:
        say(shown(kept))
        for file in _draw(plots, done, folder, asked):
            say(shown(file))
    return fine


def redraw(source: Path, parts: list[Part], folder: Path) -> None:
    """Draws what a run on record holds of the parts."""
    plots = _plots()
    _timed(catalog.parts())  # so that a broken spec is told as such
    try:
        found = curves.read(source)
    except curves.Unreadable as error:
        raise CannotBench(str(error)) from None
    for why in found.left_out:
        say(f"left out: {why}", "yellow")
    held = dict.fromkeys(curve.part for curve in found.curves)
    ids = {part.id for part in parts}
    found.curves = [curve for curve in found.curves if curve.part in ids]
    if not found.curves:
        raise CannotBench(f"{source} holds none of these parts; it has {', '.join(held)}")
    for curve in found.curves:
        show(curve, found.whose)
    for file in _draw(plots, found, folder, source.stem):
        say(shown(file))


def claim(files: list[Path]) -> None:
    """Makes their folder; raises CannotBench where it cannot be written, or has a file that is not of `make bench`."""
    folder = files[0].parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        for file in filter(Path.exists, files):
            with file.open("rb") as opened:
                if MADE_BY.encode() not in opened.read(4096):
                    raise CannotBench(f"{shown(file)} is not of `make bench` and is left alone: name another OUT=")
    except OSError as error:
        raise CannotBench(f"nothing can be written to {folder}: {error.strerror}") from None


def stem(part: str, case: str) -> str:
    """The name of a sweep's files, such as 1.3a-m=16384,n=8192."""
    return re.sub(r"[^\w=,.+-]+", "_", f"{part}-{case}")


def show(curve: Curve, whose: str) -> None:
    """A row a size: what is moved, the time, the share of the roofline, and the rates of the kernel and its peers."""
    names = list(dict.fromkeys(name for point in curve.points for name in point.peers))
    common = set.intersection(*(set(point.case.split(",")) for point in curve.points))
    rows = [("", "bytes", "ms", "of the roofline", whose, *names)]
    for p in curve.points:
        case = ",".join(word for word in p.case.split(",") if word not in common) or p.case
        rates = [rate(curve.rate(p, ms)) if is_ms(ms) else "-" for ms in (p.ms, *map(p.peers.get, names))]
        rows.append((case, size(p.bytes), rate(p.ms), f"{curve.share(p, p.ms):.0%}", *rates))
    widths = [max(map(len, column)) for column in zip(*rows)]
    say(f"{curve.part} {curve.title}, {curve.case}, {curve.unit}", "bold")
    for first, *others in rows:
        say("  ".join([first.ljust(widths[0]), *map(str.rjust, others, widths[1:])]), indent=2)
    for case, why in curve.left_out.items():
        say(f"left out: {case}: {why}", "yellow", 2)
    for name, why in dict.fromkeys((n, ms) for p in curve.points for n, ms in p.peers.items() if not is_ms(ms)):
        say(f"{name}: {why}", "yellow", 2)
    say(f"{curve.target:.0%} of the roofline is asked of {curve.case}", "dim", 2)


def _timed(parts: Sequence[Part]) -> list[tuple[Part, Speed, list[Case]]]:
    """Each timed case of the parts, and the cases of its sweep."""
    timed = []
    for part in parts:
        try:
            timed += [(part, speed, sweep.sizes(part.exercise, speed)) for speed in part.exercise.speed]
        except Exception as error:
            raise CannotBench(ladder.broken(part, error)) from None
    return timed


def _refused(timed, asked: str, why: str) -> str:
    """What would be timed, why it is not, and what helps meanwhile."""
    names = list(dict.fromkeys(f"{part.id} {part.title}" for part, *_ in timed))
    what = names[0] if len(names) == 1 else f"{len(names)} parts"
    ids = {part.id for part, *_ in timed}
    records = [f for f in sorted(catalog.MEASURED.glob("*.json")) if ids & json.loads(f.read_text())["parts"].keys()]
    return (
        f"make bench times {what} on a GPU, at {sum(len(cases) for *_, cases in timed)} sizes, and plots the rates "
        f"beside the roofline, the target and torch.\n"
        f"Nothing is timed here: {why}.\n"
        f"Meanwhile: make check EX={asked} (moves: bytes and sectors), make inspect EX={asked} (what it compiles to), "
        + (f"make bench FROM={shown(records[0])} (a run on record)." if records else "no run of it is on record.")
    )


def _plots():
    try:
        from . import plots
    except ImportError as error:
        raise CannotBench(f"nothing can be drawn: {error.name} is not installed (pip install matplotlib)") from None
    return plots


def _files(folder: Path, stems) -> list[Path]:
    return [folder / (stem + form) for stem in stems for form in METADATA]


def _draw(plots, done: Run, folder: Path, asked: str) -> Iterator[Path]:
    """Draws what can be made of a run, and yields each file: sweeps, and where it is about many parts, all in one."""
    figures = {stem(c.part, c.case): plots.sweep(done, c) for c in done.curves if len(c.points) > 1}
    if len({c.part for c in done.curves}) > 1 or not figures:
        figures[f"{asked}-peers"] = plots.peers(done)
        if any(c.timed.flops for c in done.curves):
            figures[f"{asked}-roofline"] = plots.roofline(done)
    claim(_files(folder, figures))
    for name, figure in figures.items():
        for file, about in zip(_files(folder, [name]), METADATA.values()):
            figure.savefig(file, metadata=about)
            yield file
