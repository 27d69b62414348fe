"""The page about a class, and what it points at."""

import csv
import json
import re
import time
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest
from workbook import catalog, new
from workbook.classroom import causes, charts, page, similarity, tripwires

VARIANCE = catalog.select("1.2c")[0]
SOURCE = VARIANCE.file(catalog.SOLUTIONS).read_text()
HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e]]>\"'&\x00"
TIMING = {"share": 0.84, "target": 0.9, "ms": 1.0}


def check(status="pass", message="", rung="correct", printed="", **facts):
    return {"name": rung, "rung": rung, "status": status, "message": message, "printed": printed, "facts": facts}


def result(name="ann", checks=(), status="fail", points=2.0, out_of=6.0, **more):
    part = {"title": "Vector add", "status": status, "points": points, "out_of": out_of, "checks": list(checks)}
    about = {"device": None, "layers": ["namespaces"], "sandboxed": True, "seed": 7, "date": "2026-11-24"}
    told = {"submission": name, "status": "graded", "reason": "", "points": points, "out_of": out_of}
    return told | {"late": {"days": 0, "factor": 1.0}, "notes": [], "parts": {"1.1a": part}, "provenance": about} | more


def write(out: Path, *results) -> str:
    (out / "results").mkdir(exist_ok=True)
    for number, told in enumerate(results):
        text = told if isinstance(told, str) else json.dumps(told)
        (out / "results" / f"file {number}.json").write_text(text)
    return page.write(out).read_text(encoding="utf-8")


