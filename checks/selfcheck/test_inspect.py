"""What `make inspect` shows of a kernel, and what it says of one that cannot be inspected."""

import io
from dataclasses import replace

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner
from workbook import advice, catalog, cli, devices, drawing, gather, inspection, listing, report, stub
from workbook.exercise import Moves, case
from workbook.inspection import Access, Compiled, Inspection, Launch, Traced
from workbook.words import TORCH, Verdict

ADD, TRANSPOSE = (catalog.select(id)[0] for id in ("1.1a", "1.3a"))
SUM = ADD.file(catalog.SOLUTIONS).read_text()
LOAD = "x = tl.load(x_ptr + offsets, mask=mask)"


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    """So that the words are the same on a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def put(tree, part, *pairs):
    source = part.file(catalog.SOLUTIONS).read_text()
    for old, new in pairs:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    part.file(tree).parent.mkdir(parents=True, exist_ok=True)
    part.file(tree).write_text(source)


def bug(part, what) -> list[tuple[str, str]]:
    return next(b.pairs for b in part.exercise.bugs if b.what == what)


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli.app, ["inspect", *map(str, words)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result.exit_code, result.output


def line_with(text: str, told: str) -> str:
    """The one line of the picture that shows a line of the source."""
    [line] = [line for line in told.splitlines() if "│" in line and text in line]
    return line


def test_a_solution_shows_its_resources_its_lines_and_its_limit():
    status, told = run("1.3a", "--tree", catalog.SOLUTIONS)
    assert status == 0 and "fails" not in told and "▶" not in told
    assert told.split("\n")[0].startswith("1.3a Transpose  (")
    for words in (
        "transpose_kernel, m=16384,n=8192\n",
        "m=16384,n=8192,fp16, the rest as above",
        "one call, m=256,n=128",
    ):
        assert words in told
    rows = {line[4:23].strip(): line[23:].split() for line in told.splitlines() if line.startswith("    ")}
    assert rows["bytes spilled"] == ["0", "0", "0"] and rows["ridge point"] == ["12.5", "35.3", "20.0"]
    assert rows["programs"] == ["32,768"] * 3 and rows["operations a byte"] == ["0"] * 3
    for text in ("x = tl.load(", "tl.store("):
        assert "65,536  ██████████ 100%   128 │" in line_with(text, told)
    assert "131,072 necessary" in told and "memory is the limit, and nothing is wasted" in told
    assert "the 1,074 MB of m=16384,n=8192 take at least 0.69 ms on an A100 SXM 40GB and 0.32 ms on an H100 SXM" in told


def test_a_naive_kernel_shows_the_bad_line(tmp_path):
    put(tmp_path, TRANSPOSE, *bug(TRANSPOSE, "row by row"))
    status, told = run("1.3a", "--tree", tmp_path)
    store = line_with("tl.store(", told)
    assert status == 0 and store.startswith("  ▶ ") and "65,536  █░░░░░░░░░   6%    16 │" in store
    assert "100%" in (load := line_with("x = tl.load(", told)) and "▶" not in load
    number = store.split()[1]
    assert f"▶ line {number} uses 6% of the sectors it touches: neighbouring lanes should store to" in told


def test_two_trees_stand_side_by_side(tmp_path):
    put(tmp_path, TRANSPOSE, *bug(TRANSPOSE, "row by row"))
    status, told = run("1.3a", "--tree", tmp_path, "--diff", catalog.SOLUTIONS)
    assert status == 0 and f"({tmp_path} beside " in told
    lines = [line.split() for line in told.splitlines()]
    assert ["≠", "programs", "131,072", "32,768"] in lines and ["≠", "sectors", "in", "use", "12%", "100%"] in lines
    assert ["bytes", "necessary", "131,072", "131,072"] in lines and [
        "ridge",
        "point",
        "sm_80",
        "12.5",
        "12.5",
    ] in lines
    assert f"▶ {tmp_path}: line " in told and ": memory is the limit" in told


def test_code_is_saved_and_nothing_overwritten(tmp_path):
    folder = tmp_path / "code"
    status, told = run("1.1a", "--tree", catalog.SOLUTIONS, "--save", folder)
    files = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.*"))
    stages = ("ptx", "sass", "ttgir", "ttir")
    assert files == [f"n=134217728/add_kernel.sm_{arch}.{stage}" for arch in (80, 86, 90) for stage in stages]
    assert status == 0 and f"12 files are in {folder}" in told
    sass = (folder / files[1]).read_text()
    number = SUM[: SUM.index(LOAD)].count("\n") + 1
    assert f"//## a_add.py:{number}: {LOAD}\n" in sass and "LDG.E.128" in sass
    assert "tt.load" in (folder / files[3]).read_text() and ".target sm_80" in (folder / files[0]).read_text()
    assert run("1.1a", "--tree", catalog.SOLUTIONS, "--save", folder)[1].endswith("name a new or an empty folder\n")
    assert "cannot be written" in run("1.1a", "--tree", catalog.SOLUTIONS, "--save", folder / files[0] / "below")[1]
    assert "is no folder" in run("1.1a", "--tree", catalog.SOLUTIONS, "--save", folder / files[0])[1]


def test_names_of_files_stay_in_their_folder():
    assert listing.plain("../../../etc/passwd") == "_________etc_passwd"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (stub.derive(SUM, "1.1a"), "blanks 1 and 2 are still open; begin with blank 1\na_add.py:"),
        (SUM.replace("mask = offsets < n", "mask = offsets <"), "syntax error: invalid syntax\na_add.py:"),
        ("def add(x, y):\n    return x + y\n", f"no kernel is launched: {TORCH}\n"),
        ("def plus(x, y):\n    return x + y\n", "the file defines no function 'add': the grader calls add(x, y)\n"),
        (b"\xff\xfe", "the file is not UTF-8 text\n"),
        (SUM.replace("x + y, mask", "x + why, mask"), "CompilationError: NameError('why is not defined')\na_add.py:"),
    ],
    ids=["stub", "syntax", "torch", "no entry", "no text", "compiles nowhere"],
)
def test_what_cannot_be_inspected_says_why(tmp_path, text, words):
    file = ADD.file(tmp_path)
    file.parent.mkdir(parents=True)
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    status, told = run("1.1a", "--tree", tmp_path)
    assert status == 1 and told.startswith(f"1.1a is not inspected: {words}") and told.count("\n") <= 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "which part? For example: make inspect EX=1.1a"),
        (("9.9z",), "there is no part '9.9z'"),
        (("1.1",), "1.1 names 4 parts; name one: make inspect EX=1.1a"),
        (("1.1a", "--tree", "/nowhere"), "the folder /nowhere cannot be read: No such file or directory"),
        (("1.1a", "--diff", str(catalog.CHECKS / "workbook")), "nothing to grade in"),
    ],
)
def test_bad_input_is_one_clear_line(words, sentence):
    status, told = run(*words)
    assert status == 2 and told.startswith(sentence) and told.count("\n") == 1


def test_a_file_that_is_gone_is_said_how_to_get(tmp_path, monkeypatch):
    monkeypatch.setattr(catalog, "STAGES", tmp_path)
    told = "1.1a is not inspected: there is no file a_add.py: `make reset EX=1.1a` lays it\n"
    assert run("1.1a") == (1, told)


def test_a_kernel_for_one_architecture_is_shown_for_that_one(tmp_path):
    long = LOAD.replace("(", "(\n        ").replace(", ", ",\n        ")  # of which the interpreter names another line
    put(tmp_path, ADD, ("x + y, mask", "(x + y).to(tl.float8e4nv).to(tl.float32), mask"), (LOAD, long))
    status, told = run("1.1a", "--tree", tmp_path)
    assert status == 0 and "sm_90" in told.split("add_kernel, n=134217728")[1].split("\n")[1]
    assert "does not compile for sm_80: " in told and "does not compile for sm_86: " in told
    assert "fails n=1025: relative error" in told and "100%   128 │" in line_with("x = tl.load(", told)
    assert told.rstrip().endswith("its result is wrong for n=1025, and that comes before its speed")


def test_a_kernel_out_of_bounds_shows_what_compiled(tmp_path):
    put(tmp_path, ADD, (LOAD, LOAD.replace("offsets, mask", "offsets + 1, mask")))
    status, told = run("1.1a", "--tree", tmp_path)
    assert status == 0 and "fails n=1025: out-of-bounds load" in told and "registers a thread" in told
    assert "not traced: out-of-bounds load" in told


def test_on_a_narrow_terminal_lines_are_cut_not_folded(monkeypatch):
    screen = Console(width=80, force_terminal=True, color_system=None, highlight=False, file=io.StringIO())
    monkeypatch.setattr(report, "console", screen)
    monkeypatch.setattr(drawing, "console", screen)
    found = gather.gather(TRANSPOSE, catalog.SOLUTIONS)
    drawing.picture(found, advice.advise(found))
    drawing.limit(advice.advise(found))
    told = screen.file.getvalue()
    assert max(map(len, told.splitlines())) <= 80 and "…" in line_with("x = tl.load(", told)
    assert "65,536     100%   128 │" in line_with("tl.store(", told)


def inspected(facts=(), traced=(), compiled=(), wrong=None, arch=90) -> Inspection:
    """An inspection by hand, in which nothing is amiss but what is given."""
    facts = {
        "kernel": "k", "arch": arch, "registers": 32, "shared": 0, "limit": 232448, "spills": 0, "warps": 4,
        "threads": 128, "grid": [4096, 1, 1], "tma": [], "instructions": {"ld.128": 4},
        "access": [{"line": 7, "op": "load", "bits": 128, "count": 4}], **dict(facts),
    }  # fmt: skip
    figures = {"necessary_bytes": 4096, "requested_bytes": 4096, "sector_share": 1.0, "launches": 1, "extra_memory": 0}
    seen = {
        "accesses": [access()],
        "complaints": [],
        "operations": [],
        "memory": 0,
        "flops": 0,
        "elementwise": 1,
        **dict(traced),
    }
    seen["figures"] = figures | seen.get("figures", {})
    call = Compiled(case(n=1), [Launch("k", {arch: facts})], "tf32", **{"bytes": 10**9, **dict(compiled)})
    seen = Traced(Moves(case(n=1), bytes=len), "tf32", **seen)
    return Inspection(TRANSPOSE, catalog.SOLUTIONS, compiled=[call], calls=[seen], wrong=wrong)


def access(line=7, kind="load", arg="x_ptr", bytes=4096, useful=4096, sectors=128, bits=128):
    return Access(line, kind, arg, bytes, useful, sectors, times=1, size=4096, bits=bits)


TWICE = [access(), access(line=9), access(line=9, kind="store", arg="out_ptr")]
NARROW = {"access": [{"line": 7, "op": "load", "bits": 32, "count": 4}]}
MATMUL = {"bytes": 10**6, "flops": 10**9}


@pytest.mark.parametrize(
    ("found", "sentence", "lines"),
    [
        ({"facts": {"shared": 300_000}},
         "needs 300,000 bytes of shared memory, 67,552 more than a block has on sm_90", ()),
        ({"facts": {"spills": 640, "registers": 255}},
         "spills 640 bytes a thread to memory on sm_90, where it has 255 registers", ()),
        ({"traced": {"accesses": [access(useful=512)], "figures": {"sector_share": 0.125}}},
         "line 7 uses 12% of the sectors it touches: neighbouring lanes should load neighbouring addresses", (7,)),
        ({"traced": {"accesses": TWICE, "figures": {"requested_bytes": 12288}}},
         "lines 7 and 9 each load x_ptr, and the call moves 3.0 times the bytes that are necessary", (7, 9)),
        ({"traced": {"accesses": [access(bytes=65536)], "figures": {"requested_bytes": 65536}}},
         "line 7 loads all of x_ptr 16.0 times over, and the call moves 16.0 times the bytes that are necessary", (7,)),
        ({"traced": {"accesses": [access(bytes=8192), access(line=9, arg="y_ptr", bytes=6144)],
                     "figures": {"requested_bytes": 14336}}}, "line 7 loads all of x_ptr 2.0 times over", (7,)),
        ({"traced": {"operations": [{"name": "clone", "bytes": 8192}],
                     "figures": {"requested_bytes": 12288, "launches": 2}}},
         "the call launches 2 kernels where 1 will do, torch's clone among them, and moves 3.0 times the bytes", ()),
        ({"traced": {"complaints": ["takes its tiles in another order"]}}, "the call takes its tiles in another", ()),
        ({"traced": {"figures": {"extra_memory": 512}}}, "the call allocates 512 bytes beyond its results", ()),
        ({"traced": {"flops": 9}, "compiled": MATMUL}, "tl.dot became no tensor-core instruction on sm_90", ()),
        ({"traced": {"flops": 9}, "compiled": MATMUL, "facts": {"instructions": {"mma": 8}}},
         "on sm_90 tl.dot became mma.sync, not the faster wgmma", ()),
        ({"facts": NARROW, "traced": {"accesses": [access(bits=32, bytes=512)]}},
         "line 7 loads 32 bits a thread at a time, not 128: its 512 bytes are shared by 128 threads", (7,)),
        ({"facts": NARROW, "traced": {"accesses": [access(bits=32)]}},
         "line 7 loads 32 bits a thread at a time, not 128: Triton cannot tell that the addresses", (7,)),
        ({"facts": {"grid": [100, 1, 1]}}, "a grid of 100 leaves 32 of the 132 multiprocessors of an H100 SXM", ()),
        ({"facts": {"registers": 168}}, "168 registers a thread let 12 warps run of 64 on sm_90", ()),
        ({"facts": {"shared": 65536}}, "65,536 bytes of shared memory a block let 12 warps run of 64 on sm_90", ()),
        ({"wrong": (case(n=3), Verdict("fail", "no"))}, "its result is wrong for n=3, and that comes before", ()),
        ({"traced": {"flops": 9}, "compiled": MATMUL, "facts": {"registers": 168, "instructions": {"wgmma": 8}}},
         "arithmetic is the limit, and nothing is wasted that shows here: the 1 GFLOP of n=1 take at least 0.00 ms",
         ()),
        ({}, "memory is the limit, and nothing is wasted that shows here: the 1,000 MB of n=1 take at least 0.30 ms",
         ()),
    ],
)  # fmt: skip
def test_the_closing_sentence_names_the_limit_with_its_figures(found, sentence, lines):
    told = advice.advise(inspected(**found))
    assert sentence in told.sentence and told.lines == lines


def test_what_is_stated_goes_before_what_was_traced():
    found = inspected(traced={"flops": 2**20}, compiled=MATMUL)
    assert found.intensity(found.compiled[0], 90) == (1000, pytest.approx(494.7e3 / 3350))
    traced = inspected(traced={"flops": 2**20})
    assert traced.intensity(traced.compiled[0], 90) == (256, pytest.approx(494.7e3 / 3350))
    elementwise = inspected(traced={"elementwise": 1024})
    assert elementwise.intensity(elementwise.compiled[0], 80) == (0.25, pytest.approx(19.5e3 / 1555))


def test_the_gpu_that_is_here_stands_for_its_architecture(monkeypatch):
    h200 = next(device for device in devices.DEVICES if device.name == "H200")
    for module in (inspection, advice):
        monkeypatch.setattr(module, "here", lambda: h200)
    found = inspected(traced={"elementwise": 1024})
    assert found.intensity(found.compiled[0], 90) == (0.25, pytest.approx(66.9e3 / 4800))
    assert advice.advise(found).sentence.endswith("the 1,000 MB of n=1 take at least 0.21 ms on an H200")


def test_on_a_gpu_the_time_stands_beside_the_roofline(capsys):
    timing = {"timing": {"ms": 0.5, "share": 0.8}}
    measured = [(case(n=1), Verdict("pass", "", timing)), (case(n=2), Verdict("ungraded", "needs 9 GB"))]
    drawing.timed(replace(inspected(), measured=measured))
    told = capsys.readouterr().out
    assert "n=1 takes 0.5000 ms here, its roofline 0.4000 ms, 80%" in told and "n=2 is not timed: needs 9 GB" in told


def test_a_benchmark_has_no_kernel():
    said = run("2.2b", "--tree", str(catalog.SOLUTIONS))
    assert said == (1, "2.2b is not inspected: it is a benchmark, and launches no kernel of its own\n")
