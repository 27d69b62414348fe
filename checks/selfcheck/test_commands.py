"""What learners and instructors type, and what they are told. Nothing here touches stages/ or .workbook/ itself."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner
from workbook import catalog, cli, debug, doctor, ladder, new, progress, report, stub, warm

PART = catalog.select("1.1a")[0]
SOLUTION = PART.file(catalog.SOLUTIONS).read_text()
PRINTS = 'print("from my own code")\n'
WRONG = SOLUTION.replace("x + y, mask", "x - y, mask") + PRINTS
LAUNCH = "import sys; from pathlib import Path; from workbook import catalog, __main__;"
LAUNCH += "catalog.STAGES = Path(sys.argv.pop(1)); __main__.main()"


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A learner's tree in place of stages/, in which 1.1a is still the stub, and a place for what is kept."""
    stages = tmp_path / "stages"
    monkeypatch.setattr(catalog, "STAGES", stages)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # so that the words are the same on a GPU
    monkeypatch.setenv("WORKBOOK_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(catalog, "parts", lambda: (PART,))
    put(stages, stub.derive(SOLUTION, PART.id))
    PART.lesson.write_text("".join(HINT.replace("<n>", str(n)) for n in (1, 2)))
    return stages


HINT = """
<details>
<summary>Hint <n> for 1.1a</summary>

This is number <n>.

</details>
"""


def put(stages: Path, text: str) -> None:
    PART.file(stages).parent.mkdir(parents=True, exist_ok=True)
    PART.file(stages).write_text(text)


def run(*words: str, answer: str = "") -> tuple[int, str]:
    result = CliRunner().invoke(cli.app, list(words), input=answer)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_a_stub_is_told_where_to_begin_and_nothing_above_it_is_climbed(tree):
    status, told = run("check", "1.1a")
    assert status == 1
    assert re.search(r"1\.1a  Vector add +○ correct 0/10 +· compiles  · moves  · fast", told)
    assert "begin with blank 1" in told and 'a_add.py:17: tl.static_assert(False, "TODO 1.1a, blank 1")' in told
    assert "9 more cases not run" in told and "seed" not in told
    assert f"next: read {PART.lesson}, then open {PART.file(tree)}" in told


def test_a_wrong_file_is_told_the_case_the_seed_and_what_it_printed(tree, tmp_path):
    put(tree, WRONG)
    status, told = run("check", "--seed", "7", "--json", str(tmp_path / "out.json"))
    assert status == 1
    assert re.search(r"correct n=1025: .*sum\[\d+\] is", told) and "✘ correct 1/9" in told
    assert "seed 7: make check EX=1.1a SEED=7 replays it" in told
    assert "also fails: n=1, n=1023, n=1024, n=8191, n=3001,fp16, n=4096,bf16; passes: n=0\n" in told
    assert told.count("your code printed in correct n=1025:\n        from my own code\n") == 1
    assert told.count("sum[") == 1
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["seed"] == 7 and report["device"] is None
    part = report["parts"]["1.1a"]
    assert (part["title"], part["status"]) == ("Vector add", "fail")
    statuses = {check["name"]: check["status"] for check in part["checks"]}
    assert statuses["correct n=1025"] == statuses["correct n=1"] == "fail" and statuses["correct n=0"] == "pass"
    assert statuses["compiles sm_80"] == statuses["moves"] == statuses["fast"] == "not reached"


@pytest.mark.parametrize(
    "text, words",
    [
        ("def add(x, y)\n    return x\n", "correct n=1025: syntax error"),
        ("def add(x, y):\nreturn x\n", "correct n=1025: wrong indentation"),
        ("def plus(x, y):\n    return x\n", "correct n=1025: the file defines no"),
        ("import tritn\n", "correct n=1025: ModuleNotFoundError"),
    ],
)
def test_a_file_that_cannot_be_loaded_gets_its_message_and_no_more(tree, text, words):
    put(tree, text)
    told = run("check", "1.1a")[1]
    assert words in told and "9 more cases not run" in told
    for needless in ("next:", "seed", "also fails", "passes:"):
        assert needless not in told


def test_after_a_case_that_is_costly_no_other_is_run(tree):
    put(tree, SOLUTION.replace("    out = torch.empty_like(x)", "    import os; os._exit(3)"))
    told = run("check", "1.1a")[1]
    assert "correct n=1025: the process ended with exit status 3" in told and "9 more cases not run" in told
    for message in ("no answer within 20 s", "right on the CPU, wrong on the GPU: no answer within 60 s"):
        assert ladder.ends(ladder.Verdict("fail", message))
    assert not ladder.ends(ladder.Verdict("fail", "1 of 3 elements are wrong"))


def test_the_next_step_goes_from_hint_to_hint_to_the_reference(tree):
    put(tree, WRONG)
    for _ in PART.hints():
        assert "next: make hint EX=1.1a\n" in run("check", "1.1a")[1]
        run("hint", "1.1a")
    assert "next: make solution EX=1.1a\n" in run("check", "1.1a")[1]


def told_of(capsys, *results, alone: bool = True) -> str:
    outcome = ladder.Outcome(PART, 0, [(ladder.Check(name.split()[0], name, None), v) for name, v in results])
    report.show(outcome, catalog.SOLUTIONS, alone=alone)
    return capsys.readouterr().out


def test_many_failing_cases_are_not_all_named(tree, capsys):
    told = told_of(capsys, *((f"correct n={n}", ladder.Verdict("fail", "wrong")) for n in range(14)))
    assert "also fails: n=1, n=2, n=3, n=4, n=5, n=6, n=7, n=8, and 5 more\n" in told


def test_what_two_architectures_say_alike_is_said_once(tree, capsys):
    same = ladder.Verdict("fail", "no such operation\na_add.py:3: x")
    told = told_of(capsys, ("compiles sm_80", same), ("compiles sm_90", same))
    assert "compiles sm_80, sm_90: no such operation" in told and told.count("a_add.py:3") == 1
    told = told_of(capsys, ("compiles sm_80", same), ("compiles sm_90", ladder.Verdict("fail", "another")))
    assert "compiles sm_80: no such operation" in told and "compiles sm_90: another" in told


def test_a_timed_part_tells_what_is_asked_of_other_gpus(tree, capsys):
    facts = {"minimum": {"H100 SXM": "2,306 GB/s (derived)"}, "timing": {"peers": {}}}
    asks = "fast asks: H100 SXM 2,306 GB/s (derived)"
    assert asks in told_of(capsys, ("fast", ladder.Verdict("pass", "96%", facts)))
    assert asks not in told_of(capsys, ("fast", ladder.Verdict("pass", "96%", facts)), alone=False)
    del facts["timing"]
    assert asks not in told_of(capsys, ("fast", ladder.Verdict("ungraded", "needs a GPU", facts)))


def test_a_right_file_passes_is_remembered_and_shows_its_resources(tree):
    put(tree, SOLUTION + PRINTS)
    status, told = run("check", "1.1A", "-v")
    assert status == 0
    assert "✔ compiles  ✔ moves" in told and "registers" in told and "requested bytes 786,432" in told
    assert re.search(r"fast asks: A100 SXM 80GB [\d,]+ GB/s \(\w+\), H100 SXM ", told)
    assert "your code printed in correct n=1025:\n        from my own code\n" in told
    assert "not graded here: correct n=2147483649,fp16, and fast (needs a GPU)" in told
    state = progress.load()
    assert progress.standing(PART, state) == "pass" and {"correct", "compiles", "moves"} <= set(state["1.1a"]["rungs"])
    assert "every part passes" in run("next")[1]
    put(tree, WRONG)
    assert "changed since it was graded" in run("progress")[1]
    status, told = run("next")
    assert "make check EX=1.1a" in told and "its file has changed" in told


def test_what_is_not_graded_is_never_passed(tree, monkeypatch):
    put(tree, SOLUTION)
    outcome = ladder.Outcome(PART, 0, [(ladder.Check("fast", "fast", None), ladder.Verdict("ungraded", "needs a GPU"))])
    monkeypatch.setattr(ladder, "climb", lambda *_: outcome)
    status, told = run("check", "1.1a")
    assert status == 0 and "- fast" in told and "not graded here: fast (needs a GPU)" in told and "✔" not in told
    assert run("check", "1.1a", "--strict")[0] == 1
    assert outcome.status == "ungraded" and outcome.passed() == []


def test_among_many_parts_only_what_goes_wrong_shows_what_it_printed(tree, capsys):
    quiet, loud = ladder.Verdict("fail", "wrong"), ladder.Verdict("pass", printed="hello\n")
    results = ("correct n=1", quiet), ("correct n=2", loud)
    assert "your code printed in correct n=2:\n        hello" in told_of(capsys, *results)
    assert "hello" not in told_of(capsys, *results, alone=False)
    results += (("moves", ladder.Verdict("fail", "wrong", printed="moving")),)
    assert "your code printed in moves:\n        moving" in told_of(capsys, *results, alone=False)


def test_a_spec_that_does_not_load_is_one_line(tree, monkeypatch, tmp_path):
    monkeypatch.setattr(catalog, "CHECKS", tmp_path)
    monkeypatch.setattr(ladder, "CHECKS", tmp_path)
    spec = tmp_path / PART.path
    spec.parent.mkdir(parents=True)
    part = catalog.Part(PART.path)
    for text, words in (("\n1 / 0", "ZeroDivisionError: division by zero\na_add.py:2"), ("\ndef", "SyntaxError")):
        spec.write_text(text)
        (_, verdict), *others = ladder.climb(catalog.Part(PART.path), tree, 0).results
        assert verdict.status == "error" and words in verdict.message and not others
    monkeypatch.setattr(catalog, "parts", lambda: (part,))
    status, told = run("check")
    assert status == 1 and "not your fault" in told and "Traceback" not in told


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["check", "9.9z"], "there is no part '9.9z'; the nearest are 1.1a"),
        (["check", "--stage", "9"], "there is no stage 9 yet; there is stage 1"),
        (["check", "1.1a", "--stage", "1"], "name a part or a stage, not both"),
        (["check", "--tree", "/nowhere"], "the folder /nowhere cannot be read: No such file or directory"),
        (["check", "--tree", str(catalog.CHECKS / "workbook")], "nothing to grade in"),
        (["check", "--json", "/nowhere/x.json"], "/nowhere/x.json cannot be written: No such file or directory"),
        (["hint"], "which part? For example: make hint EX=1.1a"),
        (["reset"], "which part? For example: make reset EX=1.1a"),
        (["solution", "2"], "there is no stage 2 yet; there is stage 1"),
        (["new"], "for example: make new EX=2.1c NAME=split_k"),
        (["new", "1.1a", "--name", "add"], "1.1a is there already"),
        (["new", "2.1x", "--name", "add"], "exercise 2.1 is new"),
        (["new", "9.1a", "--name", "add"], "'9.1a' is not the id of a part"),
    ],
)
def test_bad_input_is_one_clear_line(tree, words, sentence):
    status, told = run(*words)
    assert status == 2 and told.startswith(sentence) and told.count("\n") == 1


