"""What an instructor gets of each submission: JSON, JUnit, and a row of a table for the course system."""

import csv
import json
import os
from pathlib import Path
from xml.etree import ElementTree

from ..ladder import WORST_FIRST
from ..report import clean
from .rubric import Rubric
from .similarity import cells


def account(result: dict, rubric: Rubric) -> dict:
    """The result again, its points made anew from its verdicts. Its reason names the parts that are ours to mend."""
    gpu = bool(result.get("provenance", {}).get("device"))
    for id, part in result["parts"].items():
        earned = rubric.part(id, part["checks"], gpu)
        for name, rung in earned["rungs"].items():
            statuses = {check["status"] for check in part["checks"] if check["rung"] == name}
            rung["status"] = next((s for s in WORST_FIRST if s in statuses), "not reached")
        part.update(earned)
    late = rubric.late.of(result["submission"]) if rubric.late else {"days": 0, "factor": 1.0}
    points = sum(part["points"] for part in result["parts"].values())
    out_of = sum(part["out_of"] for part in result["parts"].values())
    earned = {"points": round(points * late["factor"], 2), "out_of": round(out_of, 2), "late": late}
    if result["status"] == "graded":
        ours = [id for id, part in result["parts"].items() if part["status"] == "error"]
        earned["reason"] = f"could not be graded: {', '.join(ours)}" if ours else ""
    return {**result, **earned}


def write(file: Path, text: str) -> None:
    """All of it or nothing: a reader never sees half a file."""
    new = file.with_name(f".{file.name}.{os.getpid()}")
    new.write_text(text, encoding="utf-8", errors="replace")
    new.replace(file)


def write_result(out: Path, result: dict) -> None:
    file = out / "results" / f"{result['submission']}.json"
    write(file, json.dumps(result, indent=1) + "\n")
    write(file.with_suffix(".junit.xml"), junit(result))


def junit(result: dict) -> str:
    """A suite for each part, a case for each check; what was not graded is skipped, and our own faults are errors."""
    root = ElementTree.Element("testsuites", name=result["submission"])
    if not result["parts"]:
        suite = ElementTree.SubElement(
            root, "testsuite", name=result["submission"], tests="1", errors="1", failures="0"
        )
        case = ElementTree.SubElement(suite, "testcase", classname=result["submission"], name="graded")
        ElementTree.SubElement(case, "error", message=clean(result["reason"]))
    for id, part in result["parts"].items():
        suite = ElementTree.SubElement(root, "testsuite", name=f"{id} {part['title']}")
        counts = dict.fromkeys(("failure", "error", "skipped"), 0)
        for check in part["checks"]:
            seconds = f"{check['seconds']:.3f}"
            case = ElementTree.SubElement(suite, "testcase", classname=id, name=clean(check["name"]), time=seconds)
            kind = {"pass": "", "fail": "failure", "todo": "failure", "error": "error"}.get(check["status"], "skipped")
            if kind:
                counts[kind] += 1
                told = clean(check["message"]) or check["status"]
                ElementTree.SubElement(case, kind, message=told.split("\n")[0]).text = told
            if check["printed"]:
                ElementTree.SubElement(case, "system-out").text = clean(check["printed"])
        suite.attrib |= {"tests": str(len(part["checks"])), "failures": str(counts["failure"])}
        suite.attrib |= {"errors": str(counts["error"]), "skipped": str(counts["skipped"])}
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def write_table(out: Path, results: list[dict], ids: list[str]) -> None:
    """OUT/class.csv: a row a submission, a column a part."""
    new = out / f".class.csv.{os.getpid()}"
    with new.open("w", newline="", encoding="utf-8", errors="replace") as opened:
        table = csv.writer(opened)
        table.writerow(["submission", "status", "points", "out_of", "percent", "late_factor", *ids, "reason"])
        for result in results:
            graded = result["status"] == "graded" and result["out_of"]
            whole = graded and not result["reason"]  # a share of some of the parts would look like one of all
            parts = [result["parts"].get(id, {}).get("points", "") for id in ids]
            percent = round(100 * result["points"] / result["out_of"], 1) if whole else ""
            points = (result["points"], result["out_of"]) if graded else ("", "")
            row = [result["submission"], result["status"], *points, percent, result["late"]["factor"], *parts]
            table.writerow(cells([*row, result["reason"]]))
    new.replace(out / "class.csv")
