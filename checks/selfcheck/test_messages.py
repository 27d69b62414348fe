"""What a learner reads when something is wrong with the file, word for word: one line, and the line of the file."""

import pytest
from workbook import catalog, grader, stub
from workbook.call import Call
from workbook.exercise import case

PART = catalog.select("1.1a")[0]
SOURCE = PART.file(catalog.SOLUTIONS).read_text()
ENTRY = SOURCE[SOURCE.index("def add(x, y):") :]
BODY = "add_kernel[grid](x, y, out, n, BLOCK=BLOCK)\n    return out"
STORE = "tl.store(out_ptr + offsets, x + y, mask=mask)"


def graded(grade, *pairs, case="n=1025"):
    source = SOURCE
    for old, new in pairs:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    verdict = grade(PART, source).correct(PART.exercise.find(case))
    assert "Traceback" not in verdict.message
    return verdict


def line_of(text, source=SOURCE):
    return source[: source.index(text)].count("\n") + 1


@pytest.mark.parametrize(
    ("pairs", "status", "message"),
    [
        pytest.param(
            [("mask = offsets < n", "mask = offsets <")],
            "fail",
            f"syntax error: invalid syntax\na_add.py:{line_of('mask = offsets < n')}: mask = offsets <",
            id="syntax error",
        ),
        pytest.param(
            [("    mask = offsets < n", "   mask = offsets < n")],
            "fail",
            "wrong indentation: unindent does not match any outer indentation level\n"
            f"a_add.py:{line_of('mask = offsets < n')}: mask = offsets < n",
            id="indentation",
        ),
        pytest.param(
            [("def add(x, y)", "def plus(x, y)")],
            "fail",
            "the file defines no function 'add': the grader calls add(x, y)",
            id="missing function",
        ),
        pytest.param(
            [("def add(x, y)", "def add(x)")],
            "fail",
            "add() takes 1 positional argument but 2 were given: the grader calls add(x, y)",
            id="wrong signature",
        ),
        pytest.param(
            [("    return out", "    return None")],
            "fail",
            "returned None where a tensor is expected",
            id="returns None",
        ),
        pytest.param(
            [("    return out", "    return out[None]")],
            "fail",
            "sum has shape [1, 1025], expected [1025]",
            id="wrong shape",
        ),
        pytest.param(
            [("    return out", "    return out.half()")],
            "fail",
            "sum is float16, expected float32",
            id="wrong dtype",
        ),
        pytest.param(
            [("    return out", "    return out, out")],
            "fail",
            "returns 2 tensors, expected 1 (sum)",
            id="two results",
        ),
        pytest.param(
            [("torch.empty_like(x)", 'torch.empty(x.shape, device="cuda")')],
            "fail",
            "asks for a GPU by name: take the device from an input instead, as in `device=x.device`\n"
            f'a_add.py:{line_of("out = torch.empty_like(x)")}: out = torch.empty(x.shape, device="cuda")',
            id="wrong device",
        ),
        pytest.param(
            [(BODY, "return x + y")],
            "fail",
            "no kernel is launched: the work is asked of a Triton kernel of your own, not of torch",
            id="torch instead of a kernel",
        ),
        pytest.param(
            [("    return out", "    import os\n    os._exit(0)")],
            "fail",
            "the process ended with exit status 0 before it was done",
            id="os._exit",
        ),
        pytest.param(
            [("    return out", "    import ctypes\n    ctypes.string_at(8)")],
            "fail",
            "the process was killed by SIGSEGV before it was done: an access far out of bounds?\n"
            f"a_add.py:{line_of('    return out') + 1}: ctypes.string_at(8)",
            id="segfault",
        ),
        pytest.param(
            [("y_ptr + offsets, mask=mask", "y_ptr + offsets + 2**40, mask=mask")],
            "fail",
            "out-of-bounds load, line 20: program 0, lane 0: element 1099511627776 of y_ptr, which has 1025; "
            "1024 of 1024 lanes are outside\na_add.py:20: y = tl.load(y_ptr + offsets + 2**40, mask=mask)",
            id="far pointer",
        ),
        pytest.param(
            [("    n, BLOCK = x.numel(), 1024", "    n, BLOCK = x.numel(), 1024\n    raise SystemExit")],
            "fail",
            f"SystemExit\na_add.py:{line_of('    n, BLOCK') + 1}: raise SystemExit",
            id="SystemExit",
        ),
        pytest.param(
            [(STORE, STORE.replace("x + y", "x + z"))],
            "fail",
            f"NameError: name 'z' is not defined\na_add.py:{line_of(STORE)}: {STORE.replace('x + y', 'x + z')}",
            id="unknown name in a kernel",
        ),
        pytest.param(
            [("n, BLOCK=BLOCK)", "n)")],
            "fail",
            "TypeError: add_kernel() missing 1 required positional argument: 'BLOCK'\n"
            f"a_add.py:{line_of('add_kernel[grid]')}: add_kernel[grid](x, y, out, n)",
            id="argument missing at the launch",
        ),
        pytest.param(
            [("mask = offsets < n", "mask = offsets <= n")],
            "fail",
            "out-of-bounds load, line 19: program 1, lane 1: element 1025 of x_ptr, which has 1025; "
            "1 of 1024 lanes is outside\na_add.py:19: x = tl.load(x_ptr + offsets, mask=mask)",
            id="mask too wide",
        ),
    ],
)
def test_one_clear_line(grade, pairs, status, message):
    verdict = graded(grade, *pairs)
    assert (verdict.status, verdict.message) == (status, message)