def test_hints_come_one_at_a_time(tree):
    assert "hint 1 of 2" in (first := run("hint", "1.1a")[1]) and "This is number 1." in first
    for _ in range(2):
        told = run("hint", "1.1a")[1]
        assert "hint 2 of 2" in told and "make solution EX=1.1a shows the reference" in told


LEFT = (
    "lay the stub of 1.1a again? a copy of your file is kept [y/N] 1.1a is left as it is; "
    "ARGS=--yes does so without asking\n"
)


def test_reset_asks_and_keeps_a_copy(tree):
    put(tree, WRONG)
    assert run("reset", "1.1a", answer="n\n") == (0, LEFT) and PART.file(tree).read_text() == WRONG
    status, told = run("reset", "1.1a", answer="y\n")
    kept = list((progress.folder() / "kept").iterdir())
    assert status == 0 and [file.read_text() for file in kept] == [WRONG] and kept[0].name in told
    assert PART.file(tree).read_text() == stub.derive(SOLUTION, "1.1a")


def test_the_solution_is_a_diff_and_asks_before_it_spoils(tree):
    put(tree, WRONG)
    status, told = run("solution", "1.1a", answer="\n")
    assert status == 0 and told.endswith("not shown\n") and "+" not in told
    status, told = run("solution", "1.1a", answer="y\n")
    assert status == 0 and "-    tl.store(out_ptr + offsets, x - y, mask=mask)" in told and "+    tl.store(" in told
    assert PART.file(tree).read_text() == WRONG


