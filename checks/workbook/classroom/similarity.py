"""Who may have copied from whom, or from the reference: OUT/work/ -> OUT/similarity.csv.

It points a human at pairs to read side by side, and is never a verdict. What counts is the student's own code: runs of
K tokens that the stub does not hold, in which names, comments, docstrings, strings and layout make no difference
(k-gram fingerprints: Schleimer, Wilkerson and Aiken, "Winnowing", SIGMOD 2003; files are small here, so all are kept).
It can tell code that was renamed, laid out anew or padded. It cannot tell code that was thought anew from one that was
reordered token by token, nor who copied. A blank of a line or two is filled alike by everyone: parts with fewer than
LEAST such runs are left out, and a pair counts for what it shares that the rest of the class did not write.
"""

import csv
import keyword
import re
from collections import Counter, defaultdict
from dataclasses import astuple, dataclass, fields
from itertools import combinations
from pathlib import Path

from .. import catalog, new
from ..report import clean

K = 8  # tokens in a run
LEAST = 30  # runs of the student's own, below which nothing is said
ALIKE = 0.8  # share of the shorter one's runs that both have
RARE = 1 / 3  # share of those that is rare: how much of the rest of the class does not write them
MOST = 1000  # pairs told
REFERENCE = "solutions/"  # which no folder can be named
KEPT = frozenset(keyword.kwlist) | {"range", "len", "min", "max"}
LEXER = re.compile(
    r"""(?P<drop>\#[^\n]*|[rbfu]{0,2}(?:\"{3}.*?\"{3}|'{3}.*?'{3})|\\\n|\s+)|(?P<text>[rbfu]{0,2}(?:"[^"\n]*"|'[^'\n]*'))|"""
    r"""(?P<number>\d[\w.]*)|(?P<name>\w+)|(?P<other>//=?|\*\*=?|[-+*/%&|^<>=!@:]=|<<|>>|->|.)""",
    re.S | re.I,
)


@dataclass
class Pair:
    """Two submissions, or one and REFERENCE. rare: of the tokens in common, those that hardly anyone wrote."""

    part: str
    submission: str
    other: str
    how: str
    alike: str
    tokens: int
    rare: int


def report(out: Path) -> list[Pair]:
    """Writes OUT/similarity.csv, the most telling pair first, and returns its rows. Reads no code but as text."""
    names = sorted(folder.name for folder in (out / "work").glob("*") if folder.is_dir())
    found = []
    for part in catalog.parts():
        files = {name: part.file(out / "work" / name) for name in names}
        sources = {name: text for name, file in files.items() if (text := _read(file)) is not None}
        found += compare(part, sources)
    found.sort(key=lambda pair: -pair.rare)
    with (out / "similarity.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(field.name for field in fields(Pair))
        table.writerows(map(cells, map(astuple, found[:MOST])))
    return found[:MOST]


def compare(part: catalog.Part, sources: dict[str, str]) -> list[Pair]:
    """The pairs of one part that are much alike."""
    try:
        given = runs(new.stub_of(part))
    except new.CannotLay:
        return []
    reference = _read(part.file(catalog.SOLUTIONS))
    if reference is not None:
        sources = {REFERENCE: reference, **sources}
    alike = defaultdict(list)  # one entry for sources that are the same up to names and layout
    for name, source in sources.items():
        if len(own := frozenset(runs(source) - given)) >= LEAST:
            alike[own].append(name)
    spread = Counter(run for own, group in alike.items() for run in own for _ in group)
    others = max(1, sum(map(len, alike.values())) - 2)
    found = []
    for a, b in [*combinations(alike, 2), *((own, own) for own, group in alike.items() if len(group) > 1)]:
        common = a & b
        share = len(common) / min(len(a), len(b))
        if share < ALIKE:
            continue
        rare = sum(1 - (spread[run] - 2) / others for run in common)
        if rare >= RARE * len(common):
            pairs = combinations(alike[a], 2) if a is b else ((x, y) for x in alike[a] for y in alike[b])
            how = "up to names and layout" if a is b else "one holds the other" if share == 1 else "in large parts"
            for one, other in pairs:
                exact = "letter by letter" if sources[one] == sources[other] else how
                names = (other, one) if one == REFERENCE else (one, other)
                found.append(Pair(part.id, *names, exact, f"{share:.0%}", len(common), round(rare)))
    return found


def runs(source: str) -> set[int]:
    """Every K tokens in a row, as numbers of this process."""
    found = tokens(source)
    return {hash(tuple(found[i : i + K])) for i in range(len(found) - K + 1)}


def tokens(source: str) -> list[str]:
    """What Python would read, and text that it would not. A name becomes its distance to where it last stood.

    So a name that is another everywhere makes no difference, and one that is another here and there does. Attributes
    and the words of the language stay as they are; the names of keyword arguments are all one.
    """
    found, last, depth = [], {}, 0
    matches = [match for match in LEXER.finditer(source) if match.lastgroup != "drop"]
    for here, match in enumerate(matches):
        text, kind = match[0], match.lastgroup
        before = matches[here - 1][0] if here else ""
        after = matches[here + 1][0] if here + 1 < len(matches) else ""
        depth += (text in "([{") - (text in ")]}")
        if kind == "text":
            text = '""'
        elif kind == "name" and depth > 0 and after == "=":
            text = "name="
        elif kind == "name" and before != "." and text not in KEPT:
            away = here - last.get(text, -K)
            last[text] = here
            text = f"name {away if away < K else 0}"
        found.append(text)
    return found


def cells(row) -> list[str]:
    """Cells of a CSV file that a spreadsheet takes for text, whatever a submission is named."""
    texts = [" ".join(clean(str(cell)).split()) for cell in row]
    return [f"'{text}" if text[:1] in ("=", "+", "-", "@") else text for text in texts]


def _read(file: Path) -> str | None:
    try:
        return file.read_bytes().decode("utf-8", "replace") if file.is_file() and not file.is_symlink() else None
    except OSError:
        return None