@pytest.mark.parametrize(
    ("place", "loop"),
    [
        ("    return out", "    while True:\n        pass"),
        (STORE, "while n > 0:\n        x += y\n    " + STORE),
    ],
    ids=["host", "kernel"],
)
def test_endless_loop(grade, monkeypatch, place, loop):
    monkeypatch.setitem(grader.DEADLINE, "interpret", 2.0)
    verdict = graded(grade, (place, loop))
    sentence, where = verdict.message.splitlines()
    assert sentence == "no answer within 2 s: an endless loop?"
    assert where.startswith("a_add.py:")


def test_compile_error_names_the_line(grade):
    wrong = STORE.replace("x + y", "x + y[:, None, None, None] @ 3")
    verdict = grade(PART, SOURCE.replace(STORE, wrong)).compiles(90)
    assert verdict.status == "fail"
    assert verdict.message.splitlines()[-1] == f"a_add.py:{line_of(STORE)}: {wrong}"


def test_too_much_shared_memory_is_said_in_bytes(grade):
    tiles = "tl.dot(tl.zeros((256, 256), tl.float32), tl.zeros((256, 256), tl.float32))"
    source = SOURCE.replace(STORE, f"x += tl.sum(tl.sum({tiles}, 1), 0)\n    {STORE}")
    verdict = grade(PART, source).compiles(80)
    assert verdict.status in ("pass", "fail")


def test_not_utf8(grade, tmp_path):
    grading = grade(PART, SOURCE)
    grading.file.write_bytes(b"\xff\xfe\x00 = 1")
    verdict = grading.correct(PART.exercise.cases[0])
    assert verdict.message == "the file is not UTF-8 text"


def test_missing_file(grade):
    grading = grade(PART, SOURCE)
    grading.file.unlink()
    assert next(grading.checks()).run().message == ("there is no file a_add.py: `make reset EX=1.1a` lays it")


def test_next_check_goes_on_after_a_death(grade):
    grading = grade(
        PART, SOURCE.replace("    return out", "    import os\n    if n == 1:\n        os._exit(3)\n    return out")
    )
    assert grading.correct(PART.exercise.find("n=1")).status == "fail"
    assert grading.correct(PART.exercise.find("n=1023")).status == "pass"


def test_what_the_learner_prints_is_kept(grade):
    verdict = graded(grade, ("    n, BLOCK", '    print("n is", x.numel())\n    n, BLOCK'))
    assert verdict.status == "pass"
    assert verdict.printed == "n is 1025\n"


