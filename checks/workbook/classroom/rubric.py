"""Verdicts -> points, by a rubric that an instructor can read: weights of the rungs, points of the parts, lateness."""

import csv
import math
import sys
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

from .. import RUNGS, catalog

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT = catalog.CHECKS / "rubric.toml"
LEFT_OUT = {"ungraded", "inconclusive", "error"}  # neither earned nor lost
MOST = 1e6  # points, or hours


class BadRubric(Exception):
    """What is wrong with the rubric, in one line."""


@dataclass
class Late:
    """factor: of the points that is left, by the time a submission was handed in."""

    due: datetime
    times: dict[str, datetime]
    grace: timedelta
    lost_per_day: float
    least: float

    def of(self, name: str) -> dict:
        if name not in self.times:
            return {"days": 0, "factor": 1.0, "note": "it is not in the list of times: not counted as late"}
        over = self.times[name] - self.due
        days = 0 if over <= self.grace else math.ceil(over / timedelta(days=1))
        return {"days": days, "factor": max(self.least, 1 - self.lost_per_day * days)}


@dataclass
class Rubric:
    points: float = 10.0
    weights: dict[str, float] = field(default_factory=lambda: dict.fromkeys(RUNGS, 1.0))
    points_of: dict[str, float] = field(default_factory=dict)
    late: Late | None = None

    def part(self, id: str, checks: list[dict], gpu: bool) -> dict:
        """What a part's checks earn: points, out_of, and the same for each rung."""
        worth = next((self.points_of[k] for k in (id, id[:-1], id[0]) if k in self.points_of), self.points)
        rows = {name: [c["status"] for c in checks if c["rung"] == name] for name in RUNGS}
        rows = {name: statuses for name, statuses in rows.items() if statuses}
        whole = sum(self.weights[name] for name in rows) or 1.0
        # what was not reached was stopped by the student's error, or by ours
        left_out = LEFT_OUT | {"not reached"} if any(c["status"] == "error" for c in checks) else LEFT_OUT
        rungs = {}
        for name, statuses in rows.items():
            graded = [s for s in statuses if s not in left_out and (gpu or name != "fast")]
            out_of = worth * self.weights[name] / whole if graded else 0.0
            earned = out_of * graded.count("pass") / len(graded) if graded else 0.0
            rungs[name] = {"points": round(earned, 4), "out_of": round(out_of, 4)}
        return {
            "points": round(sum(r["points"] for r in rungs.values()), 2),
            "out_of": round(sum(r["out_of"] for r in rungs.values()), 2),
            "rungs": rungs,
        }


def load(file: Path) -> Rubric:
    """Reads a rubric. Raises BadRubric."""
    try:
        told = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadRubric(f"{file} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadRubric(f"{file} is not TOML: {error}") from None
    _known(file, told, {"points", "weights", "points_of", "late"})
    weights = told.get("weights", dict.fromkeys(RUNGS, 1))
    _known(file, weights, set(RUNGS))
    points_of = told.get("points_of", {})
    ids = {k for part in catalog.parts() for k in (part.id, part.exercise_id, part.stage)}
    _known(file, points_of, ids)
    return Rubric(
        _number(file, "points", told.get("points", 10)),
        dict.fromkeys(RUNGS, 0.0) | {k: _number(file, k, v) for k, v in weights.items()},
        {k: _number(file, k, v) for k, v in points_of.items()},
        _late(file, told["late"]) if "late" in told else None,
    )


def _late(file: Path, told: dict) -> Late:
    _known(file, told, {"due", "times", "grace_hours", "lost_per_day", "least"})
    due = told.get("due")
    if not isinstance(due, datetime) or due.tzinfo is None:
        raise BadRubric(f"{file}: late.due is a time with its zone, such as 2026-12-01T23:59:00+00:00")
    if "times" not in told:
        raise BadRubric(f"{file}: late.times names a CSV of the times at which work was handed in")
    return Late(
        due,
        _times(file.parent / str(told["times"])),
        timedelta(hours=_number(file, "grace_hours", told.get("grace_hours", 0))),
        _number(file, "lost_per_day", told.get("lost_per_day", 0.1), 1),
        _number(file, "least", told.get("least", 0), 1),
    )


def _times(file: Path) -> dict[str, datetime]:
    times, line = {}, 1
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            for row in csv.DictReader(opened):
                line += 1
                time = datetime.fromisoformat(row["time"].strip().replace("Z", "+00:00"))
                times[row["submission"].strip()] = time if time.tzinfo else time.replace(tzinfo=timezone.utc)
    except OSError as error:
        raise BadRubric(f"{file} cannot be read: {error.strerror}") from None
    except (KeyError, AttributeError, ValueError, csv.Error):
        raise BadRubric(f"{file}:{line}: the columns are submission and time (2026-12-01T23:59:00+00:00)") from None
    return times


def _known(file: Path, told, keys: set[str]) -> None:
    if not isinstance(told, dict):
        raise BadRubric(f"{file}: a table is expected for {', '.join(sorted(keys))}")
    if unknown := set(told) - keys:
        raise BadRubric(f"{file}: {min(unknown)!r} is unknown; there are {', '.join(sorted(keys))}")


def _number(file: Path, name: str, value, most: float = MOST) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
        raise BadRubric(f"{file}: {name} is {str(value)[:40]}, a number from 0 to {most:,.0f} is expected")
    return float(value)
