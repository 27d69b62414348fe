"""What a command was asked for: parts, a part, a tree. What was asked wrongly is told in one line, with status 2."""

import sys
from pathlib import Path
from typing import NoReturn

import typer

from . import catalog
from .catalog import Part, UnknownPart
from .report import shown


def stop(message: str) -> NoReturn:
    """One line of what was asked wrongly, and status 2."""
    print(message, file=sys.stderr)
    raise typer.Exit(2)


def select(text: str, stage: str = "") -> list[Part]:
    try:
        if stage and len(stage) != 1:
            raise UnknownPart
        return catalog.select(text)
    except UnknownPart as error:
        if not stage and not text.isdigit():
            stop(str(error))
        stages = sorted({part.stage for part in catalog.parts()})
        there = "there is stage" if len(stages) == 1 else "there are stages"
        stop(f"there is no stage {text} yet; {there} {', '.join(stages)}")


def one(what: str, text: str, more: str = "") -> Part:
    """The one part that a command is about; `more` is what else its example needs."""
    example = " ".join(["make", what, "EX={}", more]).rstrip()
    if not text:
        stop(f"which part? For example: {example.format(catalog.parts()[0].id)}")
    chosen = select(text)
    if len(chosen) > 1:
        stop(f"{text} names {len(chosen)} parts; name one: {example.format(chosen[0].id)}")
    return chosen[0]


def graded_tree(tree: Path | None, chosen: list[Part]) -> Path:
    """The folder to grade, absolute; stops where it holds nothing to grade."""
    if tree is None:
        return catalog.STAGES
    tree = tree.resolve()
    try:
        if not any(tree.iterdir()):
            stop(f"{shown(tree)} is empty")
    except OSError as error:
        stop(f"the folder {tree} cannot be read: {error.strerror}")
    if tree != catalog.STAGES and not any(part.file(tree).exists() for part in chosen):
        stop(f"nothing to grade in {shown(tree)}: there is no {chosen[0].path}")
    return tree
