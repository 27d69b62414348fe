"""Verdicts on a benchmark: what is wrong with a number is told in one line, and named where it can be."""

import math

import pytest
from workbook import benchmark, catalog, faults, simulated
from workbook.exercise import Exercise
from workbook.grader import Grading

PART = catalog.select("2.2b")[0]
SOURCE = PART.file(catalog.SOLUTIONS).read_text()
L2, EARLY = "as if it found data in the L2", "as if it counted calls that came too early"
ENTRY = "import torch\ndef milliseconds(call):\n    "
LACKS = "than the simulated GPU has: events, synchronize, get_device_properties and tensors"
TOLD = {  # by bug; with the message of the case that catches it
    "times the launch": "as if it timed the launch: a call returns at once, and the host does not wait for the GPU",
    "the host's clock, waiting for each call": "as if it asked the host's clock, which counts launch and wait",
    "reads the events before the GPU gets to them": "the host does not wait for the GPU, but for torch.cuda",
    "no warm-up": EARLY,
    "warms up with ten calls": EARLY,
    "the first call alone": EARLY,
    "no flush": L2,
    "flushes once": L2,
    "flushes the 50 MB of another GPU": L2,
    "makes room for a flush, writes nothing": L2,
    "times the flush too": "as if it counted the flush",
    "waits between flush and call": "as if it let the GPU wait for the host",
    "one pair of events around all calls": "as if it timed all calls and what lies between",
    "mean": "as if it took the mean",
    "mean, and no warm-up": f"{EARLY}: the first compiles, and the clock rises under load only; and as if it "
    "took the mean, which disturbed calls pull up: take the median",
    "fastest call": "as if it took the fastest call",
    "sum of all calls": " ms for a call that takes ",
    "seconds": "as if it told seconds, not milliseconds: 1000 times too small",
    "microseconds": "as if it told microseconds, not milliseconds: 1000 times too large",
    "events the wrong way round": " ms, and every call takes some time: does the call stand between its two events?",
    "a tensor": "returned Tensor where a number is expected",
    "never calls": "never calls what it is given to measure",
    "never ends": "a measurement takes more than 10 s: make fewer calls, or does a loop not end?",
    "asks Triton": "do_bench is what you rebuild here",
}


@pytest.mark.parametrize("bug", [pytest.param(bug, id=bug.what) for bug in PART.exercise.bugs])
def test_a_bug_is_named(bug, grade):
    grading = grade(PART, bug.apply(SOURCE))
    for grading.seed in range(5):
        message = grading.correct(PART.exercise.find(bug.caught)).message
        assert TOLD[bug.what] in message and "\n" not in message.split("\nb_benchmark.py:")[0]


@pytest.mark.parametrize(("arguments", "words"), [pytest.param(*fault, id=fault[1][:30]) for fault in faults.FAULTS])
def test_a_fault_reads_wrong_and_is_named(arguments, words):
    named = set()
    for size in (30 * 10**6, 2700 * 10**6):
        takes = simulated.cold(size) / 1e3
        right = lambda ms, takes=takes: not benchmark.complaint(ms, takes, takes)  # noqa: E731
        ms = faults.reading(size, 1, 100, faults.ENOUGH, **arguments)
        if not right(ms):
            answer = {"ms": ms, "calls": 100, "flushed": faults.ENOUGH, "waited": 1}
            named.add(faults.name(answer, right, size, 1))
    assert named == {f", as if it {words}"}