def test_stubs_leave_work_alone(tree, monkeypatch):
    assert run("stubs", "--check") == (0, "")
    put(tree, WRONG)
    assert run("stubs", "--check")[0] == 1
    status, told = run("stubs")
    assert status == 1 and "left alone" in told and PART.file(tree).read_text() == WRONG
    PART.file(tree).unlink()
    assert run("stubs")[0] == 0 and run("stubs", "--check")[0] == 0
    monkeypatch.setattr(new, "stub_of", lambda part: "# a later one\n")
    assert run("stubs")[0] == 0 and PART.file(tree).read_text() == "# a later one\n"


def test_a_new_part_grades_as_it_is_laid(tmp_path, tree, monkeypatch):
    for name in ("SOLUTIONS", "CHECKS"):
        monkeypatch.setattr(catalog, name, tmp_path / name.lower())
    laid = new.lay_part("2.1c", "split_k", "tiled_matmul")
    assert laid[0] == tmp_path / "solutions/2_memory_patterns/1_tiled_matmul/c_split_k.py"
    part = catalog.Part("2_memory_patterns/1_tiled_matmul/c_split_k.py")
    assert part.title == "Split k" and len(part.hints()) == 3
    assert ladder.climb(part, catalog.SOLUTIONS, 0).status == "pass"
    assert ladder.climb(part, tree, 0).status == "todo"
    for edit in (*part.exercise.bugs, *part.exercise.variants):
        assert edit.apply(laid[0].read_text()) != laid[0].read_text()


