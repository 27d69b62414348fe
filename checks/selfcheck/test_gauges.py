"""What `make doctor` measures of a GPU: on a clock that the tests make up, and its kernel on the CPU."""

import os
import re
import subprocess
import sys

import pytest
import torch
from typer.testing import CliRunner
from workbook import catalog, ceilings, cli, devices, doctor, gauges, timing

H100 = next(device for device in devices.DEVICES if device.name == "H100 SXM")
READS = """
import torch
from workbook import gauges, repair
repair.install()  # numpy 2.4 and later make no loop bound of a block
source = torch.randn(10 * gauges.BLOCK + 7)
for programs, passes in ((1, 1), (5, 1), (10, 3), (2, 4)):
    out = gauges.read(source, programs, passes)
    torch.testing.assert_close(out.sum(), passes * source[: 10 * gauges.BLOCK].sum(), rtol=1e-4, atol=1e-2)
"""


def test_the_kernel_reads_each_tile_as_often_as_it_is_counted():
    env = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(catalog.CHECKS)}
    done = subprocess.run([sys.executable, "-c", READS], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("dtype", ["fp16", "bf16", "tf32", "fp32", "int8"])
def test_a_product_is_one_of_its_dtype(dtype):
    torch.manual_seed(0)
    out = gauges.product(dtype, 64, "cpu")()
    expected = {"fp16": torch.float16, "bf16": torch.bfloat16, "int8": torch.int32}.get(dtype, torch.float32)
    assert out.dtype == expected and out.shape == (64, 64) and out.float().std() > 1
    torch.set_float32_matmul_precision("highest")


@pytest.fixture
def gpu(monkeypatch):
    """An H100 without fp8, on which everything else reaches nine tenths of its datasheet."""

    def matmul(dtype):
        if dtype == "fp8":
            raise RuntimeError(
                "torch._scaled_mm is only supported on CUDA devices with compute capability >= 8.9\nmore"
            )
        return 0.9e12 * H100.peaks[dtype]

    for module, name, value in (
        (gauges, "refusal", lambda: ""),
        (torch.cuda, "get_device_name", lambda: "NVIDIA H100 80GB HBM3"),
        (ceilings, "device", lambda: H100),
        (ceilings, "copy_rate", lambda: 0.9e9 * H100.bandwidth),
        (gauges, "read_rate", lambda: 0.95e9 * H100.bandwidth),
        (gauges, "l2_rate", lambda: 5.5e12),
        (gauges, "matmul_rate", matmul),
        (ceilings, "launch_ms", lambda: 0.0021),
        (gauges, "launch_seconds", lambda: 11.5e-6),
    ):
        monkeypatch.setattr(module, name, value)


def test_what_a_gpu_reaches_stands_beside_its_datasheet_and_the_table(gpu, capsys):
    gauges.show()
    told = capsys.readouterr().out
    assert "what NVIDIA H100 80GB HBM3 reaches, beside the datasheet of H100 SXM\n" in told
    assert re.search(r"copy +3,015 GB/s +of +3,350 +90%\n", told) and re.search(
        r"read +3,182 GB/s +of +3,350 +95%\n", told
    )
    assert re.search(r"read from the L2 +5,500 GB/s\n", told) and re.search(
        r"matmul int8 +1,781 TOPS +of +1,979 +90%", told
    )
    assert re.search(r"matmul fp8 +-  torch._scaled_mm is only supported on CUDA devices [^\n]*\n", told)
    assert re.search(r"smallest kernel +2\.1 µs\n", told) and re.search(r"launch from Python +11\.5 µs\n", told)
    assert re.search(r"reached here +3,015 +60\.2 +445 +890 +890 +- +1,781\n", told)
    assert re.search(r"▶ H100 SXM +3,350 +66\.9 +495 +989 +989 +1,979 +1,979 +132 +50 +80\n", told)
    assert told.count("▶") == 1 and all(device.name in told for device in devices.DEVICES)


def test_a_gpu_without_a_datasheet_is_measured_all_the_same(gpu, monkeypatch, capsys):
    monkeypatch.setattr(ceilings, "device", lambda: None)
    gauges.show()
    told = capsys.readouterr().out
    assert "reaches; its datasheet is not known here\n" in told and re.search(r"copy +3,015 GB/s\n", told)
    assert "reached here" in told and "▶" not in told


def test_nothing_is_measured_without_a_gpu_or_with_no_room_on_it(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    gauges.show()
    told = capsys.readouterr().out
    assert (
        "not measured: there is no GPU here that torch can use" in told and "H100 SXM" in told and "reached" not in told
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(doctor, "no_compiler", lambda: "")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (int(2e9), int(80e9)))
    assert gauges.refusal() == "4 GB of free GPU memory are needed, 2.0 are free"
    monkeypatch.setattr(timing, "refusal", lambda: "TRITON_INTERPRET=1 is set")
    assert gauges.refusal() == "TRITON_INTERPRET=1 is set"


def test_doctor_measures_unless_it_is_to_be_quick(gpu, monkeypatch):
    monkeypatch.setattr(doctor, "rows", lambda root: [])
    monkeypatch.setattr(doctor, "rungs", lambda: [("fast", "")])
    whole, quick = (CliRunner().invoke(cli.app, ["doctor", *words]).output for words in ([], ["--quick"]))
    assert "graded here" in quick and "reaches" not in quick and "known GPUs" not in quick
    assert whole.startswith(quick) and "reached here" in whole
