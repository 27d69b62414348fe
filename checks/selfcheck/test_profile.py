"""`make profile`: refusals, each tool's output read, and the whole of it with a program in the tool's place.

No test needs a GPU. RECORDED holds what ncu (the columns that are read), torch and proton left on an H100 80GB HBM3,
torch 2.11, triton 3.6, 2026-11-24. What else they may leave, and what nsys does, is constructed to their documented
formats (see counters.py, timeline.py, scopes.py), with figures that are made up.
"""

import csv
import io
import json
import os
import sqlite3
import stat
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner
from workbook import catalog, ceilings, cli, counters, profile_runner, profilers, profiling, scopes, sweep, timeline
from workbook.exercise import Speed, case
from workbook.profilers import TOOLS
from workbook.readings import Asked, Unreadable

RECORDED = Path(__file__).with_name("recorded")
PART = catalog.select("1.1a")[0]
SOLUTION = PART.file(catalog.SOLUTIONS).read_text()
ASKED = Asked("n=134217728", 3 * 2**29, 0, 3e12, float("inf"))
FEW_ROWS = Asked("m=64,n=8192,k=32768", 542_113_792, 2 * 64 * 8192 * 32768, 3e12, 7e14)
MATMUL = Asked("m=4096,n=4096,k=4096", 3 * 2**25, 2 * 4096**3, 3e12, 7e14)


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli.app, ["profile", *words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize(
    "words, sentence",
    [
        ([], "which part? For example: make profile EX=1.1a TOOL=ncu"),
        (["2.1", "--tool", "ncu"], "2.1 names 3 parts; name one: make profile EX=2.1a TOOL=ncu"),
        (["1.1a"], "no tool is named; TOOL= is one of"),
        (["1.1a", "--tool", "nvprof"], "there is no tool 'nvprof'; TOOL= is one of"),
        (["1.1a", "--tool", "ncu", "--case", "n=7"], "CASE=n=7 names none of the timed cases of 1.1a: n=134217728"),
        (["2.1c", "--tool", "ncu", "--case", "n="], "CASE=n= names several of the timed cases of 2.1c: m=4096,"),
        (["2.2b", "--tool", "ncu"], "2.2b has no timed case"),
        (["1.1a", "--tool", "ncu", "--tree", "/nowhere"], "the folder /nowhere cannot be read"),
    ],
)
def test_bad_input_is_one_clear_answer(words, sentence):
    status, told = run(*words)
    assert status == 2 and told.startswith(sentence) and "Traceback" not in told


def test_a_case_is_found_by_a_piece_of_its_name_or_by_all_of_it(monkeypatch):
    speeds = [Speed(case(n=n, k=7), bytes=lambda *_: 1, target=1) for n in (1024, 102)]
    speeds.append(Speed(case(n=1024), bytes=lambda *_: 1, target=1))
    monkeypatch.setitem(PART.__dict__, "exercise", replace(PART.exercise, speed=speeds))
    for text, number in (("", 0), ("n=1024,k", 0), ("n=102,", 1), ("n=1024", 2)):
        assert profiling.timed_case(PART, text) is speeds[number]


def test_without_a_gpu_it_says_what_helps_without_one(no_gpu, tmp_path):
    status, told = run("2.1c", "--tool", "ncu", "--case", "m=64", "--out", str(tmp_path / "out"))
    assert status == 2 and not (tmp_path / "out").exists()
    assert told.startswith("make profile runs 2.1c Autotuned matmul, m=64,n=8192,k=32768, under ncu (")
    assert "\nNothing is profiled here: there is no GPU here that torch can use" in told
    assert "make inspect EX=2.1c " in told and "make check EX=2.1c ARGS=-v " in told and "FROM=checks/measured/" in told
    assert "TOOL=torch" not in told and "make bench EX=" not in told  # which need one


def test_a_tool_that_is_missing_says_how_to_get_it_and_what_helps(monkeypatch, tmp_path):
    monkeypatch.setattr(sweep, "refusal", lambda: "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name, product in (("ncu", "Nsight Compute"), ("nsys", "Nsight Systems")):
        monkeypatch.setitem(TOOLS, name, replace(TOOLS[name], places=(str(tmp_path / "*" / name),)))
        status, told = run("1.1a", "--tool", name)
        assert status == 2 and f"there is no {name} on the PATH" in told and f"part of {product}" in told
        assert "make profile EX=1.1a TOOL=torch " in told and "make bench EX=1.1a " in told


def test_a_program_is_found_where_installers_put_it_the_newest_first(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    tool = replace(TOOLS["ncu"], places=(str(tmp_path / "cuda-*/ncu"),))
    for version in ("12.9", "13.0", "9.1"):
        program(tmp_path / f"cuda-{version}", "ncu", "")
    assert profilers.found(tool) == str(tmp_path / "cuda-13.0/ncu")


def program(folder: Path, name: str, text: str) -> Path:
    """A Python program, in a tool's place."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(f"#!{sys.executable}\n{text}")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return file


def test_what_a_tool_complains_of_is_said_with_its_remedy():
    denied = "==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access NVIDIA GPU Performance Counters"
    told = profilers.complaint(1, f"==PROF== Connected to process 7\n{denied} on the target device 0.\n")
    for remedy in ("NVreg_RestrictProfilingToAdminUsers=0", "--cap-add=SYS_ADMIN", "sudo env", profilers.PERMISSION):
        assert remedy in told
    assert "no kernel was launched" in profilers.complaint(0, "==WARNING== No kernels were profiled.")
    busy = "==ERROR== Profiling failed because a driver resource was unavailable. Ensure that no other tool"
    assert "dcgmi profiling --pause" in profilers.complaint(1, busy)
    assert profilers.complaint(0, "==PROF== Disconnected from process 7") == ""
    assert profilers.complaint(9, "hello\n==ERROR== Something else\nbye") == "status 9: ==ERROR== Something else"
    assert profilers.complaint(9, "") == "status 9: it said nothing"


def test_a_tool_that_does_not_end_is_ended_with_what_it_started(monkeypatch, tmp_path):
    monkeypatch.setattr(profilers, "LIMIT", 0.5)
    child = "import os, subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    file = program(tmp_path, "endless", child + f"open({str(tmp_path / 'pid')!r}, 'w').write(str(p.pid)); p.wait()")
    with pytest.raises(profilers.Failed, match="endless did not end within"):
        profilers.run([str(file)])
    state, end = Path("/proc", (tmp_path / "pid").read_text(), "stat"), time.monotonic() + 10
    while state.exists() and state.read_text().split()[2] != "Z":
        assert time.monotonic() < end, "what the tool started is still there"


HEAD = ["ID", "Process ID", "Process Name", "Host Name", "Kernel Name", "Context", "Stream", "Block Size", "Grid Size"]
HEAD += ["Device", "CC"]
BOUND_BY_MEMORY = {  # made up, of the size of what an H100 reaches in 1.1a
    counters.TIME: 560_000, counters.READ: 1_073_750_000, counters.WRITTEN: 536_870_000, counters.DRAM: 86.04,
    counters.L2: 61.5, counters.L1: 33.0, counters.MEMORY: 86.04, counters.COMPUTE: 21.3, counters.TENSOR: 0,
    counters.L2_HITS: 33.4, counters.L1_HITS: 0, counters.ACHIEVED: 83.6, counters.THEORETICAL: 100,
    counters.REGISTERS: 26, counters.WAVES: 62.06, counters.SELECTED: 1.0,
    "launch__occupancy_limit_registers": 16, "launch__occupancy_limit_shared_mem": 32,
    "launch__occupancy_limit_warps": 16, "launch__occupancy_limit_blocks": 32,
    counters.STALL.format("long_scoreboard"): 80.0, counters.STALL.format("lg_throttle"): 10.0,
    counters.STALL.format("wait"): 5.0, counters.STALL.format("drain"): 4.0,
}  # fmt: skip


def raw(*kernels: dict, units=("ns", "byte"), before: str = "") -> str:
    """Constructed: the raw page of ncu, as CSV. A kernel's name is its "name"; a figure that is None is not counted."""
    names = sorted({name for kernel in kernels for name in kernel} - {"name"})
    unit = {counters.TIME: units[0], counters.READ: units[1], counters.WRITTEN: units[1]}
    rows = [HEAD + names, [""] * len(HEAD) + [unit.get(name, "%") for name in names]]
    for number, kernel in enumerate(kernels):
        about = [
            number,
            7,
            "python",
            "host",
            kernel.get("name", "add_kernel"),
            1,
            7,
            "(128, 1, 1)",
            "(131072, 1, 1)",
            0,
            "9.0",
        ]
        rows.append([*about, *("n/a" if kernel.get(name) is None else f"{kernel[name]:,}" for name in names)])
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL).writerows(rows)
    return before + out.getvalue()


def rows_of(reading, group: int = 0) -> dict[str, str]:
    return dict(reading.groups[group][1])


def test_counters_of_a_kernel_that_memory_bounds():
    reading = counters.read(raw(BOUND_BY_MEMORY, before="==PROF== Connected to process 7\nhello\n"), ASKED)
    assert [title for title, _ in reading.groups] == ["add_kernel", "one call, n=134217728"]
    told = rows_of(reading)
    assert told["DRAM"] == "2,876 GB/s, 86% of its peak (1.07 GB read, 536.87 MB written)"
    assert told["hits"] == "33% of the L2 and 0% of the L1" and told["tensor cores"] == "not used"
    assert told["occupancy"] == "84% achieved, 100% theoretical"
    assert told["warps wait for"] == (
        "data from global memory 80%; room in the queue of loads and stores 10%; an instruction's fixed latency 5%"
    )
    whole = rows_of(reading, 1)
    assert whole["time"] == "0.560 ms, 96% of the roofline (2,876 GB/s of necessary bytes)"
    assert whole["bytes of the DRAM"] == "1.61 GB, 1.00 times what is necessary"
    assert reading.sentence.startswith("memory: DRAM is at 86% of its peak")


@pytest.mark.parametrize(
    "differs, words",
    [
        ({counters.L2: 93, counters.MEMORY: 93}, "memory: L2 is at 93% of its peak; larger tiles"),
        ({counters.L1: 95, counters.MEMORY: 95}, "memory: L1 and shared memory is at 95% of its peak; wider"),
        ({counters.MEMORY: 40, counters.DRAM: 40, counters.COMPUTE: 30},
         "latency: neither memory (40%) nor compute (30%) reaches 60% of its peak; its warps wait for data"),
        ({counters.MEMORY: 9, counters.COMPUTE: 3, counters.WAVES: 0.2}, "its programs do not fill the GPU once"),
        ({counters.COMPUTE: 91, counters.TENSOR: 88.2}, "compute: the tensor cores are active 88% of the time"),
        ({counters.COMPUTE: 91}, "compute: the multiprocessors are at 91% of their peak, and the tensor cores idle"),
        ({counters.COMPUTE: 91, counters.TENSOR: None}, "compute: the multiprocessors are at 91% of their peak; fewer"),
        ({counters.MEMORY: None}, "what limits it was not counted on this GPU"),
    ],
)  # fmt: skip
def test_the_limiter_is_what_is_nearest_to_its_peak(differs, words):
    assert words in counters.read(raw({**BOUND_BY_MEMORY, **differs}), ASKED).sentence


def test_what_was_not_counted_is_left_out():
    gone = dict.fromkeys([counters.DRAM, counters.TENSOR, counters.ACHIEVED, counters.L1_HITS])
    told = rows_of(counters.read(raw({**BOUND_BY_MEMORY, **gone}), ASKED))
    assert told["hits"] == "33% of the L2" and not {"DRAM", "tensor cores", "occupancy"} & told.keys()
    only = counters.read(raw({counters.TIME: 1000}), ASKED)
    assert [name for name, _ in only.groups[0][1]] == ["time"]


def test_of_many_kernels_the_longest_come_first():
    long = {**BOUND_BY_MEMORY, "name": "long_kernel", counters.TIME: 3_000_000}
    reading = counters.read(raw(BOUND_BY_MEMORY, *[BOUND_BY_MEMORY] * 5, long), ASKED)
    assert len(reading.groups) == counters.SHOWN + 1 and reading.groups[0][0] == "long_kernel, 47% of the time"
    assert rows_of(reading, -1)["kernels launched"] == "7"


def test_units_are_what_the_row_of_units_says():
    other = {**BOUND_BY_MEMORY, counters.TIME: 560, counters.READ: 1_073.75, counters.WRITTEN: 536.87}
    for units in (("us", "Mbyte"), ("usecond", "Mbyte")):
        assert counters.read(raw(other, units=units), ASKED) == counters.read(raw(BOUND_BY_MEMORY), ASKED)


def test_occupancy_is_told_with_its_limit():
    few = {**BOUND_BY_MEMORY, counters.THEORETICAL: 12.5, counters.ACHIEVED: 12.4, counters.REGISTERS: 255}
    few |= {"launch__occupancy_limit_registers": 1, "launch__occupancy_limit_shared_mem": 1}
    limits = "limited by registers (255 a thread) and shared memory"
    assert rows_of(counters.read(raw(few), MATMUL))["occupancy"] == f"12% achieved, 12% theoretical, {limits}"


@pytest.mark.parametrize("text", ["", "==PROF== Disconnected\n", raw(), raw({"name": "k", counters.DRAM: 3})])
def test_output_without_a_kernel_is_unreadable(text):
    with pytest.raises(Unreadable):
        counters.read(text, ASKED)


def test_what_ncu_is_asked_for_is_what_is_read():
    (first, *_), (second, *_) = commands = profilers.commands(TOOLS["ncu"], Path("kept/x"), ["python", "job"])
    asked = next(word for word in commands[0] if word.startswith("--metrics=")).removeprefix("--metrics=").split(",")
    of_sections = {name for name in BOUND_BY_MEMORY if name.startswith(("launch__", "smsp__average_warps_issue_"))}
    assert first == second and set(BOUND_BY_MEMORY) - of_sections == set(asked) and len(set(asked)) == len(asked)
    assert commands[0][-2:] == ["python", "job"] and "--profile-from-start=off" in commands[0]


@pytest.mark.parametrize(
    "stem, asked, told, ends, sentence",
    [
        ("1.1a", ASKED,
         {"time": "0.524 ms", "DRAM": "3,044 GB/s, 91% of its peak (1.07 GB read, 520.88 MB written)",
          "occupancy": "83% achieved, 100% theoretical", "tensor cores": "not used"},
         "1.59 GB, 0.99 times what is necessary", "memory: DRAM is at 91% of its peak"),
        ("2.1c_few_rows", FEW_ROWS,
         {"hits": "15% of the L2 and 0% of the L1", "tensor cores": "active 44% of the time",
          "occupancy": "6% achieved, 6% theoretical, limited by shared memory"},
         "543.70 MB, 1.00 times what is necessary", "memory: DRAM is at 89% of its peak"),
        ("2.1c_square", MATMUL,
         {"compute": "85% of its peak", "tensor cores": "active 90% of the time",
          "occupancy": "12% achieved, 12% theoretical, limited by registers (196 a thread) and shared memory"},
         "215.37 MB, 2.14 times what is necessary", "compute: the tensor cores are active 90% of the time"),
    ],
)  # fmt: skip
def test_what_ncu_told_of_an_h100(stem, asked, told, ends, sentence):
    reading = counters.read((RECORDED / f"{stem}_ncu.csv").read_text(), asked)
    assert told.items() <= rows_of(reading).items()
    assert rows_of(reading, 1)["bytes of the DRAM"] == ends and reading.sentence.startswith(sentence)


def test_what_torch_and_proton_told_of_an_h100():
    ran = timeline.of_trace((RECORDED / "2.1c_few_rows_torch.json").read_text())
    told = rows_of(timeline.read(ran, 10, FEW_ROWS))
    assert told["matmul_kernel"] == "10 times, 0.178 ms each (0.176 ms to 0.179 ms), 100% of the time"
    assert told["gaps"] == "9, 1.2 µs each, the longest 1.9 µs before matmul_kernel"
    assert told["a launch"] == "keeps the CPU for 5.8 µs"
    reading = scopes.read((RECORDED / "2.1c_few_rows_proton.hatchet").read_text(), 10, FEW_ROWS)
    told = rows_of(reading)
    assert told["m=64,n=8192,k=32768"] == "1.780 ms, 100%, 5.42 GB, 3,046 GB/s, 193 TFLOPS"
    assert "a call takes 0.178 ms" in reading.sentence and "it is bound by memory" in reading.sentence


def exported(file: Path, rows: list[tuple], runtime: bool = True) -> Path:
    """Constructed: an SQLite export of nsys. A row: table, name, launch begin, launch end, start, end, in ns."""
    db = sqlite3.connect(file)
    db.execute("CREATE TABLE StringIds (id INTEGER PRIMARY KEY, value TEXT)")
    db.execute(
        "CREATE TABLE CUPTI_ACTIVITY_KIND_RUNTIME (start INT, end INT, globalTid INT, correlationId INT, nameId INT)"
    )
    for number, (table, name, begun, done, start, end) in enumerate(rows):
        db.execute(f"CREATE TABLE IF NOT EXISTS {table} (start INT, end INT, correlationId INT, shortName INT)")
        db.execute("INSERT INTO StringIds VALUES (?, ?)", (number, name))
        db.execute(f"INSERT INTO {table} VALUES (?, ?, ?, ?)", (start, end, number, number))
        if runtime:
            db.execute("INSERT INTO CUPTI_ACTIVITY_KIND_RUNTIME VALUES (?, ?, 1, ?, 0)", (begun, done, number))
    db.commit()
    db.close()
    return file


KERNEL = "CUPTI_ACTIVITY_KIND_KERNEL"
BUSY = [
    (KERNEL, "add_kernel", 5_000 * i, 5_000 * i + 4_000, 9_000 + 561_000 * i, 569_000 + 561_000 * i) for i in range(10)
]
IDLE = [(KERNEL, "small", 20_000 * i, 20_000 * i + 6_000, 20_000 * i + 8_000, 20_000 * i + 10_000) for i in range(10)]


def test_a_timeline_of_a_gpu_that_is_busy(tmp_path):
    reading = timeline.read(timeline.of_nsys(exported(tmp_path / "x.sqlite", BUSY)), 10, ASKED)
    told = rows_of(reading)
    assert told["add_kernel"] == "10 times, 0.560 ms each (0.560 ms to 0.560 ms), 100% of the time"
    assert told["from first to last"] == "5.609 ms for 10 calls with 10 launches" and told["GPU busy"] == "100% of that"
    assert told["gaps"] == "9, 1.0 µs each, the longest 1.0 µs before add_kernel"
    assert told["a launch"] == "keeps the CPU for 4.0 µs"
    assert told["an idle GPU"] == "takes 9.0 µs from the launch to the start (1 of 10 launches found it idle)"
    assert reading.sentence.startswith("the GPU is busy, and a call takes it 0.560 ms, 96% of the roofline (2,876 GB/s")


def test_a_timeline_of_a_gpu_that_waits_for_launches(tmp_path):
    rows = [*IDLE, ("CUPTI_ACTIVITY_KIND_MEMSET", "", 200_000, 201_000, 203_000, 204_000)]
    reading = timeline.read(timeline.of_nsys(exported(tmp_path / "x.sqlite", rows)), 10, ASKED)
    told = rows_of(reading)
    assert told["memset"].startswith("1 times, 1.0 µs each") and told["GPU busy"] == "11% of that"
    assert told["an idle GPU"].startswith("takes 8.0 µs from the launch to the start (11 of 11 ")
    assert reading.sentence.startswith("the GPU waits 89% of the time for the next launch")


def test_a_timeline_without_launches_or_kernels(tmp_path):
    found = timeline.of_nsys(exported(tmp_path / "x.sqlite", BUSY, runtime=False))
    assert not {"a launch", "an idle GPU"} & rows_of(timeline.read(found, 10, ASKED)).keys()
    with pytest.raises(Unreadable, match="nothing ran on the GPU"):
        timeline.read(timeline.of_nsys(exported(tmp_path / "y.sqlite", [])), 10, ASKED)


def on_gpu(category: str, name: str, correlation: int, start: float, took: float) -> dict:
    """Constructed: an event of Kineto's, as torch.profiler writes it on a GPU; µs."""
    args = {"correlation": correlation, "External id": correlation}
    return {"ph": "X", "cat": category, "name": name, "pid": 0, "tid": 7, "ts": start, "dur": took, "args": args}


def job_for(monkeypatch, tmp_path, text: str, **more) -> dict:
    """A job for a file of this text, on the CPU, with a timed case that is small."""
    speed = Speed(case(n=1024), bytes=lambda x, y: 3 * x.nbytes, target=0.9)
    monkeypatch.setitem(PART.__dict__, "exercise", replace(PART.exercise, speed=[speed]))
    monkeypatch.setattr(catalog, "parts", lambda: (PART,))
    file = tmp_path / "a_add.py"
    file.write_text(text)
    job = {"tool": "torch", "part": "1.1a", "file": str(file), "case": "n=1024", "calls": 10, "device": "cpu"}
    return job | {"bytes": 12288, "flops": 0, "stem": str(tmp_path / "x"), "answer": str(tmp_path / "answer")} | more


ADDS = "import torch\ndef add(x, y):\n    out = torch.empty_like(x)\n    return torch.add(x, y, out=out)\n"


def test_what_torch_records_is_read(monkeypatch, tmp_path):
    with pytest.raises(SystemExit) as ended:
        profile_runner.main(job_for(monkeypatch, tmp_path, ADDS))
    operations = json.loads((tmp_path / "answer").read_text())["operations"]
    assert not ended.value.code and {op["name"]: op["calls"] for op in operations}["aten::add"] == 10
    trace = json.loads((tmp_path / "x.json").read_text())
    assert timeline.of_trace(json.dumps(trace)) == []  # on the CPU nothing runs on a GPU
    for call in range(10):
        at = 1e6 + 600.0 * call
        trace["traceEvents"] += [
            on_gpu("cuda_driver", "cuLaunchKernelEx", call, 1e6 + 5.0 * call, 4.0),
            on_gpu("kernel", "add_kernel", call, at + 9, 560.0),
            on_gpu("gpu_memset", "Memset (Device)", 100 + call, at + 570, 2.0),
        ]
    reading = timeline.read(timeline.of_trace(json.dumps(trace)), 10, ASKED, operations)
    told = rows_of(reading)
    assert told["add_kernel"].startswith("10 times, 0.560 ms each") and "memset: Memset (Device)" in told
    assert told["a launch"] == "keeps the CPU for 4.0 µs"
    assert told["from first to last"].endswith("for 10 calls with 20 launches")
    assert rows_of(reading, 1)["aten::add"].startswith("1 times a call, ")


@pytest.mark.parametrize(
    "text, kind",
    [("def plus(x, y): ...\n", "MissingEntry"), ("1 / 0\n", "ZeroDivisionError"), ("def add(x):\n  1\n", "TypeError"),
     ("def add(x, y): raise SystemExit(0)\n", "SystemExit"), ("def add(x, y)\n", "SyntaxError")],
)  # fmt: skip
def test_a_call_that_fails_is_answered_with_its_error(monkeypatch, tmp_path, text, kind):
    with pytest.raises(SystemExit) as ended:
        profile_runner.main(job_for(monkeypatch, tmp_path, text))
    assert ended.value.code and json.loads((tmp_path / "answer").read_text())["error"]["type"] == kind


def tree(**scope) -> str:
    """Constructed: a .hatchet file of proton's, of ten calls of one kernel, and what a launch hook launched."""

    def node(name, metrics, *children):
        return {"frame": {"name": name, "type": "function"}, "metrics": metrics, "children": list(children)}

    on = {"device_id": "0", "device_type": "CUDA"}
    kernel = node("matmul_kernel", {"count": 10, "time (ns)": 2_000_000, **on})
    hook = node("__proton_launch_metadata", {}, node("zero_kernel", {"count": 10, "time (ns)": 9_000_000, **on}))
    root = node("ROOT", {}, node("m=4096", scope, kernel, hook, node("never", {})))
    return json.dumps([root, {"CUDA": {"0": {"arch": "90", "num_sms": 132}}}])


def test_protons_tree_is_read():
    reading = scopes.read(tree(bytes=1e9, flops=10 * MATMUL.flops), 10, MATMUL)
    assert list(rows_of(reading)) == ["m=4096", "  matmul_kernel"]
    assert rows_of(reading)["m=4096"] == "2.000 ms, 100%, 1.00 GB, 500 GB/s, 687 TFLOPS"
    assert rows_of(reading)["  matmul_kernel"] == "2.000 ms, 100%, 10 times, 0.200 ms each"
    assert reading.sentence == (
        "a call takes 0.200 ms, 98% of the roofline (687 TFLOPS); at 1,365 operations a byte it is bound by compute"
    )
    empty = [{"frame": {"name": "ROOT"}, "metrics": {"count": 0}, "children": []}, {}]
    with pytest.raises(Unreadable, match="proton saw no kernel"):
        scopes.read(json.dumps(empty), 10, MATMUL)


NCU = """
import os, sys
if any(word.startswith("--import=") for word in sys.argv):
    print(open(os.environ["PRINTED"]).read())
else:
    if os.environ.get("RUNS"):
        at = sys.argv.index("-m") - 1
        status = os.spawnv(os.P_WAIT, sys.argv[at], sys.argv[at:])
        print("==ERROR== The application returned an error code (1).")
        sys.exit(status)
    stem = next(word for word in sys.argv if word.startswith("--export=")).removeprefix("--export=")
    open(stem + ".ncu-rep", "w").write("a report")
"""


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    """A machine with a GPU on which a copy moves 3 TB/s, whose ncu is a program that counts what BOUND_BY_MEMORY says.

    It grades on the CPU. The learner's tree has the solution of 1.1a.
    """
    about = {"device": "NVIDIA H100 80GB HBM3"}
    for module, name, value in (
        (sweep, "refusal", lambda: ""),
        (sweep, "about", lambda: about),
        (ceilings, "copy_rate", lambda: 3e12),
        (profiling.warm, "warm_up", lambda *modes: None),
        (catalog, "STAGES", tmp_path / "stages"),
    ):
        monkeypatch.setattr(module, name, value)
    program(tmp_path / "bin", "ncu", NCU)
    (tmp_path / "printed").write_text(raw(BOUND_BY_MEMORY))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PRINTED", str(tmp_path / "printed"))
    put(SOLUTION)
    return tmp_path


def put(text: str) -> None:
    PART.file(catalog.STAGES).parent.mkdir(parents=True, exist_ok=True)
    PART.file(catalog.STAGES).write_text(text)


def test_a_part_is_profiled_and_no_file_is_overwritten(gpu, no_gpu):
    command = "1.1a", "--tool", "ncu", "--out", str(gpu / "out")
    names = ["1.1a-n=134217728-ncu.ncu-rep", "1.1a-n=134217728-ncu-2.ncu-rep"]
    for name in names:
        status, told = run(*command)
        assert status == 0, told
        assert told.startswith("1.1a Vector add, n=134217728, by ncu on NVIDIA H100 80GB HBM3\n  add_kernel\n")
        assert "▶ memory: DRAM is at 86% of its peak" in told and "not right yet" not in told
        assert told.endswith(f"{gpu / 'out' / name}  (for Nsight Compute: ncu-ui)\n")
    assert {file.name for file in (gpu / "out").iterdir()} == set(names)


def test_a_part_that_fails_is_profiled_all_the_same_and_that_is_said(gpu, no_gpu):
    put(SOLUTION.replace("x + y, mask", "x - y, mask"))
    status, told = run("1.1a", "--tool", "ncu", "--out", str(gpu / "out"))
    assert status == 0 and "fails n=1025: " in told and "its figures are of a kernel that is not right yet" in told
    assert "▶ memory: DRAM" in told


def test_a_part_that_is_not_written_yet_is_not_profiled(gpu, no_gpu):
    put((catalog.ROOT / "stages" / PART.path).read_text())
    status, told = run("1.1a", "--tool", "ncu", "--out", str(gpu / "out"))
    assert status == 2 and told.startswith("there is nothing to profile yet: ") and "still open" in told
    PART.file(catalog.STAGES).unlink()
    assert "`make reset EX=1.1a` lays it" in run("1.1a", "--tool", "ncu", "--out", str(gpu / "out"))[1]
    assert not list((gpu / "out").iterdir())


def test_a_call_that_fails_under_the_tool_is_told_by_the_learners_line(gpu, no_gpu, monkeypatch):
    monkeypatch.setenv("RUNS", "1")
    put(SOLUTION + "\n1 / 0\n")
    status, told = run("1.1a", "--tool", "ncu", "--out", str(gpu / "out"))
    assert status == 2 and "ncu told nothing of 1.1a: the call fails: ZeroDivisionError: division by zero" in told
    assert "a_add.py:" in told and "1 / 0" in told and "Instead:" in told and "Traceback" not in told


def test_no_permission_for_counters_is_told_with_what_helps(gpu, no_gpu):
    program(gpu / "bin", "ncu", "import sys; print('==ERROR== ERR_NVGPUCTRPERM - The user does not'); sys.exit(1)")
    status, told = run("1.1a", "--tool", "ncu", "--out", str(gpu / "out"))
    assert status == 2 and "NVreg_RestrictProfilingToAdminUsers=0" in told and "make inspect EX=1.1a" in told
    assert not list((gpu / "out").iterdir())


def test_nsys_is_run_and_its_export_read(gpu, no_gpu):
    exported(gpu / "recorded.sqlite", BUSY)
    program(
        gpu / "bin",
        "nsys",
        f"""
import shutil, sys
out = next(word for word in sys.argv if word.startswith("--output=")).removeprefix("--output=")
if sys.argv[1] == "export":
    shutil.copy({str(gpu / "recorded.sqlite")!r}, out)
else:
    open(out, "w").write("a report")
""",
    )
    status, told = run("1.1a", "--tool", "nsys", "--out", str(gpu / "out"))
    assert status == 0 and "▶ the GPU is busy, and a call takes it 0.560 ms" in told
    assert [file.name for file in (gpu / "out").iterdir()] == ["1.1a-n=134217728-nsys.nsys-rep"]


def test_a_folder_that_cannot_be_written_is_one_line(gpu, no_gpu):
    status, told = run("1.1a", "--tool", "ncu", "--out", "/proc/nowhere")
    assert status == 2 and told.startswith("nothing can be written to /proc/nowhere: ") and told.count("\n") == 1