def test_lanes_that_no_other_fills_are_named(grade):
    row = catalog.select("1.2c")[0]
    source = row.file(catalog.SOLUTIONS).read_text().replace("mask=mask, other=0.0)", "mask=mask)")
    verdict = grade(row, source).correct(row.exercise.find("m=5,n=1000"))
    line = line_of("x = tl.load", source)
    assert verdict.message.endswith(
        f"; line {line} loads without `other`, so that lanes outside its mask hold anything"
    )


def test_a_number_of_warps_that_no_gpu_takes(grade):
    launch = "add_kernel[grid](x, y, out, n, BLOCK=BLOCK)"
    verdict = graded(grade, (launch, launch[:-1] + ", num_warps=0)"))
    assert verdict.message.startswith("ValueError: num_warps is 0, it has to be one of 1, 2, 4, 8, 16, 32\na_add.py:")


def test_what_the_learner_prints_before_an_error_is_kept(grade):
    verdict = graded(grade, ("    n, BLOCK", '    print("n is", x.numel())\n    x = None\n    n, BLOCK'))
    assert verdict.status == "fail"
    assert verdict.printed == "n is 1025\n"


STRIDED = catalog.select("2.2a")[0]


def predicted(grade, body):
    """The verdict on 2.2a with this for a body of predicted_share, and where it stands."""
    source = stub.fill(STRIDED.file(catalog.SOLUTIONS).read_text(), {3: body})
    return grade(STRIDED, source).predicts(), f"\na_strided_access.py:{line_of(body, source)}: {body}"


@pytest.mark.parametrize(
    ("body", "message", "quoted"),
    [
        ("pass", "returned None where a number is expected", False),
        ('return "all of it"', "returned str where a number is expected", False),
        ("return 1 / 0", "ZeroDivisionError: division by zero", True),
        ("return 10**400", "OverflowError: int too large to convert to float", False),
        (
            "return 0",
            "predicted_share(stride=1, itemsize=4) is 0.0, the trace shows 1.0: "
            "4,096 bytes in use in 128 sectors of 32 bytes",
            False,
        ),
        (
            'return float("nan")',
            "predicted_share(stride=1, itemsize=4) is nan, the trace shows 1.0: "
            "4,096 bytes in use in 128 sectors of 32 bytes",
            False,
        ),
        (
            "return round(1 / stride, 4)",
            "predicted_share(stride=3, itemsize=4) is 0.3333, the trace shows 0.3333333333333333: "
            "4,096 bytes in use in 384 sectors of 32 bytes: do not round",
            False,
        ),
    ],
    ids=["None", "text", "exception", "huge", "zero", "NaN", "rounded"],
)
def test_prediction(grade, body, message, quoted):
    verdict, where = predicted(grade, body)
    assert (verdict.status, verdict.message) == ("fail", message + where * quoted)


def test_endless_prediction(grade, monkeypatch):
    monkeypatch.setitem(grader.DEADLINE, "interpret", 2.0)
    verdict, where = predicted(grade, "while True: pass")
    assert verdict.message == "no answer within 2 s: an endless loop?" + where


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        (
            "def share(stride, itemsize)",
            "the file defines no function 'predicted_share': the grader calls predicted_share(stride, itemsize)",
        ),
        (
            "def predicted_share(stride)",
            "predicted_share() takes 1 positional argument but 2 were given: "
            "the grader calls predicted_share(stride, itemsize)",
        ),
    ],
    ids=["missing", "signature"],
)
def test_prediction_that_cannot_be_asked(grade, definition, message):
    source = STRIDED.file(catalog.SOLUTIONS).read_text()
    source = source.replace("def predicted_share(stride, itemsize)", definition)
    assert grade(STRIDED, source).predicts().message == message


@pytest.mark.parametrize("stride", [0, -2])
def test_refused_stride(grade, stride):
    """The given lines of 2.2a say what is wrong with it, on the way to the launch."""
    grading = grade(STRIDED)
    with Call(grading, "interpret", case(n=5, stride=1)) as call:
        call.args[1] = stride
        verdict = grading.told("interpret", call.run()["error"])
    assert verdict.message.splitlines()[0] == f"ValueError: the stride is {stride}, it has to be at least 1"
