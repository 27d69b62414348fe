"""Verdicts on a speed, on clocks that the tests make up; the real ones are measured on a GPU (checks/measured/)."""

import pytest
from workbook import catalog, oracle, timing
from workbook.session import Session


def test_interval_of_quiet_rounds_is_narrow():
    share, low, high = timing.interval([0.93, 0.94, 0.93, 0.94, 0.93, 0.93, 0.94])
    assert low <= share <= high
    assert high - low <= 0.011


def test_interval_of_noisy_rounds_is_wide():
    _, low, high = timing.interval([0.5, 0.95, 0.6, 0.92, 0.55, 0.9, 0.97])
    assert low < 0.7 < 0.9 <= high


def test_nothing_is_timed_in_the_interpreter(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert timing.refusal().startswith("TRITON_INTERPRET=1 is set")
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    assert timing.refusal() == ""


@pytest.mark.parametrize(
    ("low", "high", "status"),
    [(0.91, 0.95, "pass"), (0.90, 0.95, "pass"), (0.80, 0.89, "fail"), (0.85, 0.95, "inconclusive")],
)
def test_verdict(low, high, status):
    assert timing.status(low, high, 0.90) == status


def test_a_place_for_a_result_is_contiguous_however_the_reference_strides_its_own(grade):
    [part] = catalog.select("3.2d")
    session = Session(grade(part), part.exercise.speed[0])
    turned = oracle.promised(part.exercise, session.inputs)
    assert not all(t.is_contiguous() for t in turned)  # dk, which autograd finds through k.mT
    assert [t.shape for t in session.promised] == [t.shape for t in turned]
    assert all(t.is_contiguous() for t in session.promised)
