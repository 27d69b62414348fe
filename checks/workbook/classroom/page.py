"""OUT/results/*.json -> OUT/class.html: one page about a class, for its instructor.

It needs no script and no other file. All that a submission wrote, its name first of all, is untrusted text: cleaned of
control characters, cut, and escaped. A result that cannot be read is a row that says so.
"""

import csv
import json
import math
import os
import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import jinja2

from .. import RUNGS
from ..report import clean
from . import charts
from .causes import cause

NAME, LINE, LINES = 60, 300, 20  # characters of a name and of a line, lines of a message
SHOWN = 100  # pairs and findings; the CSV files hold more
PROVENANCE = ("device", "python", "torch", "triton", "numpy", "workbook", "seed", "date", "layers")
MARKS = {"todo": "○", "inconclusive": "?"}


@dataclass
class Check:
    name: str
    rung: str
    status: str
    message: str
    printed: str
    speed: tuple[float, float] | None  # share of the roofline reached, and asked


@dataclass
class Part:
    title: str
    status: str
    points: float
    out_of: float
    checks: list[Check]

    @property
    def wrong(self) -> Check | None:
        """The first check that went wrong: the one worth reading."""
        return next((check for check in self.checks if check.status in ("error", "fail", "todo")), None)


@dataclass
class Row:
    """One submission. status: graded, could not be graded, or unreadable."""

    name: str
    link: str
    status: str = "unreadable"
    reason: str = ""
    points: float = 0.0
    out_of: float = 0.0
    late: float = 1.0
    notes: list[str] = field(default_factory=list)
    parts: dict[str, Part] = field(default_factory=dict)
    about: dict = field(default_factory=dict)
    anchor: str = ""

    @property
    def percent(self) -> float | None:
        return 100 * self.points / self.out_of if self.status == "graded" and self.out_of else None


def write(out: Path) -> Path:
    """Writes OUT/class.html anew and returns its path. Also shows similarity.csv and tripwires.csv where they lie."""
    rows = sorted(map(read, (out / "results").glob("*.json")), key=lambda row: (row.name.casefold(), row.link))
    for number, row in enumerate(rows):
        row.anchor = f"s{number}"
    ids = sorted({id for row in rows for id in row.parts})
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    template = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page = template.get_template("page.html.j2").render(
        rows=rows,
        graded=[row for row in rows if row.status == "graded"],
        percents=sorted(row.percent for row in rows if row.percent is not None),
        median=statistics.median,
        provenance=provenance(rows),
        uncontained=[row for row in rows if row.about.get("sandboxed") is False],
        ungraded=ungraded(rows),
        heat_map=charts.heat_map(ids, [(cut(row.name, 24), row.anchor, cells(row, ids)) for row in rows]),
        parts=[standing(id, rows) for id in ids],
        causes=charts.bars(causes(rows)),
        speeds=speeds(rows),
        pairs=table(out / "similarity.csv"),
        tripped=table(out / "tripwires.csv"),
        shown=SHOWN,
    )
    new = out / f"class.html.{os.getpid()}"
    new.write_text(page, encoding="utf-8")
    new.replace(out / "class.html")
    return out / "class.html"


def read(file: Path) -> Row:
    """One result. Whatever is wrong with the file, there is a row."""
    link = quote(b"results/" + os.fsencode(file.name))
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return Row(
            name=cut(found["submission"], NAME),
            link=link,
            status=cut(found["status"], NAME),
            reason=message(found.get("reason", "")),
            points=number(found["points"]),
            out_of=number(found["out_of"]),
            late=number(found.get("late", {}).get("factor", 1)),
            notes=[cut(note, LINE) for note in found.get("notes", [])[:LINES]],
            parts={cut(id, 8): part(told) for id, told in found["parts"].items()},
            about=dict(found.get("provenance", {})),
        )
    except Exception as error:  # a page about 300 submissions does not fall over one of them
        return Row(cut(file.stem, NAME), link, reason=f"the result cannot be read: {cut(error, LINE)}")


def part(told: dict) -> Part:
    points, out_of = number(told["points"]), number(told["out_of"])
    return Part(cut(told["title"], NAME), cut(told["status"], 20), points, out_of, [check(c) for c in told["checks"]])


def check(told: dict) -> Check:
    timing = told.get("facts", {}).get("timing")
    speed = (number(timing["share"]), number(timing["target"])) if timing else None
    texts = message(told.get("message", "")), message(told.get("printed", ""))
    return Check(cut(told["name"], NAME), cut(told["rung"], 20), cut(told["status"], 20), *texts, speed)


def number(told) -> float:
    """A finite number; raises ValueError or TypeError."""
    if not math.isfinite(value := float(told)):
        raise ValueError(f"{told} is not a number of points or a share")
    return value


