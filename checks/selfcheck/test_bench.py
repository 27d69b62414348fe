"""`make bench`: refusals, sweeps on a clock that the tests make up, and plots of them and of runs on record."""

import itertools
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner
from workbook import bench, catalog, ceilings, cli, curves, devices, plots, style, sweep, targets
from workbook.exercise import Speed, case
from workbook.words import Verdict

RECORD = catalog.MEASURED / "h200_stage_1.json"
PART = catalog.select("1.1a")[0]
ABOUT = {
    "device": "NVIDIA H200",
    "memory": 150109880320,
    "date": "2026-11-24",
    **dict.fromkeys(("python", "torch", "triton", "numpy"), "3.6.0"),
}


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli.app, ["bench", *words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.fixture
def clock(monkeypatch):
    """A GPU on which a copy moves 4 TB/s, a launch takes 2 µs, kernels 3 µs more than that and torch 6 µs more.

    More than 8 GB do not fit on it. It finds all kernels right.
    """
    for module, name, value in (
        (sweep, "refusal", lambda: ""),
        (sweep, "about", lambda: ABOUT),
        (sweep, "correct", lambda grading, step: step("n=1025")),
        (ceilings, "copy_rate", lambda: 4e12),
        (ceilings, "matmul_rate", lambda *_: 8e14),
        (ceilings, "launch_ms", lambda: 0.002),
        (ceilings, "device", lambda: None),
        (ceilings, "time_peers", lambda grading, speed, every, spin: {"torch": 0.006 + moved(grading, speed) / 4e9}),
        (sweep.Glance, "times", times),
    ):
        monkeypatch.setattr(module, name, value)


def moved(grading, speed):
    return curves.work(grading.exercise, speed, speed.case.values)[0]


def times(glance):
    if glance.size > 8e9:
        raise MemoryError("needs 128 GB of free GPU memory, 80 are free")
    return [0.003 + glance.size / 4e9] * 30


def test_without_a_gpu_it_says_what_it_would_do_why_not_and_what_helps(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    status, told = run("1.1a", "--out", str(tmp_path / "out"))
    first, why, helps = told.splitlines()
    assert status == 2 and not (tmp_path / "out").exists()
    assert first.startswith("make bench times 1.1a Vector add on a GPU, at 13 sizes, and plots the rates beside")
    assert why.startswith("Nothing is timed here: there is no GPU here that torch can use, and the interpreter's time ")
    for command in ("make check EX=1.1a", "make inspect EX=1.1a", "make bench FROM="):
        assert command in helps
    assert run("1")[1].startswith("make bench times 10 parts on a GPU")


def test_in_the_interpreter_nothing_is_timed_on_a_gpu_either(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    status, told = run("1.1a")
    assert status == 2 and "Nothing is timed here: TRITON_INTERPRET=1 is set" in told and told.count("\n") == 3


@pytest.mark.parametrize(
    "words, sentence",
    [
        ([], "which part? For example: make bench EX=1.1a"),
        (["9.9z"], "there is no part '9.9z'"),
        (["1.1a", "--tree", "/nowhere"], "the folder /nowhere cannot be read"),
        (["--from", "/nowhere.json"], "/nowhere.json cannot be read: No such file or directory"),
        (["--from", str(catalog.ROOT)], f"{catalog.ROOT} cannot be read: Is a directory"),
        (["--from", str(catalog.ROOT / "README.md")], f"{catalog.ROOT}/README.md is not JSON"),
        (["--from", str(RECORD), "--out", str(RECORD)], f"nothing can be written to {RECORD}: File exists"),
        (["--from", str(RECORD), "--out", "/proc/nowhere"], "nothing can be written to /proc/nowhere: "),
    ],
)
def test_bad_input_is_one_clear_line(words, sentence):
    status, told = run(*words)
    assert status == 2 and told.splitlines()[-1].startswith(sentence) and "Traceback" not in told


def test_a_file_of_another_kind_is_one_clear_line(tmp_path):
    record = json.loads(RECORD.read_text())
    timing = record["parts"]["1.1a"]["checks"]["fast"]["facts"]["timing"]
    sound = run_of(points(PART.exercise.speed[0]))
    sound.write(tmp_path / "sound.json")
    told = json.loads((tmp_path / "sound.json").read_text())
    others = [
        *(json.loads(file.read_text()) for file in (catalog.MEASURED / "grading").glob("*.json")),
        [], None, 7, {}, {**record, "parts": {"1.1a": {}}}, {**record, "device": 7},
        {**record, "parts": {"1.1a": {"checks": {"fast": {"facts": {"timing": {**timing, "ms": 0}}}}}}},
        {**told, "curves": [{}]}, {**told, "curves": 3}, {**told, "curves": [{**told["curves"][0], "points": []}]},
        {**told, "curves": [{**told["curves"][0], "copy": float("nan")}]},
        {**told, "curves": [{**told["curves"][0], "copy": "4,000"}]},
        {**told, "curves": [{**told["curves"][0], "part": None}]},
        {**told, "curves": [{**told["curves"][0], "more": 1}]},
    ]  # fmt: skip
    for number, other in enumerate(others):
        file = tmp_path / f"{number}.json"
        file.write_text(json.dumps(other))
        expected = f"{file} is no run that `make bench` or workbook.measure wrote\n"
        assert run("--from", str(file), "--out", str(tmp_path / "out")) == (2, expected), other
    assert not (tmp_path / "out").exists()


def test_what_is_no_longer_in_the_workbook_is_left_out_and_said(tmp_path):
    record = json.loads(RECORD.read_text())
    record["parts"]["9.9z"] = record["parts"]["1.1a"]
    record["parts"]["1.1b"]["checks"]["fast n=7"] = record["parts"]["1.1b"]["checks"].pop("fast")
    file = tmp_path / "old.json"
    file.write_text(json.dumps(record))
    found = curves.read(file)
    assert found.left_out == [
        "1.1b fast n=7 is no timed case of this workbook", "9.9z fast is no timed case of this workbook"
    ]  # fmt: skip
    assert "1.1b" not in {c.part for c in found.curves}
    status, told = run("1.1b", "--from", str(file), "--out", str(tmp_path))
    assert status == 2 and "left out: 9.9z fast" in told
    assert f"{file} holds none of these parts; it has 1.1a, 1.1c, " in told
    record["parts"] = {"9.9z": record["parts"]["9.9z"]}
    file.write_text(json.dumps(record))
    assert run("--from", str(file)) == (
        2, f"{file} holds no timed kernel; 9.9z fast is no timed case of this workbook\n"
    )  # fmt: skip


def test_a_run_on_record_says_the_same_as_when_it_was_measured():
    recorded = json.loads(RECORD.read_text())["parts"]
    found = curves.read(RECORD)
    assert len(found.curves) == 12 and found.left_out == []
    for curve in found.curves:
        checks = recorded[curve.part]["checks"]
        told = checks.get("fast") or checks[f"fast {curve.case}"]
        timing = told["facts"]["timing"]
        (point,) = curve.points
        assert curve.share(point, point.ms) == pytest.approx(timing["share"], rel=2e-3)
        assert curve.rate(point, point.ms) == pytest.approx(timing["gbps"], rel=1e-3) and curve.unit == "GB/s"
        assert len(curve.naive) == 1 and all(curve.share(point, ms) < curve.target for ms in curve.naive.values())


def test_a_run_on_record_is_drawn_and_drawn_again(tmp_path):
    for _ in range(2):  # over its own files
        status, told = run("--from", str(RECORD), "--out", str(tmp_path))
        assert status == 0 and "1.3a Transpose, m=16384,n=8192,fp16" in told
    files = [f"h200_stage_1-{plot}{form}" for plot in ("peers", "roofline") for form in (".png", ".svg")]
    assert told.split()[-4:] == [str(tmp_path / file) for file in files]
    assert sorted(file.name for file in tmp_path.iterdir()) == files
    for file in files:
        text = (tmp_path / file).read_bytes()
        assert text.startswith(b"\x89PNG" if file.endswith("png") else b"<?xml") and len(text) > 20_000
    before = (tmp_path / files[1]).read_bytes()
    run("--from", str(RECORD), "--out", str(tmp_path))
    assert (tmp_path / files[1]).read_bytes() == before, "the same data make another file"


def test_the_file_of_another_is_never_overwritten(tmp_path, clock):
    mine = tmp_path / "h200_stage_1-roofline.svg"
    mine.write_text("my own drawing")
    status, told = run("--from", str(RECORD), "--out", str(tmp_path))
    assert status == 2 and f"{mine} is not of `make bench` and is left alone: name another OUT=" in told
    assert [file.read_text() for file in tmp_path.iterdir()] == ["my own drawing"]
    (tmp_path / "1.1a.json").write_text("{}")
    status, told = run("1.1a", "--tree", str(catalog.SOLUTIONS), "--out", str(tmp_path))
    assert status == 2 and told.startswith(f"{tmp_path}/1.1a.json is not of `make bench`")
    assert (tmp_path / "1.1a.json").read_text() == "{}" and len(list(tmp_path.iterdir())) == 2


def test_a_sweep_is_tabled_kept_and_drawn(tmp_path, clock):
    status, told = run("1.3", "--tree", str(catalog.SOLUTIONS), "--out", str(tmp_path))
    assert status == 0
    names = {file.name for file in tmp_path.iterdir()}
    sweeps = ["1.3a-m=16384,n=8192", "1.3a-m=16384,n=8192,fp16", "1.3b-m=16384,n=8192,bf16"]
    drawn = [f"{stem}{form}" for stem in [*sweeps, "1.3-peers", "1.3-roofline"] for form in (".png", ".svg")]
    assert names == {"1.3.json", *drawn}
    assert told.split()[-11:] == [str(tmp_path / name) for name in ["1.3.json", *drawn]]
    head, row, *_ = told.splitlines()[1:]
    assert re.split(" {2,}", head)[1:] == ["bytes", "ms", "of the roofline", "solution", "torch"]
    assert row.split() == ["m=256,n=256", "524", "KB", "0.00313", "64%", "167", "85.5"] and len(row) == len(head)
    again = curves.read(tmp_path / "1.3.json")
    assert again.about == ABOUT and [len(c.points) for c in again.curves] == [7, 7, 7]
    point = again.curves[0].timed
    assert (point.case, point.bytes, point.flops) == ("m=16384,n=8192", 2**30, 0)
    assert (again.curves[0].copy, again.curves[0].matmul, again.curves[0].launch) == (4000, 800, 0.002)
    assert again.curves[0].target == pytest.approx(targets.DERIVED * 0.88)
    before = {name: (tmp_path / name).read_bytes() for name in drawn}
    status, _ = run("--from", str(tmp_path / "1.3.json"), "--out", str(tmp_path))
    assert status == 0 and before == {name: (tmp_path / name).read_bytes() for name in drawn}


def test_one_part_is_drawn_alone(tmp_path, clock):
    assert run("1.1a", "--tree", str(catalog.SOLUTIONS), "--out", str(tmp_path))[0] == 0
    assert {file.name for file in tmp_path.iterdir()} == {
        "1.1a.json", "1.1a-n=134217728.png", "1.1a-n=134217728.svg"
    }  # fmt: skip


def test_a_part_that_is_wrong_is_one_line_and_the_others_are_drawn(tmp_path, clock, monkeypatch):
    def correct(grading, step):
        if grading.part.id == "1.1a":
            raise sweep.Wrong("correct n=1: sum[0] is 0, expected 1\na_add.py:12: x")

    monkeypatch.setattr(sweep, "correct", correct)
    status, told = run("1.1", "--tree", str(catalog.SOLUTIONS), "--out", str(tmp_path))
    assert status == 1 and "1.1a is not timed: correct n=1: sum[0] is 0, expected 1\n" in told and "a_add" not in told
    assert {c.part for c in curves.read(tmp_path / "1.1.json").curves} == {"1.1b", "1.1c", "1.1d"}
    monkeypatch.setattr(sweep, "curve", lambda *_: 1 / 0)
    status, told = run("1.1a", "--tree", str(catalog.SOLUTIONS), "--out", str(tmp_path / "none"))
    assert status == 1 and list((tmp_path / "none").iterdir()) == []


def test_the_cases_come_first_and_the_first_that_fails_is_told(grade):
    source = PART.file(catalog.SOLUTIONS).read_text()
    seen = []
    sweep.correct(grade(PART), seen.append)
    assert seen == [f"correct {c.id}" for c in PART.exercise.cases]
    with pytest.raises(sweep.Wrong, match=r"^correct n=1025: .*sum\[\d+\] is"):
        sweep.correct(grade(PART, source.replace("x + y, mask", "x - y, mask")), lambda _: None)


def speed(values, **more) -> Speed:
    return Speed(case(**values), bytes=lambda x, y: 3 * x.nbytes, target=0.9, **more)


def test_sizes_are_halved_until_little_is_moved_or_as_the_spec_says():
    halved = sweep.sizes(PART.exercise, PART.exercise.speed[0])
    assert [c.id for c in halved] == [f"n={2**k}" for k in range(15, 28)]
    assert curves.work(PART.exercise, PART.exercise.speed[0], {"n": 2**14})[0] < sweep.SMALLEST
    transpose = catalog.select("1.3a")[0].exercise
    assert [c.id for c in sweep.sizes(transpose, transpose.speed[1])][-3:] == [
        "m=4096,n=4096,fp16", "m=8192,n=8192,fp16", "m=16384,n=8192,fp16"
    ]  # fmt: skip
    stated = speed({"n": 1000, "dtype": torch.float16}, sweep={"n": [3000, 7]})
    assert [c.id for c in sweep.sizes(PART.exercise, stated)] == ["n=7,fp16", "n=1000,fp16", "n=3000,fp16"]
    assert [c.id for c in sweep.sizes(PART.exercise, speed({"n": 5}))] == ["n=5"]
    both = replace(transpose.speed[0], sweep={"m": [8, 64], "n": [2, 4]})
    assert [c.id for c in sweep.sizes(transpose, both)][:2] == ["m=8,n=2", "m=64,n=4"]
    with pytest.raises(ValueError):
        sweep.sizes(transpose, replace(both, sweep={"m": [8], "n": [2, 4]}))


def test_a_size_that_does_not_fit_is_left_out_and_said(grade, clock, capsys):
    large = replace(PART.exercise.speed[0], case=case(n=2**30))
    found = sweep.curve(grade(PART), large, lambda _: None)
    assert found.left_out == {"n=1073741824": "needs 128 GB of free GPU memory, 80 are free"}
    assert found.timed.case == "n=536870912"
    bench.show(found, "yours")
    assert "  left out: n=1073741824: needs 128 GB of free GPU memory, 80 are free\n" in capsys.readouterr().out
    with pytest.raises(sweep.Wrong, match="n=1073741824: needs 128 GB"):
        sweep.curve(grade(PART), replace(large, sweep={"n": [2**30]}), lambda _: None)


def test_out_of_memory_in_the_kernels_process_is_no_mistake(grade, clock, monkeypatch):
    for message, error in (("out of GPU memory: CUDA", MemoryError), ("n=134217728: in timed call 3", sweep.Wrong)):
        monkeypatch.setattr(
            sweep.Glance, "times", lambda *_, message=message: Verdict("fail", message.removeprefix("n=134217728: "))
        )
        with pytest.raises(error, match=message):
            sweep._point(grade(PART), PART.exercise.speed[0])


def test_calls_are_timed_behind_a_spin_after_two_that_are_not(monkeypatch):
    glance, asked = object.__new__(sweep.Glance), []

    def go(calls, spin=0):
        asked.append((calls, spin))
        return [1.0] * calls

    # of Session itself, so that a name that it has no more is an error
    for name, value in {
        "_sets": lambda: 12,
        "_fresh": lambda calls: list(range(calls)),
        "_lay": lambda calls: None,
        "_fill": lambda fresh: None,
        "_go": go,
        "_check": lambda fresh, glimpses: None,
    }.items():
        monkeypatch.setattr(glance, name, value)
    assert glance.times() == [1.0] * 36
    assert asked == [(12, 0)] * 2 + [(12, ceilings.SPIN)] * 3
    wrong = Verdict("fail", "wrong")
    monkeypatch.setattr(glance, "_check", lambda fresh, glimpses: wrong)
    assert glance.times() is wrong
    monkeypatch.setattr(glance, "_sets", lambda: 200)
    asked.clear()
    monkeypatch.setattr(glance, "_check", lambda fresh, glimpses: len(fresh))  # those of the calls that were timed
    assert glance.times() == 64 and asked == [(200, 0)] * 2 + [(64, ceilings.SPIN)]


def test_int8_has_twice_the_ceiling_of_bf16(monkeypatch):
    matmul = catalog.select("2.1a")[0].exercise
    tflops = [
        targets.minimums(matmul, replace(matmul.speed[0], products=products))["A100 SXM 80GB"].split()[0]
        for products in ("bf16", "int8")
    ]
    assert int(tflops[1]) == pytest.approx(2 * int(tflops[0]), abs=1)
    monkeypatch.setattr(ceilings, "milliseconds", lambda *_: 1.0)
    monkeypatch.setattr(ceilings, "_matmul_buffers", lambda: (None, None))
    for device in (None, devices.DEVICES[0]):  # a GPU that the table lacks is taken for its first
        monkeypatch.setattr(ceilings, "device", lambda device=device: device)
        assert ceilings.matmul_rate("int8") == 2 * ceilings.matmul_rate() == 4 * ceilings.MATMUL**3 * 1e3


def test_what_is_below_the_ridge_is_bound_by_memory_on_every_gpu():
    for device in devices.DEVICES:
        assert targets.MATMUL * device.peaks["bf16"] * 1e3 / device.bandwidth > ceilings.RIDGE
    for part in catalog.select("1"):
        for timed in part.exercise.speed:
            nbytes, flops = curves.work(part.exercise, timed, timed.case.values)
            assert flops < ceilings.RIDGE * nbytes


def points(timed: Speed) -> list[curves.Point]:
    made = []
    for c in sweep.sizes(PART.exercise, timed):
        nbytes, flops = curves.work(PART.exercise, timed, c.values)
        made.append(curves.Point(c.id, nbytes, flops, 0.003 + nbytes / 4e9, {"torch": 0.01, "liger": "not installed"}))
    return made


def run_of(made: list[curves.Point], **more) -> curves.Run:
    curve = curves.Curve("1.1a", "Vector add", "n=134217728", 0.9, 4000.0, 800.0, 0.002, made)
    return curves.Run(ABOUT, "yours", [replace(curve, **more)])


def texts(figure) -> list[str]:
    (axes,) = figure.axes
    return [t.get_text() for t in [*figure.texts, *axes.texts]] + [axes.get_title(loc="right")]


def test_a_sweep_names_its_lines_where_they_end():
    drawn = run_of(points(PART.exercise.speed[0]))
    told = texts(plots.sweep(drawn, drawn.curves[0]))
    for words in ("1.1a Vector add", "yours 3,970", "roofline 4,000", "asked 3,600, 90%"):
        assert words in told
    assert not any("liger" in words for words in told)
    assert "grey: out of reach (copy 4,000 GB/s, launch 2 µs)" in told


def test_what_is_bound_by_flops_is_told_in_tflops():
    made = [curves.Point(f"n={n}", 6 * n**2, 2 * n**3, 2 * n**3 / 6e11 + 0.003, {}) for n in (512, 1024, 8192)]
    drawn = run_of(made, case="n=8192")
    assert drawn.curves[0].unit == "TFLOPS"
    assert {"yours 599", "roofline 800", "asked 720, 90%"} <= set(texts(plots.sweep(drawn, drawn.curves[0])))
    assert {"bf16 800 (measured)", "fp32 66.9 (datasheet)"} <= set(texts(plots.roofline(drawn)))
    drawn.about = {**ABOUT, "device": "another GPU"}
    drawn.curves[0].matmul = None
    assert "1.1a" in texts(plots.roofline(drawn))


def test_the_roofline_has_a_dot_a_timed_case_and_says_what_is_missing():
    found = curves.read(RECORD)
    figure = plots.roofline(found)
    told = texts(figure)
    assert {"1.1a", "1.2a, 1.2b", "1.2c, 1.2d", "no arithmetic, so not here: 1.3a"} <= set(told)
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o" and line.get_color() == style.BLUE]
    assert len(dots) == 10
    told = texts(plots.peers(found))
    assert told.count("1.3a Transpose") == 2 and "4,250 GB/s" in told


def test_words_are_kept_apart_and_in_their_order():
    for places in ([1.0, 2.0, 3.0], [5.0, 5.0, 5.1, 30.0], [0.0, 0.0, 49.0, 50.0, 50.0], [90.0, 95.0]):
        moved = style.apart(places, 10, 0, 100)
        assert all(b - a >= 10 - 1e-9 for a, b in itertools.pairwise(moved))
        assert moved[0] >= 0 and moved[-1] <= 100
    assert style.apart([5.0, 50.0], 10, 0, 100) == [5.0, 50.0]
    assert style.apart([50.0, 52.0], 10, 0, 100) == [46.0, 56.0]


def test_numbers_are_told_as_people_write_them():
    assert [curves.rate(x) for x in (4252.99, 101.4, 0.38549, 66.9)] == ["4,250", "101", "0.385", "66.9"]
    assert [curves.size(x) for x in (12, 393216, 999_700, 1.6e9)] == ["12 B", "393 KB", "1,000 KB", "1.6 GB"]


if torch.cuda.is_available():

    @pytest.mark.timed
    def test_a_sweep_on_this_gpu(tmp_path):
        status, told = run("1.1a", "--tree", str(catalog.SOLUTIONS), "--out", str(tmp_path))
        assert status == 0, told
        (curve,) = curves.read(tmp_path / "1.1a.json").curves
        shares = [curve.share(p, p.ms) for p in curve.points]
        assert 0.85 < curve.share(curve.timed, curve.timed.ms) < 1.1 and max(shares) < 1.15
        assert all(isinstance(p.peers["torch"], float) for p in curve.points)
        assert curve.points[0].ms < 0.02, "a small call waited for Python"
        assert Path(told.split()[-1]).exists()
