"""What launches compile to without a GPU, and the table of devices."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from workbook import devices

KERNELS = Path(__file__).with_name("compiled.py")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """What compiled.py prints: {host function: {arch: facts of each launch}}."""
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    env["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("triton"))
    env["PYTHONPATH"] = os.pathsep.join([str(KERNELS.parent.parent), env.get("PYTHONPATH", "")])
    run = subprocess.run([sys.executable, KERNELS], env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def line_of(text: str) -> int:
    return next(n for n, line in enumerate(KERNELS.read_text().splitlines(), 1) if text in line)


def widths(facts: dict) -> dict[tuple[int, str], int]:
    return {(a["line"], a["op"]): a["bits"] for a in facts["access"]}


LOAD_X, LOAD_Y = (line_of("# x is loaded"), "load"), (line_of("# y is loaded"), "load")
STORE = (line_of("# y is loaded"), "store")


@pytest.mark.parametrize("arch", ["80", "90"])
def test_aligned_tensors_move_in_128_bits(compiled, arch):
    [facts] = compiled["aligned"][arch]
    assert widths(facts) == {LOAD_X: 128, LOAD_Y: 128, STORE: 128}
    assert (facts["instructions"]["ld.128"], facts["instructions"]["st.128"]) == (4, 2)


@pytest.mark.parametrize("arch", ["80", "90"])
def test_a_view_off_by_one_element_is_loaded_element_by_element(compiled, arch):
    [facts] = compiled["shifted"][arch]
    assert widths(facts) == {LOAD_X: 32, LOAD_Y: 128, STORE: 128}


def test_an_odd_stride_is_loaded_element_by_element(compiled):
    [facts] = compiled["strided"]["80"]
    assert widths(facts)[LOAD_X] == 32
    assert facts["instructions"]["ld.32"] >= 8


def test_facts_name_the_kernel_and_its_launch(compiled):
    [facts] = compiled["aligned"]["80"]
    shape = {name: facts[name] for name in ("kernel", "line", "grid", "arch", "warps", "threads", "limit")}
    assert shape == {
        "kernel": "add_kernel",
        "line": line_of("def add_kernel"),
        "grid": [4, 1, 1],
        "arch": 80,
        "warps": 4,
        "threads": 128,
        "limit": 166912,
    }
    assert 8 < facts["registers"] < 128
    assert (facts["spills"], facts["stack"], facts["shared"]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("arch", "unit", "other"),
    [("80", "mma", "wgmma"), ("86", "mma", "wgmma"), ("89", "mma", "wgmma"), ("90", "wgmma", "mma")],
)
def test_dot_uses_the_tensor_cores_of_its_architecture(compiled, arch, unit, other):
    [facts] = compiled["matmul"][arch]
    assert facts["arch"] == int(arch)
    assert facts["instructions"][unit] >= 4
    assert other not in facts["instructions"]
    assert facts["instructions"]["cp.async"] >= 8
    assert facts["stages"] == 3


def test_too_much_shared_memory_is_told_not_raised(compiled):
    [ampere], [geforce] = compiled["deep"]["80"], compiled["deep"]["86"]
    assert 128 * 1024 <= ampere["shared"] <= ampere["limit"] == 166912
    assert geforce["shared"] > geforce["limit"] == 101376


def test_spills_are_counted(compiled):
    [facts] = compiled["spilling"]["80"]
    assert facts["registers"] <= 64
    # Whatever lies on the stack was stored there and is loaded again.
    assert facts["spills"] >= 2 * facts["stack"] > 0


def test_autotuning_takes_the_first_configuration_that_fits(compiled):
    [ampere], [geforce] = compiled["tuned"]["80"], compiled["tuned"]["86"]
    assert (ampere["stages"], ampere["grid"]) == (5, [1, 1, 1])
    assert (geforce["stages"], geforce["grid"]) == (2, [2, 1, 1])


@pytest.mark.parametrize(("arch", "grid"), [("80", [108, 8, 0]), ("90", [132, 9, 0])])
def test_a_host_function_is_told_of_the_device_compiled_for(compiled, arch, grid):
    [facts] = compiled["persistent"][arch]
    assert facts["grid"] == grid


def test_a_grid_of_fractions_is_refused_as_by_a_launch(compiled):
    assert compiled["fractional"]["80"][0][0] == "TypeError"


def test_descriptors_copy_through_tma(compiled):
    [facts] = compiled["descriptors"]["90"]
    assert facts["instructions"]["tma"] == 2
    assert (facts["access"], facts["tma"]) == ([], [line_of("# TMA copies")])


def test_specialised_warps_are_counted_beside_those_that_were_asked_for(compiled):
    [facts] = compiled["specialised"]["90"]
    assert facts["asked"] == 4 and facts["warps"] == facts["threads"] // 32 > 4


@pytest.mark.parametrize("arch", ["80", "90"])
def test_gluon_goes_the_same_way(compiled, arch):
    [facts] = compiled["in_gluon"][arch]
    assert facts["kernel"] == "gluon_kernel"
    assert facts["instructions"] == {"ld.128": 2, "st.128": 2}


def test_an_error_keeps_its_causes_down_to_the_line(compiled):
    chain = compiled["broken"]["80"]
    kinds = [kind for kind, _ in chain]
    assert kinds[:2] == ["CompilationError", "CompilationError"]
    assert "broken_helper(tl.load" in chain[0][1]
    assert "# not a power of two" in chain[1][1]


def test_lines_are_those_of_the_learner(compiled):
    access, copied, instructions = compiled["listing"]
    assert copied == []
    assert access == [
        {"line": 12, "op": "load", "bits": 128, "count": 1},
        {"line": 20, "op": "atomic", "bits": 32, "count": 1},
        {"line": 20, "op": "load", "bits": 32, "count": 1},
    ]
    assert instructions == {"ld.128": 1, "atomic": 1, "cp.async": 1}


def test_nothing_stays_replaced(compiled):
    assert compiled["restored"]


@pytest.mark.parametrize(("name", "gib", "found"), [
    ("NVIDIA A100-SXM4-40GB", 39.4, "A100 SXM 40GB"),
    ("A100-SXM4-40GB", 39.4, "A100 SXM 40GB"),
    ("NVIDIA A100-SXM4-80GB", 79.2, "A100 SXM 80GB"),
    ("NVIDIA A100-PCIE-40GB", 39.4, "A100 PCIe 40GB"),
    ("NVIDIA A100 80GB PCIe", 79.2, "A100 PCIe 80GB"),
    ("NVIDIA H100 80GB HBM3", 79.1, "H100 SXM"),
    ("NVIDIA H100 PCIe", 79.1, "H100 PCIe"),
    ("NVIDIA H200", 139.8, "H200"),
    ("NVIDIA GeForce RTX 3060", 11.8, "RTX 3060"),
    ("NVIDIA GeForce RTX 4090", 23.6, "RTX 4090"),
    ("NVIDIA L4", 22.0, "L4"),
    ("NVIDIA GeForce RTX 3060", 8.0, None),  # the 8 GB card has a third less bandwidth
    ("NVIDIA GeForce RTX 3060 Ti", 8.0, None),
    ("NVIDIA GeForce RTX 3060 Laptop GPU", 6.0, None),
    ("NVIDIA GeForce RTX 4090 D", 23.6, None),
    ("NVIDIA GeForce RTX 4090 Laptop GPU", 16.0, None),
    ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", 9.8, None),
    ("NVIDIA H100 NVL", 93.1, None),
    ("NVIDIA H200 NVL", 139.8, None),
    ("NVIDIA L40S", 44.4, None),
    ("NVIDIA B200", 178.0, None),
])  # fmt: skip
def test_find_knows_a_card_by_name_and_memory(name, gib, found):
    device = devices.find(name, int(gib * 2**30))
    assert (device and device.name) == found


def test_every_architecture_has_its_typical_device():
    assert {arch: device.name for arch, device in devices.TYPICAL.items()} == {
        80: "A100 SXM 40GB",
        86: "RTX 3060",
        89: "RTX 4090",
        90: "H100 SXM",
    }
    assert devices.SHARED == {80: 166_912, 86: 101_376, 89: 101_376, 90: 232_448}


@pytest.mark.parametrize("device", devices.DEVICES, ids=lambda device: device.name)
def test_peaks_agree_with_the_number_of_units(device):
    """A multiprocessor does a fixed number of operations a clock, the same for all of an architecture."""
    fp32 = 2 * device.multiprocessors * device.clock * 1e6 * (64 if device.arch == 80 else 128) / 1e12
    assert device.peaks["fp32"] == pytest.approx(fp32, rel=0.01)
    assert device.peaks["fp16"] == device.peaks["bf16"]
    assert device.peaks["fp16"] == pytest.approx(2 * device.peaks["tf32"], rel=0.02)
    assert (device.peaks["fp8"] is None) == (device.arch < 89)
