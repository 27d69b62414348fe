"""A part with two entries, and with calls that it refuses."""

import pytest
import torch
from workbook import compiles, drawing, gather
from workbook import words as report_words
from workbook.catalog import Part
from workbook.exercise import Entry, Exercise, Moves, case, gradients, normal

SOURCE = '''"""Square."""

import torch
import triton
import triton.language as tl


@triton.jit
def square_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offsets, mask=offsets < n)
    tl.store(out_ptr + offsets, x * x, mask=offsets < n)


@triton.jit
def backward_kernel(dy_ptr, x_ptr, dx_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offsets, mask=offsets < n)
    dy = tl.load(dy_ptr + offsets, mask=offsets < n)
    tl.store(dx_ptr + offsets, 2 * x * dy, mask=offsets < n)


def square(x):
    if x.dim() != 1:
        raise ValueError(f"x has {x.dim()} dimensions: one is asked")
    out = torch.empty_like(x)
    square_kernel[(triton.cdiv(len(x), 1024),)](x, out, len(x), BLOCK=1024)
    return out


def square_backward(dy, x):
    dx = torch.empty_like(x)
    backward_kernel[(triton.cdiv(len(x), 1024),)](dy, x, dx, len(x), BLOCK=1024)
    return dx
'''
BACKWARD = case(entry="square_backward", n=2000)
PART = Part("3_fusion/9_entries/a_square.py")
PART.__dict__["exercise"] = EXERCISE = Exercise(
    entry="square",
    inputs=lambda n, shape=None: [normal(*(shape or [n]))],
    reference=lambda x: x * x,
    outputs=("square",),
    also={
        "square_backward": Entry(
            inputs=lambda n: [normal(n), normal(n)],
            reference=lambda dy, x: gradients(lambda x: x * x, [x], dy),
            outputs=("dx",),
        )
    },
    cases=[case(n=7), BACKWARD],
    refuses=[case(n=0, shape=(2, 3))],
    moves=[Moves(case(n=4096), bytes=lambda x: 2 * x.nbytes), Moves(BACKWARD, bytes=lambda dy, x: 3 * x.nbytes)],
)


def verdicts(grade, *edits):
    source = SOURCE
    for old, new in edits:
        assert source.count(old) == 1
        source = source.replace(old, new)
    return {check.name: check.run() for check in grade(PART, source).checks()}


def test_all_pass(grade):
    found = verdicts(grade)
    assert {name for name, v in found.items() if v.status != "pass"} == set(), found
    assert {"correct square_backward,n=2000", "correct refuses n=0,shape=(2, 3)", "moves n=4096"} < set(found)
    assert "moves square_backward,n=2000" in found


def test_a_wrong_backward_fails_where_it_is_asked(grade):
    found = verdicts(grade, ("2 * x * dy", "x * dy"))
    assert found["correct n=7"].status == "pass"
    wrong = found["correct square_backward,n=2000"]
    assert wrong.status == "fail" and "dx" in wrong.message and "0.5 times" in wrong.message
    assert found["moves n=4096"].status == "pass" and found["moves square_backward,n=2000"].status == "fail"


def test_a_missing_entry_is_named_with_its_own_arguments(grade):
    found = verdicts(grade, ("def square_backward(", "def other("))
    assert "the grader calls square_backward(dy, x)" in found["correct square_backward,n=2000"].message


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (("raise ValueError(", "print("), "accepts n=0,shape=(2, 3), which is to raise ValueError"),
        (("raise ValueError(", "raise TypeError("), "is to raise ValueError, and fails otherwise: TypeError: x has 2"),
    ],
)
def test_what_is_to_be_refused(grade, edit, words):
    verdict = verdicts(grade, edit)["correct refuses n=0,shape=(2, 3)"]
    assert verdict.status == "fail" and words in verdict.message


def test_a_case_of_no_entry_is_a_fault_of_the_spec():
    with pytest.raises(ValueError, match="square: `also` holds no cube, which a case names"):
        Exercise(entry="square", inputs=len, reference=len, cases=[case(entry="cube", n=1)])


def test_each_call_is_inspected(tmp_path, capsys):
    file = PART.file(tmp_path)
    file.parent.mkdir(parents=True)
    file.write_text(SOURCE)
    found = gather.gather(PART, tmp_path)
    assert [call.case for call in found.calls] == [wanted.case for wanted in EXERCISE.moves]
    assert [len(call.accesses) for call in found.calls] == [2, 3]
    drawing.show(found)
    told = capsys.readouterr().out
    assert "one call, n=4096" in told and "one call, square_backward,n=2000" in told
    assert "tl.load(dy_ptr" in told


def test_gradients_are_those_of_every_input():
    x, w = (torch.randn(3, 4, dtype=torch.float64) for _ in range(2))
    dx, dw = gradients(lambda x, w: x * w, [x, w], torch.ones(3, 4, dtype=torch.float64))
    assert torch.equal(dx, w) and torch.equal(dw, x)


def test_what_spills_or_is_too_large_is_told_with_its_case():
    kernel = {"kernel": "k", "shared": 0, "spills": 0}
    assert compiles.judge([("n=1", kernel)], 80).message == ""
    spilling = compiles.judge([("n=1", kernel), ("n=2", kernel | {"spills": 8})], 80)
    assert spilling.status == "pass"
    assert spilling.message == "k spills 8 bytes of registers for n=2: smaller tiles, or more warps, spill less"
    large = compiles.judge([("n=2", kernel | {"shared": 101_377})], 86)
    assert large.status == "fail" and "bytes of shared memory for n=2, 1 more than the 101,376" in large.message


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("Input shapes should have M >= 1, N >= 1 and K >= 16", "too narrow: the dimension that is summed over has at"),
        (
            "function SquareBackward returned an incorrect number of gradients (expected 4, got 3)",
            "the backward returns too few gradients: one for each argument of the forward, None for",
        ),
        ("Pending unbacked symbols {u0} in returned outputs", "no branch in it may depend on what a tensor holds"),
        (
            "wrap_triton only works on kernels\n\n  Explanation: torch._dynamo ...",
            "Error: wrap_triton only works on kern",
        ),
    ],
)
def test_what_torch_and_triton_say_is_said_in_other_words(tmp_path, message, words):
    error = {"type": "RuntimeError", "message": message, "line": None}
    told = report_words.told(error, PART, EXERCISE, tmp_path / "a_square.py").message
    assert words in told and "Hint" not in told


def test_a_product_that_no_tensor_core_takes_is_refused(grade):
    narrow = "x = tl.load(x_ptr + offsets, mask=offsets < n)\n    tl.store(out_ptr + offsets, x * x,"
    edit = (narrow, narrow.replace("x * x", "tl.sum(tl.dot(x[:, None], x[None, :]), 1)"))
    found = verdicts(
        grade, edit, ("(len(x), 1024),)](x, out, len(x), BLOCK=1024)", "(len(x), 16),)](x, out, len(x), BLOCK=16)")
    )
    assert "the dimension that is summed over has at least 16" in found["correct n=7"].message
