"""Triton's interpreter, repaired and observed: results bit for bit, traces number for number."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

KERNELS = Path(__file__).with_name("interpreted.py")


@pytest.fixture(scope="module")
def interpreted():
    """What interpreted.py prints: {function: what it returned, or the error it raised}."""
    env = dict(os.environ, TRITON_INTERPRET="1")
    env["PYTHONPATH"] = os.pathsep.join([env.get("PYTHONPATH", ""), str(KERNELS.parent.parent)])
    run = subprocess.run([sys.executable, KERNELS], env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def line_of(comment: str) -> int:
    return next(n for n, line in enumerate(KERNELS.read_text().splitlines(), 1) if line.endswith(f"# {comment}"))


def error(type_: str, message: str, comment: str) -> dict:
    return dict(type=type_, message=message, line=line_of(comment), launching=False)


def out_of_bounds(message: str, comment: str, kind: str = "load") -> dict:
    return error("OutOfBounds", f"out-of-bounds {kind}, line {line_of(comment)}: {message}", comment)


def race(message: str, comment: str) -> dict:
    line = line_of(comment)
    return dict(kind="race", line=line, message=f"race, line {line}: {message}")


def counts(facts: dict) -> dict:
    """{(line, kind, arg): (bytes, sectors, useful, times)}"""
    columns = ("bytes", "sectors", "useful", "times")
    return {(f["line"], f["kind"], f["arg"]): tuple(f[c] for c in columns) for f in facts["lines"]}


@pytest.mark.parametrize(
    ("function", "comparisons"),
    [("bf16_arithmetic", 9), ("casts", 16), ("bf16_reductions", 3), ("libdevice_functions", 26)],
)
def test_results_are_torchs_bit_for_bit(interpreted, function, comparisons):
    differences = interpreted[function]
    assert len(differences) == comparisons
    assert not any(differences.values()), differences


def test_fp8_saturates_and_keeps_nan(interpreted):
    assert interpreted["fp8_saturates"] == {
        "torch.float8_e4m3fn": "[448.0, -448.0, 448.0, nan]",
        "torch.float8_e5m2": "[57344.0, -57344.0, 57344.0, nan]",
    }


def test_dot_multiplies_the_values_and_counts_flops(interpreted):
    exact = dict.fromkeys(("torch.bfloat16", "torch.float16", "torch.float8_e4m3fn", "torch.float8_e5m2"), 0)
    assert interpreted["dots"] == exact | {"flops": 2 * 32**3}


def test_fma_rounds_once_and_maximum_ignores_nan(interpreted):
    x = 1 + 2**-12  # its square needs 25 bits, so that fma(x, x, -fl(x * x)) is the rounding error 2**-24
    assert interpreted["fma_rounds_once_and_maximum_ignores_nan"] == [2**-24, x, x]


def test_a_global_constant_may_stand_left_of_a_block(interpreted):
    assert interpreted["constants_meet_blocks"] == [0.125, 1.0, 0.25, -1.5, 1.25, -0.25]


def test_atomic_add_takes_lanes_in_turn(interpreted):
    expected = [[5.5, 2.5], [0.5, 0.5, 1.5]]
    assert interpreted["atomic_adds"] == dict.fromkeys(("torch.bfloat16", "torch.float16", "torch.float32"), expected)


def test_libdevice_is_reached_by_any_name(interpreted):
    assert interpreted["libdevice_by_any_name"] == 0


def test_libdevice_refuses_what_the_compiler_refuses(interpreted):
    message = "libdevice.tanh takes no fp16: convert with .to(tl.float32) first"
    assert interpreted["libdevice_of_fp16"] == error("TypeError", message, "libdevice")
    message = "libdevice's __nv_j0f cannot be interpreted, only compiled for a GPU"
    expected = error("NotImplementedError", message, "libdevice")
    assert interpreted["libdevice_function_that_is_missing"] == expected


def test_device_assert_fires(interpreted):
    assert interpreted["device_assert_holds"] is None
    assert interpreted["device_assert_fires"] == error("AssertionError", "x must be below 4", "asserts")


def test_an_open_blank_says_which(interpreted):
    assert interpreted["static_assert_fires"] == error("AssertionError", "TODO 1.1a, blank 1", "blank")


def test_autotune_takes_the_first_configuration_that_pruning_left(interpreted):
    assert interpreted["autotune"] == 4 * 16 + 32


def test_run_time_loops_booleans_and_early_return(interpreted):
    assert interpreted["control_flow"] == [105] * 6 + [0, 0]


def test_trace_of_add(interpreted):
    facts = interpreted["trace_of_add"]
    assert facts["launches"] == [dict(kernel="add_kernel", grid=[4, 1, 1], programs=4)]
    assert counts(facts) == {
        (line_of("add loads x"), "load", "x_ptr"): (4000, 125, 4000, 4),
        (line_of("add loads y"), "load", "y_ptr"): (4000, 125, 4000, 4),
        (line_of("add stores"), "store", "out_ptr"): (4000, 125, 4000, 4),
    }
    # of four programs of 256 lanes, the last of which are masked off
    assert (facts["flops"], facts["elementwise"], facts["findings"]) == (0, 4 * 256, [])


def test_operations_are_counted(interpreted):
    """Each of three programs: a sum, a max, a product and a running sum of 64; 64 exps and fmas; three on one number.

    The sum of the integers is none.
    """
    assert interpreted["operations"] == 3 * (4 * 63 + 64 + 2 * 64 + 3)


def test_trace_of_patterns(interpreted):
    assert counts(interpreted["trace_of_patterns"]) == {
        (line_of("tile loads"), "load", "x_ptr"): (4096, 128, 4096, 1),
        (line_of("transposed tile stores"), "store", "out_ptr"): (4096, 128, 4096, 1),
        (line_of("helper loads"), "load", "x_ptr"): (128, 32, 128, 1),
        (line_of("one element"), "load", "x_ptr"): (128, 1, 4, 1),
        (line_of("scalar loads"), "load", "x_ptr"): (4, 1, 4, 1),
        (line_of("atomic block"), "atomic", "out_ptr"): (128, 4, 128, 1),
        (line_of("atomic scalar"), "atomic", "out_ptr"): (4, 1, 4, 1),
    }


def test_trace_of_descriptors_counts_what_they_clip_to(interpreted):
    facts = interpreted["trace_of_descriptors"]
    assert counts(facts) == {
        (line_of("descriptor loads"), "load", "x_ptr"): (3840, 120, 3840, 6),
        (line_of("descriptor stores"), "store", "out"): (3840, 120, 3840, 6),
    }
    assert facts["difference"] == 0


def test_trace_of_a_gather(interpreted):
    facts = interpreted["trace_of_gather"]
    assert counts(facts)[line_of("gathers"), "load", "x"] == (512, 16, 512, 8)
    assert facts["difference"] == 0


def test_pointers_from_a_table_and_chosen_pointers_are_followed(interpreted):
    table = {"table_ptr": 16, "an integer's memory": 512, "out_ptr": 512, "difference": 0}
    assert interpreted["trace_of_a_pointer_table"] == table
    assert interpreted["trace_of_chosen_pointers"] == {"x_ptr": 16, "y_ptr": 48, "out_ptr": 64, "sum": 12.0}


@pytest.mark.parametrize(
    ("function", "kind", "comment", "message"),
    [
        (
            "load_past_the_end",
            "load",
            "unmasked",
            "program 3, lane 928: element 4000 of x_ptr, which has 4000; 96 of 1024 lanes are outside",
        ),
        (
            "load_into_a_neighbour",
            "load",
            "unmasked",
            "program 1, lane 0: element 512 of x_ptr, which has 512; 512 of 512 lanes are outside",
        ),
        (
            "an_allocation_is_larger_than_its_view",
            "load",
            "unmasked",
            "program 3, lane 1023: element 4095 of x_ptr, which has 4000; 1 of 1024 lanes is outside",
        ),
        (
            "descriptor_past_its_tensor",
            "load",
            "descriptor loads",
            "program (2, 0), lane (8, 0): element 960 of x_ptr, which has 960; 128 of 256 lanes are outside",
        ),
        (
            "store_before_the_begin",
            "store",
            "one before",
            "program 0, lane (0, 0): element -1 of x_ptr, which has 64; 1 of 64 lanes is outside",
        ),
        (
            "scalar_atomic_past_the_end",
            "atomic",
            "scalar atomic",
            "program (0, 0): element 5 of x_ptr, which has 5",
        ),
    ],
)
def test_out_of_bounds(interpreted, function, kind, comment, message):
    assert interpreted[function] == out_of_bounds(message, comment, kind)


def test_a_store_out_of_bounds_does_not_happen(interpreted):
    line = line_of("unmasked")
    assert interpreted["store_past_the_end_of_a_part"] == dict(
        message=f"out-of-bounds store, line {line}: program 3, lane 928: "
        "element 4000 of out_ptr, which has 4000; 96 of 1024 lanes are outside",
        before=3072.0,
        after=0.0,
    )


def test_two_programs_may_store_one_value_but_not_two(interpreted):
    message = "programs 0 and 1 both store to element 0 of out_ptr, with different values"
    assert interpreted["race_of_two_stores"] == [race(message, "same place")]
    assert interpreted["stores_of_one_value"] == []


def test_a_race_in_a_grid_of_two_dimensions(interpreted):
    message = "programs (0, 0) and (1, 0) both store to element 960 of x_ptr, with different values"
    assert interpreted["race_of_two_tiles"] == [race(message, "tiles overlap")]


def test_a_kernel_in_place_may_race_with_itself(interpreted):
    load, store = line_of("shift loads"), line_of("shift stores")
    up = (
        f"race, line {load}: program 1 loads element 256 of x_ptr, which program 0 stores at "
        f"line {store}: on a GPU either may come first"
    )
    down = (
        f"race, line {store}: program 1 stores to element 255 of out_ptr, which program 0 loads at "
        f"line {load}: on a GPU either may come first"
    )
    assert interpreted["races_in_place"] == [[up], [down], []]


def test_a_lock_orders_programs(interpreted):
    assert interpreted["a_lock_orders_programs"] == dict(total=6.0, findings=[])