def test_a_benchmark_without_faults_reads_right():
    for size in (6 * 10**6, 30 * 10**6, 2700 * 10**6):
        takes = simulated.cold(size) / 1e3
        assert not benchmark.complaint(faults.reading(size, 1, 100, faults.ENOUGH), takes, takes)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ("float('nan')", "returns nan: the milliseconds of one call are asked"),
        ("float('inf')", "returns inf: the milliseconds of one call are asked"),
        ("0", "returns 0 ms, and every call takes some time: does the call stand between its two events?"),
        ("-1", "returns -1 ms, and every call takes some time: does the call stand between its two events?"),
        ("True", "returned bool where a number is expected"),
        ("'1 ms'", "returned str where a number is expected"),
        ("None", "returned None where a number is expected"),
        ("[1.0]", "returned list where a number is expected"),
        ("10**400", "OverflowError: int too large to convert to float"),
    ],
)
def test_what_is_no_time(result, message, grade):
    verdict = grade(PART, f"def milliseconds(call):\n    call()\n    return {result}\n").correct(PART.exercise.cases[0])
    assert (verdict.status, verdict.message) == ("fail", message)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def time(call): ...", "the file defines no function 'milliseconds': the grader calls milliseconds(call)"),
        ("def milliseconds(): ...", "but 1 was given: the grader calls milliseconds(call)"),
        (f"{ENTRY}torch.cuda.CUDAGraph()", f"asks more of torch.cuda {LACKS}"),
        (f"{ENTRY}torch.cuda._sleep(9)", f"asks more of torch.cuda {LACKS}"),
        (f"{ENTRY}torch.set_default_device('cuda'), torch.zeros(3)", f"asks more of torch.cuda {LACKS}"),
        ("import time\ndef milliseconds(call):\n    while True: time.sleep(1)", "takes more than 10 s"),
    ],
)
def test_what_is_no_benchmark(source, message, grade):
    assert message in grade(PART, source + "\n").correct(PART.exercise.cases[0]).message


def test_a_file_may_take_clocks_and_memory_when_it_is_loaded(grade):
    source = SOURCE
    for old, new in (
        ("import time\n", "from time import perf_counter\n"),
        ("end = time.perf_counter()", "end = perf_counter()"),
        ("while time.perf_counter()", "while perf_counter()"),
        ('    scratch = torch.empty(4 * l2, dtype=torch.int8, device="cuda")\n', ""),
        ("CALLS = 100\n", 'CALLS = 100\nscratch = torch.empty(2**29, device="cuda")\n'),
    ):
        assert source.count(old) == 1
        source = source.replace(old, new)
    grading = grade(PART, source)
    assert [grading.correct(case).message for case in PART.exercise.cases] == [""] * len(PART.exercise.cases)


@pytest.mark.parametrize("ms", ["1", None, [1.0], {}, 10**400])
def test_a_worker_may_tell_anything(ms):
    told = benchmark.sound({"done": "benchmark", "ms": ms})
    assert told == {"ms": 1.0, "calls": 1, "flushed": 1, "waited": 1} if ms == "1" else "error" in told


def test_what_a_worker_tells_of_its_calls_is_believed_within_limits():
    for told in ({"calls": -3, "flushed": -1, "waited": -1}, {"calls": 10**30, "flushed": 10**30, "waited": 10**30}):
        answer = benchmark.sound({"done": "benchmark", "ms": 123.0, **told})
        faults.name(answer | {"calls": max(1, answer["calls"])}, lambda ms: False, 10**6, 1)


@pytest.mark.parametrize("told", [{"kind": "bench"}, {}, {"kind": "benchmark", "inputs": print, "reference": print}])
def test_a_spec_is_of_one_kind(told):
    with pytest.raises(ValueError, match="f: kind is kernel or benchmark; a kernel has inputs and a reference"):
        Exercise(entry="f", cases=[], **told)


def test_a_benchmark_is_correct_or_not_and_nothing_more():
    assert {check.rung for check in Grading(PART, catalog.SOLUTIONS).checks()} == {"correct"}


@pytest.mark.parametrize(
    ("ms", "message"),
    [
        (0.0100, ""),
        (0.0125, ""),  # between what the two flushes leave
        (0.0141, "reads 14.1 µs for a call that takes 10 µs to 13 µs"),
        (math.nan, "returns nan: the milliseconds of one call are asked"),
    ],
)
def test_on_a_gpu_the_graders_clock_counts(ms, message, monkeypatch, grade):
    """The grader's own clock reads an interval, and a benchmark has to read within it."""
    readings = iter([[0.010, 0.012], [0.011, 0.013]])
    monkeypatch.setattr(benchmark, "clock", lambda size: next(readings))
    grading = grade(PART)
    grading.ask = lambda mode, do, case, **request: {"done": do, "ms": ms}
    grading.workers["gpu"] = type("Worker", (), {"printed": lambda self: "", "close": lambda self: None})()
    assert benchmark.judge(grading, "gpu", PART.exercise.cases[0], 0).message == message