def drawings(text: str) -> list[ET.Element]:
    return [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", text, re.S)]


def titles(text: str) -> list[str]:
    return [title.text for svg in drawings(text) for title in svg.iter() if title.tag.endswith("title")]


def test_what_a_submission_wrote_is_text(tmp_path):
    bad = check("fail", HOSTILE + "\nfile.py:3: " + HOSTILE + "x" * 9999, printed=HOSTILE)
    hostile = result(HOSTILE, [bad], notes=[HOSTILE], reason=HOSTILE)
    hostile["parts"] = {HOSTILE[:7]: hostile["parts"]["1.1a"] | {"title": HOSTILE}}
    hostile["provenance"] |= {"device": HOSTILE, "layers": [HOSTILE]}
    text = write(tmp_path, hostile)
    found = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: found.append((tag, dict(attributes)))
    parser.feed(text)
    assert "script" not in {tag for tag, _ in found} and "&lt;script&gt;" in text
    assert not [1 for _, said in found for name in said if name.startswith("on") or name == "src"]
    assert {said["href"][0] for tag, said in found if tag == "a"} <= {"#", "r"}
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", text)
    assert "x" * page.LINE not in text and "\nfile.py:3: " in text
    assert any("alert(1)" in title for title in titles(text))


def test_a_class_of_300_renders_in_time(tmp_path):
    names = [f"Student {n:03}" for n in range(300)]
    rows = [
        result(name, [check("fail", "race, line 3: x"), check("pass", rung="fast", timing=TIMING)]) for name in names
    ]
    for told in rows:
        told["parts"] = {f"1.{n}a": told["parts"]["1.1a"] for n in range(1, 11)}
    start = time.monotonic()
    text = write(tmp_path, *rows)
    assert time.monotonic() - start < 10
    heat_map = max(drawings(text), key=len)
    assert [t.text for t in heat_map.iter() if t.get("class") == "end"] == names
    assert sum(g.get("class") == "share2" for g in heat_map.iter()) == 3000


@pytest.mark.parametrize(
    "malformed",
    [
        '{"submission": "half wr',
        "[]",
        "",
        "[" * 100_000,
        json.dumps(result() | {"points": "NaN"}),
        json.dumps(result() | {"parts": {"1.1a": None}}),
        json.dumps(result(checks=[check(timing={"share": "fast"})])),
    ],
)
def test_a_result_that_cannot_be_read_is_a_row(tmp_path, malformed):
    text = write(tmp_path, malformed, result("ben", status="pass", points=6.0))
    assert "1 of 2 could not be graded" in text and "<td>unreadable</td>" in text
    assert "file 0, 1.1a: unreadable. the result cannot be read: " in "\n".join(titles(text))
    assert "ben, 1.1a Vector add: 6 of 6 points" in titles(text)


def test_no_colour_is_the_only_sign(tmp_path):
    rows = [
        result("all", status="pass", points=6),
        result("some", [check("fail")], points=4),
        result("none", [check("fail")], points=0),
        result("open", [check("todo")], status="todo", points=0),
        result("unsure", status="inconclusive", points=6),
        result("ours", [check("error")], status="error", points=0),
        result("here", status="ungraded", points=0, out_of=0),
        result("down", status="could not be graded") | {"status": "could not be graded", "reason": "killed"},
    ]
    heat_map = max(drawings(write(tmp_path, *rows)), key=len)
    kind = {"end": [], "mark": []}
    for text in heat_map.iter():
        kind.get(text.get("class"), []).append(text.text)
    marks = dict(zip(kind["end"], kind["mark"], strict=True))
    expected = {
        "all": "✔",
        "some": "67",
        "none": "✘",
        "open": "○",
        "unsure": "✔?",
        "ours": "!",
        "here": "-",
        "down": "!",
    }
    assert marks == expected


def test_where_it_was_graded_is_told(tmp_path):
    late = {"days": 2, "factor": 0.8}
    text = write(tmp_path, result(checks=[check("ungraded", "needs a GPU", "fast")], late=late))
    assert "Nothing was timed, as there was no GPU." in text and ">0.8<" in text and ">namespaces<" in text
    assert "Not graded here, and not in the points: fast (needs a GPU), in 1 submission." in text
    assert "without a sandbox" not in text
    exposed = result(checks=[check("fail", "84% of the roofline", "fast", timing=TIMING)])
    exposed["provenance"] |= {"sandboxed": False, "device": "NVIDIA H200"}
    text = write(tmp_path, exposed)
    assert "Graded without a sandbox: 1 of 1" in text and "Nothing was timed" not in text
    assert {"ann: 84% of the roofline", "90% is asked"} <= set(titles(text))


def test_a_dot_lies_on_the_side_of_the_target_that_its_verdict_says():
    (svg,) = drawings(charts.strips([("1.1a", [("a", 0.8999, False), ("b", 0.9001, True)], 0.9)]))
    target = next(float(line.get("x1")) for line in svg.iter() if line.get("class") == "target")
    dots = {dot.get("class"): float(dot.get("cx")) for dot in svg.iter() if dot.tag.endswith("circle")}
    assert dots["short"] < target < dots["enough"]


@pytest.mark.parametrize(
    "what, rung, message",
    [
        ("blank left open", "correct", "blanks 1 and 2 are still open; begin with blank 1\na_add.py:17: x"),
        ("no file, or no such function", "correct", "there is no file a_add.py: `make reset EX=1.1a` lays it"),
        ("does not parse or import", "compiles", "syntax error: invalid syntax"),
        ("no kernel of its own", "correct", "no kernel is launched: the work is asked of a Triton kernel of your own"),
        ("crash or time-out", "correct", "no answer within 20 s: an endless loop?"),
        (
            "crash or time-out",
            "moves",
            "the process was killed by SIGSEGV before it was done: an access out of bounds?",
        ),
        ("out of bounds", "correct", "out-of-bounds load, line 19: program 1: element 7 of x, which has 7"),
        (
            "out of bounds",
            "correct",
            "right on the CPU, wrong on the GPU: stores out of bounds, 8 bytes past the end of x",
        ),
        ("race", "correct", "race, line 21: programs 0 and 1 both store to out[0], with different values"),
        ("changes its input", "correct", "changes its input x, first at element 3 of its memory"),
        ("elements never written", "correct", "3 of 9 elements were never written, the first is out[6]"),
        ("wrong shape, dtype or layout", "correct", "out is bfloat16, expected float16"),
        ("wrong shape, dtype or layout", "fast", "in timed call 3: out has shape [3], expected [4]"),
        ("wrong result", "correct", "5 of 9 elements of out are wrong; out[1] is 2, expected 3"),
        ("wrong result", "fast", "in timed call 3: relative error 0.1, allowed 1e-06"),
        ("raises an error", "correct", "NameError: name 'mask' is not defined"),
        ("does not compile", "compiles", "CompilationError: at 3:4"),
        ("moves too much", "moves", "launches 2 kernels where 1 will do: add_kernel, torch's clone"),
        ("too slow", "fast", "43% of the roofline (1,828 GB/s, 0.441 ms), 90% is asked"),
        ("suspect speed", "fast", "suspect: 9,000 GB/s is more than the 4,800 that this GPU can move"),
    ],
)
def test_causes(what, rung, message):
    assert causes.cause(page.check(check("fail", message, rung))) == what


def test_what_is_ours_counts_apart(tmp_path):
    assert causes.cause(page.check(check("error", "blank 1 is still open"))) == "could not be graded"


def submit(out: Path, **sources: str) -> None:
    for name, source in sources.items():
        file = VARIANCE.file(out / "work" / name)
        file.parent.mkdir(parents=True)
        file.write_text(source)


def renamed(source: str) -> str:
    for number, name in enumerate(("mean", "centred", "squares", "total", "rest", "mask", "BLOCK", "columns")):
        source = re.sub(rf"(?<!\.)\b{name}\b(?!=)", f"v{number}", source)
    return "# my own work\n" + source.replace("\n", "  # indeed\n")


def test_a_renamed_copy_comes_before_honest_work(tmp_path):
    honest = {f"honest{n}": variant.apply(SOURCE) for n, variant in enumerate(VARIANCE.exercise.variants)}
    submit(tmp_path, **honest, copy=renamed(honest["honest2"]), broken="def (:\n\x00", stub=new.stub_of(VARIANCE))
    first, *others = similarity.report(tmp_path)
    assert (first.submission, first.other, first.alike) == ("copy", "honest2", "100%")
    assert first.how == "up to names and layout"
    assert all(pair.rare < first.rare / 2 for pair in others)
    assert not {"broken", "stub"} & {name for pair in (first, *others) for name in (pair.submission, pair.other)}
    with (tmp_path / "similarity.csv").open() as file:
        assert next(csv.DictReader(file))["other"] == "honest2"
    assert "<td>honest2</td>" in write(tmp_path, result())


def test_the_reference_is_known_again_but_not_what_everyone_writes(tmp_path):
    other = VARIANCE.exercise.variants[2].apply(SOURCE)
    submit(tmp_path, copy=renamed(SOURCE), **{f"s{n}": other for n in range(9)})
    found = similarity.report(tmp_path)
    assert [(pair.submission, pair.other) for pair in found] == [("copy", similarity.REFERENCE)]


def test_a_cell_is_no_formula():
    assert similarity.cells(["=1+1", "-2", "@x", "ann\t\x1b", 3]) == ["'=1+1", "'-2", "'@x", "ann \ufffd", "3"]


@pytest.mark.parametrize(
    "source, what",
    [
        ("import os", "imports os"),
        ("from torch.utils import cpp_extension", "imports torch.utils.cpp_extension"),
        ("import torch.nn.functional as F", "imports torch.nn.functional"),
        ("def f(x):\n    return eval(x)", "calls eval"),
        ("f.__globals__['x']", "reaches for .__globals__"),
        ("import torch\ntorch.empty = f", "changes torch.empty"),
        ("import triton\ntriton.runtime.driver", "reaches for triton.runtime"),
        ("import torch\ndef f(x):\n    return torch.matmul(x, x)", "asks torch for matmul"),
        ("def f(x):\n    return x @ x", "asks torch for a matmul: @"),
        ("def f(x):\n    return x.sum()", "asks torch for sum"),
        ("try:\n    f()\nexcept E:\n    pass", "catches exceptions"),
        ("import torch\ns = torch.cuda.Stream()", "streams, graphs, threads or another compiler: .Stream"),
        ("from functools import cache\n@cache\ndef f(x): pass", "may tell calls apart, or keep results: cache"),
        ("def f(x):\n    global y", "keeps something between calls: global y"),
    ],
)
def test_tripwires(source, what):
    assert what in [found for _, found in tripwires.look(source.encode())]


@pytest.mark.parametrize("part", [pytest.param(part, id=part.id) for part in catalog.parts()])
def test_honest_work_trips_over_nothing(part):
    source, kind = part.file(catalog.SOLUTIONS).read_text(), part.exercise.kind
    given = {what for _, what in tripwires.look(new.stub_of(part).encode(), kind)}
    for text in (source, *(variant.apply(source) for variant in part.exercise.variants)):
        assert {what for _, what in tripwires.look(text.encode(), kind)} <= given


@pytest.mark.parametrize("source", [b"def (:", b"\0", b"+".join([b"1"] * 100_000), b"-" * 100_000, b"# coding: none\n"])
def test_a_source_that_python_cannot_read_trips_over_nothing(source):
    assert tripwires.look(source) == []


def test_tripwires_stand_on_the_page(tmp_path):
    submit(tmp_path, ann="import socket\n" + SOURCE, ben=SOURCE)
    (name, part, line, what), *others = tripwires.report(tmp_path)
    assert (name, part, line, what, others) == ("ann", "1.2c", 1, "imports socket", [])
    assert "<td>imports socket</td>" in write(tmp_path, result())
