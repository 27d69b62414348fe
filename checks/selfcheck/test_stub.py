"""Solution -> stub."""

import pytest
from workbook import stub

SOLUTION = """import triton


@triton.jit
def kernel(x_ptr):
    # TODO: load.
    ### BEGIN SOLUTION
    x = 1
    y = 2
    ### END SOLUTION


def entry(x):
    if x:
        # TODO: launch.
        ### BEGIN SOLUTION
        kernel[(1,)](x)
        ### END SOLUTION
    return x


# TODO: a whole kernel.
### BEGIN SOLUTION
@triton.jit
def second(x_ptr):
    pass
### END SOLUTION
"""


def test_derive():
    assert (
        stub.derive(SOLUTION, "9.9z")
        == """import triton


@triton.jit
def kernel(x_ptr):
    # TODO: load.
    tl.static_assert(False, "TODO 9.9z, blank 1")


def entry(x):
    if x:
        # TODO: launch.
        raise NotImplementedError("TODO 9.9z, blank 2")
    return x


# TODO: a whole kernel.
raise NotImplementedError("TODO 9.9z, blank 3")
"""
    )


def test_one_blank():
    derived = stub.derive(SOLUTION, "9.9z", only=2)
    assert derived.count("TODO 9.9z") == 1
    assert 'raise NotImplementedError("TODO 9.9z, blank 2")' in derived
    assert "    x = 1\n    y = 2\n" in derived


def test_gluon_has_its_own_assert():
    assert "gl.static_assert(False" in stub.derive(SOLUTION.replace("@triton.jit", "@gluon.jit"), "9.9z")


def test_fill():
    filled = stub.fill(SOLUTION, {2: "\n            for _ in range(2):\n                kernel[(1,)](x)\n        "})
    assert (
        "    if x:\n        # TODO: launch.\n        for _ in range(2):\n            kernel[(1,)](x)\n    return x"
        in filled
    )
    assert "    x = 1\n    y = 2\n" in filled


def test_fill_knows_its_blanks():
    with pytest.raises(ValueError, match="no blank 4; the solution has 3"):
        stub.fill(SOLUTION, {4: "pass"})


def test_marks_must_pair():
    with pytest.raises(ValueError, match="do not pair"):
        stub.derive(SOLUTION.replace("        ### END SOLUTION\n    return", "    return"), "9.9z")
    with pytest.raises(ValueError, match="do not pair"):
        stub.derive("x = 1\n", "9.9z")