def test_progress_that_cannot_be_kept_is_said_once(tree, monkeypatch, capsys):
    monkeypatch.setenv("WORKBOOK_STATE", "/dev/null/state")
    monkeypatch.setattr(progress, "_told", False)
    progress.update(PART, hints=1)
    progress.update(PART, hints=2)
    assert capsys.readouterr().err.count("progress is not kept: /dev/null/state cannot be written") == 1


def test_doctor_says_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor.metadata, "version", lambda name: {"triton": "3.4.0"}.get(name, "99.1"))
    assert doctor.unsupported().startswith("triton 3.4.0 is too old, 3.6 or newer is needed")
    monkeypatch.setattr(doctor.sys, "platform", "darwin")
    assert "needs Linux" in doctor.unsupported()
    monkeypatch.setenv("CC", "no-such-cc")
    assert doctor.no_compiler().startswith("CC names no-such-cc")
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "apt install gcc" in doctor.no_compiler()


def test_doctor_tells_rung_by_rung(tree):
    status, told = run("doctor")
    assert status == 0 and "triton" in told and re.search(r"moves +graded here", told)
    assert re.search(r"fast +not graded here: needs a GPU", told)


@pytest.fixture
def specs(tree, capsys, monkeypatch):
    """Runs pytest with the plugin, as an instructor does; a conftest.py lies in wait in the graded tree."""
    (tree / "conftest.py").write_text("raise SystemExit('a submission ran in the grader')")
    monkeypatch.chdir(catalog.ROOT)

    def run(*words):
        status = pytest.main([*words, f"--tree={tree}", f"--override-ini=cache_dir={tree.parent}/cache", "-pno:xdist"])
        return status, capsys.readouterr().out

    return run


def test_pytest_ids_are_ours_and_failures_only_our_words(specs, tree):
    put(tree, WRONG)
    status, told = specs("1.1A::correct n=1025", "1.1a::moves", "1.1a::fast", "-v", "--seed=7")
    assert status == 1 and "collected 3 items" in told and "Traceback" not in told
    assert re.search(r"^1\.1a::correct n=1025 FAILED", told, re.M) and "1.1a::moves FAILED" in told
    assert "from my own code" in told and "pytest '1.1a::correct n=1025' --seed=7" in told
    put(tree, SOLUTION)
    status, told = specs("--lf", "-v", "checks/1_fundamentals/1_vector_ops")
    assert status == 0 and "1.1a::correct n=1025 PASSED" in told and "2 passed" in told


def test_pytest_skips_what_is_not_graded_unless_strict(specs, tree):
    assert "1 skipped" in (told := specs("1.1a::fast", "-rs")[1]) and "needs a GPU" in told
    assert "1 failed" in specs("1.1a::fast", "--strict")[1]


def test_pytest_collects_the_specs_and_not_the_selfcheck(specs):
    _, told = specs("checks", "--collect-only", "-q", "-k", "1.1a")
    assert "1.1a::compiles sm_90" in told and "test_commands" not in told
    _, told = specs("checks/selfcheck/test_commands.py", "--collect-only", "-q")
    assert "test_pytest_collects_the_specs" in told
    assert specs("9.9z")[0] == pytest.ExitCode.USAGE_ERROR


