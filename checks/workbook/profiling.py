"""What a learner sees of `make profile`: a refusal, or a reading of the part's timed case, and the tool's own file."""

import json
import math
import shutil
import tempfile
from pathlib import Path

import torch

from . import (
    bench,
    catalog,
    ceilings,
    counters,
    curves,
    gather,
    ladder,
    profilers,
    scopes,
    sweep,
    timeline,
    warm,
    words,
)
from .catalog import Part
from .exercise import Speed
from .grader import Grading
from .profilers import TOOLS, Tool
from .readings import Asked, Reading, Unreadable
from .report import console, say, shown


class CannotProfile(Exception):
    """The message says why nothing is profiled, and what to use instead."""


def tool_named(name: str) -> Tool:
    if name not in TOOLS:
        wrong = f"there is no tool {name!r}" if name else "no tool is named"
        raise CannotProfile(
            "\n".join([f"{wrong}; TOOL= is one of", *(f"  {t.name:<8}{t.what}" for t in TOOLS.values())])
        )
    return TOOLS[name]


def timed_case(part: Part, text: str) -> Speed:
    """The timed case that a text names, or a piece of its name; the first where nothing is asked."""
    try:
        speeds = part.exercise.speed
    except Exception as error:
        raise CannotProfile(ladder.broken(part, error)) from None
    if not speeds:
        raise CannotProfile(f"{part.id} has no timed case")
    exact = [speed for speed in speeds if speed.case.id == text]
    chosen = exact or [speed for speed in speeds if text in speed.case.id]
    if len(chosen) != 1 and text:
        there = ", ".join(speed.case.id for speed in speeds)
        what = "names several" if chosen else "names none"
        raise CannotProfile(f"CASE={text} {what} of the timed cases of {part.id}: {there}")
    return chosen[0]


def run(part: Part, tree: Path, tool: Tool, speed: Speed, folder: Path) -> None:
    """Profiles one call, or a few, and shows the reading. Raises CannotProfile where there is none."""
    if why := sweep.refusal() or profilers.missing(tool):
        raise CannotProfile(refused(part, tool, speed, why))
    file = place(folder, f"{bench.stem(part.id, speed.case.id)}-{tool.name}", tool.suffix)
    warm.warm_up("interpret", "gpu")
    with console.status(f"{part.id} its cases are run") as status, tempfile.TemporaryDirectory() as scratch:
        wrong = checked(part, tree)
        asked = what_is_asked(part, speed)
        status.update(f"{part.id} {speed.case.id} under {tool.name}")
        reading = profiled(part, tree, tool, asked, Path(scratch, "profile"))
        shutil.move(f"{scratch}/profile{tool.suffix}", file)
    say(f"{part.id} {part.title}, {speed.case.id}, by {tool.name} on {sweep.about()['device']}", "bold")
    if wrong:
        say(f"{wrong}\nIt is profiled all the same: its figures are of a kernel that is not right yet", "red", 2)
    reading.show()
    others = [other.case.id for other in part.exercise.speed if other is not speed]
    if others:
        say(f"other timed cases, by CASE=: {', '.join(others)}", "dim", 2)
    say(f"{shown(file)}  (for {tool.opened})")


def profiled(part: Part, tree: Path, tool: Tool, asked: Asked, stem: Path) -> Reading:
    """Runs the part's calls under the tool, which leaves STEM with its suffix."""
    source, answer = part.file(tree).resolve(), stem.with_suffix(".answer")
    job = {"tool": tool.name, "part": part.id, "file": str(source), "case": asked.case, "calls": tool.calls}
    job |= {"bytes": asked.bytes, "flops": asked.flops, "device": "cuda", "stem": str(stem), "answer": str(answer)}
    said = failed = ""
    try:
        for command in profilers.commands(tool, stem, profilers.runner(json.dumps(job))):
            said = profilers.run(command)
    except profilers.Failed as error:
        failed = str(error)
    told = json.loads(answer.read_text()) if answer.exists() else {}
    if "error" in told:
        failed = profilers.complaint(0, told["error"]["message"]) or (
            f"the call fails: {words.told(told['error'], part, part.exercise, source).message}"
        )
    try:
        if failed:
            raise Unreadable(failed)
        return read(tool, stem, said, told, asked)
    except (Unreadable, OSError) as error:
        raise CannotProfile(f"{tool.name} told nothing of {part.id}: {error}\n{instead(part, tool)}") from None


def read(tool: Tool, stem: Path, said: str, told: dict, asked: Asked) -> Reading:
    """What the tool left, said and told."""
    if tool.name == "ncu":
        return counters.read(said, asked)
    if tool.name == "nsys":
        return timeline.read(timeline.of_nsys(stem.with_suffix(".sqlite")), tool.calls, asked)
    text = stem.with_suffix(tool.suffix).read_text()
    if tool.name == "proton":
        return scopes.read(text, tool.calls, asked)
    return timeline.read(timeline.of_trace(text), tool.calls, asked, told["operations"])


def checked(part: Part, tree: Path) -> str:
    """What is wrong with the part, or an empty string. Raises CannotProfile where there is nothing to call yet."""
    with Grading(part, tree, seed=0) as grading:
        if not grading.file.exists():
            raise CannotProfile(f"there is no file {grading.file.name}: `make reset EX={part.id}` lays it")
        case, verdict = gather.first_failure(grading) or (None, None)
    if not case:
        return ""
    if verdict.status == "todo":
        raise CannotProfile(f"there is nothing to profile yet: {verdict.message}")
    return f"fails {case.id}: {verdict.message}"


def what_is_asked(part: Part, speed: Speed) -> Asked:
    """The call's necessary bytes and flops, and what this GPU reaches now."""
    nbytes, flops = curves.work(part.exercise, speed, speed.case.values)
    matmul = ceilings.matmul_rate(speed.products) if flops > ceilings.RIDGE * nbytes else math.inf
    return Asked(speed.case.id, nbytes, flops, ceilings.copy_rate(), matmul)


def place(folder: Path, stem: str, suffix: str) -> Path:
    """A name that no file has yet. Raises CannotProfile where the folder cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise CannotProfile(f"nothing can be written to {folder}: {error.strerror}") from None
    number, file = 1, folder / f"{stem}{suffix}"
    while file.exists():
        number += 1
        file = folder / f"{stem}-{number}{suffix}"
    return file


def refused(part: Part, tool: Tool, speed: Speed, why: str) -> str:
    """What would be profiled, why it is not, and what helps meanwhile."""
    return (
        f"make profile runs {part.id} {part.title}, {speed.case.id}, under {tool.name} ({tool.what}).\n"
        f"Nothing is profiled here: {why}.\n{instead(part, tool)}"
    )


def instead(part: Part, tool: Tool) -> str:
    """What else tells something of a part, here."""
    record = next(iter(sorted(catalog.MEASURED.glob("*.json"))), Path("FILE"))
    ways = {
        f"make inspect EX={part.id}": "registers, occupancy, bytes and sectors of each line",
        f"make check EX={part.id} ARGS=-v": "the trace: what a call moves against what is necessary",
    }
    if torch.cuda.is_available():
        if tool.program:
            ways[f"make profile EX={part.id} TOOL=torch"] = "a timeline, without counters"
        ways[f"make bench EX={part.id}"] = "its place under the roofline"
    else:
        ways[f"make bench FROM={shown(record)}"] = "a run on record, under its roofline"
    wide = max(map(len, ways))
    return "\n".join(["Instead:", *(f"  {way:<{wide}}  {what}" for way, what in ways.items())])
