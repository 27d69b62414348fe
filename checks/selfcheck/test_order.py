"""What programs that run together load, counted: bytes in common once, and programs in the order a GPU starts them."""

import numpy as np
import pytest
from workbook.order import Windows, union


def intervals(*pairs):
    return [(np.array([start]), np.array([end])) for start, end in pairs]


@pytest.mark.parametrize(
    ("pairs", "size"),
    [
        ([], 0),
        ([(0, 8)], 8),
        ([(0, 8), (0, 8)], 8),
        ([(0, 8), (8, 16)], 16),
        ([(8, 16), (0, 12)], 16),
        ([(0, 100), (10, 20), (30, 40), (90, 110)], 110),
        ([(5, 6), (0, 1), (3, 4)], 3),
    ],
)
def test_union(pairs, size):
    assert union(intervals(*pairs)) == size


def test_runs_of_one_access_are_counted_too():
    assert union([(np.array([0, 64]), np.array([32, 96])), (np.array([16]), np.array([80]))]) == 96


def windows(programs, grid, *started):
    found = Windows(programs)
    for program, pair in started:
        found.begin(grid, program)
        [(starts, ends)] = intervals(pair)
        found.load(starts, ends)
    return found.facts()


def test_axis_0_counts_first():
    """The interpreter runs (0, 1, 0) before (1, 0, 0); a GPU does not."""
    grid = (2, 2, 1)
    order = [((0, 0, 0), (0, 32)), ((0, 1, 0), (64, 96)), ((1, 0, 0), (0, 32)), ((1, 1, 0), (64, 96))]
    assert windows(2, grid, *order) == {"bytes": 128, "distinct": 64}


def test_a_window_that_is_not_full_counts_only_alone():
    line = [((x, 0, 0), (0, 32)) for x in range(3)]
    assert windows(2, (3, 1, 1), *line) == {"bytes": 64, "distinct": 32}
    assert windows(4, (3, 1, 1), *line) == {"bytes": 96, "distinct": 32}