def cut(told, most: int) -> str:
    """Untrusted text as one short line."""
    text = " ".join(clean(str(told)[: 4 * most]).split())
    return text if len(text) <= most else text[: most - 1] + "…"


def message(told) -> str:
    """Untrusted text that keeps its lines."""
    lines = clean(str(told)[: LINE * LINES]).strip("\n").split("\n")
    more = ["…"] if len(lines) > LINES else []
    return "\n".join([line if len(line) <= LINE else line[: LINE - 1] + "…" for line in lines[:LINES]] + more)


def cells(row: Row, ids: list[str]) -> list[charts.Cell]:
    if row.status != "graded":
        return [charts.Cell("ours", "!", f"{row.name}, {id}: {row.status}. {row.reason}") for id in ids]
    return [cell(row, id, row.parts.get(id)) for id in ids]


def cell(row: Row, id: str, part: Part | None) -> charts.Cell:
    """Colour by the share of the points; the mark says the same, and what no points can say."""
    if part is None:
        return charts.Cell("absent", "", f"{row.name}, {id}: not asked for")
    words = f"{row.name}, {id} {part.title}: {part.points:g} of {part.out_of:g} points"
    if wrong := part.wrong:
        words += f"\n{wrong.name}: {wrong.message}"
    if part.status == "error":
        return charts.Cell("ours", "!", words)
    if part.out_of <= 0:
        return charts.Cell("here", "-", f"{words}; not graded here")
    share = part.points / part.out_of
    if share >= 1:
        return charts.Cell("share4", "✔?" if part.status == "inconclusive" else "✔", words)
    if share <= 0:
        return charts.Cell("share0", MARKS.get(part.status, "✘"), words)
    return charts.Cell(f"share{1 + int(3 * share)}", f"{min(99, 100 * share):.0f}", words)


def standing(id: str, rows: list[Row]) -> dict:
    """How the class stands in one part."""
    found = [row.parts[id] for row in rows if row.status == "graded" and id in row.parts]
    shares = [part.points / part.out_of for part in found if part.out_of > 0]
    why = Counter(cause(part.wrong) for part in found if part.wrong)
    return {
        "id": id,
        "title": next((part.title for part in found), ""),
        "passing": sum(part.status == "pass" for part in found),
        "of": len(found),
        "mean": statistics.fmean(shares) if shares else None,
        "why": why.most_common(2),
    }


def causes(rows: list[Row]) -> list[tuple[str, int, str]]:
    """What went wrong, one count a part of a submission, the most frequent first."""
    wrong = [part.wrong for row in rows for part in row.parts.values() if part.wrong]
    counts = Counter((cause(check), "ours" if check.status == "error" else "bar") for check in wrong)
    return [(what, count, look) for (what, look), count in counts.most_common()]


def speeds(rows: list[Row]) -> charts.Markup | None:
    """A strip for each timed case; None where nothing was timed."""
    timed, asked = defaultdict(list), {}
    for row in rows:
        for id, part in row.parts.items():
            for check in part.checks:
                if check.speed:
                    label = cut(f"{id} {check.name}".removesuffix(" fast"), 34)
                    timed[label].append((row.name, check.speed[0], check.status == "pass"))
                    asked[label] = check.speed[1]
    return charts.strips([(label, timed[label], asked[label]) for label in sorted(timed)]) if timed else None


def provenance(rows: list[Row]) -> dict[str, str]:
    """Where the results come from; more than one value where runs differ."""
    told = {}
    for key in PROVENANCE:
        values = [row.about[key] for row in rows if row.about.get(key) is not None]
        texts = sorted({cut(", ".join(map(str, v)) if isinstance(v, list) else v, NAME) for v in values})
        told[key] = f"{texts[0]} to {texts[-1]}" if key == "date" and len(texts) > 1 else "; ".join(texts[:4])
    told["device"] = told["device"] or "no GPU"
    told["layers"] = told["layers"] or "none"
    return told


def ungraded(rows: list[Row]) -> list[tuple[str, str, int]]:
    """What could not be graded here: (reason, rungs, of how many submissions)."""
    reasons, whose = defaultdict(set), defaultdict(set)
    for row in rows:
        for part in row.parts.values():
            for check in part.checks:
                if check.status == "ungraded":
                    reasons[check.message].add(check.rung)
                    whose[check.message].add(row.anchor)
    found = [
        (
            cut(why, LINE),
            ", ".join(f"cases of {r}" if r == "correct" else r for r in RUNGS if r in rungs),
            len(whose[why]),
        )
        for why, rungs in reasons.items()
    ]
    return sorted(found, key=lambda row: -row[2])[:LINES]


def table(file: Path) -> list[dict[str, str]]:
    """The rows of a CSV file of ours; none where there is no such file."""
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            return [{key: cut(value, LINE) for key, value in row.items()} for row in csv.DictReader(lines)]
    except (OSError, UnicodeDecodeError, csv.Error):
        return []
