"""Agreement and its explanations, word for word."""

import pytest
import torch
from workbook import compare, oracle
from workbook.exercise import Exercise, case, normal


def explained(actual, expected, before=None, name="out", yardstick=None):
    expected = expected.double() if expected.dtype.is_floating_point else expected
    yardstick = expected.to(actual.dtype) if yardstick is None else yardstick
    before = torch.full_like(actual, 77) if before is None else before
    found = compare.explain(name, actual, expected, yardstick, actual.to("meta"), before, {})
    return found and found.message


def numbers(*shape, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(dtype)


E, M = numbers(3000), numbers(50, 50)
LAST_COLUMNS = (slice(None), slice(47, None))
LOOK = "look at the mask and at the grid"


def changed(t, where, value):
    t = t.clone()
    t[where] = value
    return t


@pytest.mark.parametrize(
    ("actual", "expected", "ending"),
    [
        (changed(E, slice(2048, None), 0.0), E, "only the tail is wrong, from element 2,048 on: " + LOOK),
        (changed(E, slice(1024, 2048), 0.0), E, "whole blocks of 1,024 are wrong, the first from element 1,024 on"),
        (2 * E, E, "the result is 2 times what is expected"),
        (E.roll(1), E, "the result is right but shifted by one element"),
        (-E, E, "every sign is flipped"),
        (0 * E, E, "the result is all zeros"),
        (M.t().contiguous(), M, "the elements stand in the order of the transposed matrix"),
        (changed(M, LAST_COLUMNS, 0.0), M, "only the columns from 47 on are wrong: the tail of each row"),
        (changed(M, 7, 0.0), M, "only row 7 is wrong"),
        (changed(M, (slice(None), 3), 0.0), M, "only column 3 is wrong"),
    ],
)  # fmt: skip
def test_patterns(actual, expected, ending):
    assert explained(actual, expected).endswith("; " + ending)


def test_never_written():
    assert explained(changed(E, slice(2999, None), 77.0), E) == (
        "1 of 3,000 elements was never written, the first is out[2999]; "
        "only the tail is wrong, from element 2,999 on: look at the mask and at the grid"
    )


def test_bytes_that_agree_by_chance_are_no_gap():
    expected = torch.arange(1.0, 70_001.0, dtype=torch.float64)
    before = torch.full((70_000,), 7.0, dtype=torch.bfloat16)
    wrong = (-expected).bfloat16()
    wrong[100] = 7.0  # one of 70,000, where one in 65,536 does
    promise = torch.empty(70_000, dtype=torch.bfloat16, device="meta")
    found = compare.explain("out", wrong, expected, expected.bfloat16(), promise, before, {})
    assert found and "never written" not in found.message


def test_what_lay_there_may_be_right():
    assert explained(changed(E, 5, 77.0), changed(E, 5, 77.0)) is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_classes_come_first(value):
    assert explained(changed(E, 5, value), E).startswith("1 of 3,000 elements of out is wrong; out[5] is ")
    assert explained(E, changed(E, 5, value)).startswith("1 of 3,000 elements of out is wrong; out[5] is ")
    assert explained(changed(E, 5, value), changed(E, 5, value)) is None


def test_inf_with_the_wrong_sign():
    assert explained(changed(E, 5, float("inf")), changed(E, 5, -float("inf"))).endswith("out[5] is inf, expected -inf")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_rounding_passes_and_one_wrong_element_does_not(dtype):
    e = numbers(1 << 20)
    assert explained(e.to(dtype), e) is None
    assert explained(changed(e.to(dtype), 777_777, 5.0), e) is not None


def test_lost_digits_do_not_pass():
    e = numbers(4096)
    assert explained(e.bfloat16().float(), e) is not None
    assert explained((e.double() * (1 + 3e-6)).float(), e) is not None


def test_twice_the_yardstick_is_allowed():
    e = numbers(4096)
    yardstick = (e.double() * (1 + 1e-3)).float()
    assert explained((e.double() * (1 + 1.9e-3)).float(), e, yardstick=yardstick) is None
    assert explained((e.double() * (1 + 2.1e-3)).float(), e, yardstick=yardstick) is not None


def test_integers_are_exact():
    i = torch.arange(10)
    assert explained(i, i) is None
    assert explained(changed(i, 3, 9), i) == "1 of 10 elements of out is wrong; out[3] is 9, expected 3"


def test_shape_and_dtype():
    e = E.double()
    found = compare.explain("sum", E[None], e, E, E.to("meta"), E[None], {})
    assert found.message == "sum has shape [1, 3000], expected [3000]"
    found = compare.explain("out", M.t(), M.double(), M, M.to("meta"), M, {})
    assert found.message == "out is not contiguous: its strides are [1, 50]"
    found = compare.explain("sum", E.half(), e, E, E.to("meta"), E.half(), {})
    assert found.message == "sum is float16, expected float32"


def test_a_spec_may_override_the_floor():
    promised, before = E.to("meta"), torch.zeros_like(E)
    actual = (E.double() * (1 + 1e-4)).float()
    assert compare.explain("out", actual, E.double(), E, promised, before, {}) is not None
    assert compare.explain("out", actual, E.double(), E, promised, before, {torch.float32: 1e-3}) is None


def test_empty_and_scalar():
    assert explained(torch.empty(0), torch.empty(0)) is None
    assert explained(torch.tensor(3.0), torch.tensor(4.0)).endswith("out is 3, expected 4")


def wrong_in_one(t, value):
    t = t.clone()
    t[3, 4] = value
    return t


@pytest.mark.parametrize(
    ("spoil", "near"),
    [
        (lambda t: t, True),
        (lambda t: t * (1 + 2e-7), True),
        (lambda t: t.half().float(), False),
        (lambda t: wrong_in_one(t, t[3, 4] + 1), False),
        (lambda t: wrong_in_one(t, torch.nan), False),
        (lambda t: wrong_in_one(t, torch.inf), False),
        (lambda t: torch.cat([t[:-1], t[:1]]), False),
        (lambda t: t[:, :-1], False),
        (lambda t: t.int(), False),
    ],
)
def test_what_is_quickly_said_to_be_right_is_right(spoil, near):
    exercise = Exercise(entry="twice", inputs=lambda n: [normal(n, n)], reference=lambda x: 2 * x, cases=[case(n=300)])
    inputs = exercise.inputs(300)
    assert oracle.near(exercise, inputs, [spoil(2 * inputs[0])]) == near


def test_what_is_not_finite_is_left_to_the_oracle():
    exercise = Exercise(entry="twice", inputs=lambda n: [normal(n, n)], reference=lambda x: 2 * x, cases=[case(n=9)])
    x = torch.full((9, 9), 60_000.0, dtype=torch.float16)
    assert not oracle.near(exercise, [x], [2 * x])
    x = wrong_in_one(torch.ones(9, 9), torch.inf)
    assert not oracle.near(exercise, [x], [2 * x])