def test_watch_grades_on_save_takes_keys_and_gives_the_terminal_back(tree):
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    env = {**os.environ, "PYTHONPATH": str(catalog.CHECKS)}
    command = [sys.executable, "-c", LAUNCH, str(tree), "watch", "1.1a"]
    process = subprocess.Popen(command, env=env, stdin=theirs, stdout=theirs, stderr=theirs)

    told = ""

    def until(words: str) -> None:
        nonlocal told
        end = time.monotonic() + 60
        while words not in told:
            assert select.select([ours], [], [], max(0, end - time.monotonic()))[0], f"{words!r} is not in {told!r}"
            told += os.read(ours, 4096).decode(errors="replace")
        told = told.partition(words)[2]

    until("is graded now, and again on every save")
    until("q quit")
    until("waiting for a save of")
    until("q quit")
    assert termios.tcgetattr(theirs)[3] & termios.ICANON == 0
    os.write(ours, b"h")
    until("hint 1 of 2")
    put(tree, WRONG)
    until("from my own code")
    until("q quit")
    process.send_signal(signal.SIGTERM)
    until("stopped")
    while process.poll() is None:  # whoever is impatient cuts nothing short
        process.send_signal(signal.SIGTERM)
        time.sleep(0.005)
    assert process.returncode == 143
    while select.select([ours], [], [], 0)[0]:
        told += os.read(ours, 4096).decode(errors="replace")
    assert "Traceback" not in told and "Exception" not in told
    assert termios.tcgetattr(theirs) == before
    os.close(ours), os.close(theirs)


def test_the_makefile_lists_its_targets_without_an_environment(tmp_path):
    told = subprocess.run(["make", "-C", str(catalog.ROOT), "VENV=/nowhere/venv"], capture_output=True, text=True)
    assert told.returncode == 0
    for target in ("check", "check-stage-N", "next", "watch", "hint", "inspect", "profile", "doctor", "test"):
        assert re.search(rf"^  make {target} +\w", told.stdout, re.M)


@pytest.fixture
def switches(monkeypatch):
    """None is on, before and after."""
    monkeypatch.setattr(warm, "switches", {})
    warm.stop()
    yield
    warm.stop()


def test_debug_ir_writes_the_code_before_each_pass(tree, switches):
    put(tree, SOLUTION + PRINTS)
    status, told = run("check", "1.1a", "--debug", "ir")
    folder = progress.folder() / "debug/1.1a"
    files = [str(file.relative_to(folder)) for file in sorted(folder.rglob("*.*"))]
    assert status == 0 and "IR Dump" not in told
    assert f"DEBUG=ir, the code before each pass of the compiler, up to LLVM's: {len(files)} files in {folder}" in told
    for arch in (80, 86, 90):
        assert f"compiles_sm_{arch}/001-Inliner.mlir" in files
        before_coalescing = [file.read_text() for file in folder.glob(f"compiles_sm_{arch}/*-TritonGPUCoalesce.mlir")]
        assert before_coalescing and all(f'"cuda:{arch}"' in text for text in before_coalescing)
    assert (folder / "correct_n=1025.txt").read_text() == "from my own code\n"


def test_debug_is_kept_apart_from_progress_and_from_a_shell(tree, switches, monkeypatch):
    monkeypatch.setenv("TRITON_DEBUG", "1")
    monkeypatch.setenv("MLIR_ENABLE_DUMP", "1")
    put(tree, SOLUTION)
    assert run("check", "1.1a", "--debug", "autotune")[1].count("nothing was told") == 1
    assert progress.standing(PART, progress.load()) == "new"
    warm.stop()
    warm.switches.clear()
    run("check", "1.1a", "--json", str(tree / "out.json"))
    assert progress.standing(PART, progress.load()) == "pass" and not (progress.folder() / "debug/1.1a").exists()


def test_debug_assert_stops_at_an_int32_that_overflows(tree, switches):
    put(
        tree,
        SOLUTION.replace("mask = offsets < n\n", "mask = (offsets < n) & (tl.arange(0, BLOCK) * 2**30 % 2 == 0)\n"),
    )
    assert run("check", "1.1a")[0] == 0
    warm.stop()
    status, told = run("check", "1.1a", "--debug", "assert")
    assert status == 1 and "AssertionError: int32 overflow detected for operation mul" in told
    assert re.search(r"a_add\.py:\d+: mask = \(offsets < n\) & ", told)


def test_an_unknown_switch_is_one_line_that_lists_the_known(tree, switches):
    status, told = run("check", "1.1a", "--debug", "irr")
    assert status == 2 and told.startswith("there is no DEBUG=irr; there is ir: ") and told.count("\n") == 1
    assert all(name in told for name in debug.SWITCHES) and not warm.switches


@pytest.mark.parametrize("words, passed", [("DEBUG=ir", True), ("", False)])
def test_make_hears_of_debug_where_it_is_said_and_not_from_a_shell(words, passed):
    env = {**os.environ, "DEBUG": "1"}
    command = ["make", "-n", "-C", str(catalog.ROOT), "VENV=", "check", "EX=1.1a", *words.split()]
    told = subprocess.run(command, capture_output=True, text=True, env=env).stdout
    assert ("--debug 'ir'" in told) == passed and ("--debug" in told) == passed
