"""What `make doctor` measures: what the GPU here reaches, beside its datasheet and those of the GPUs in devices.py.

It takes some seconds: each figure is the median of a few calls, on random data, since zeros draw less power.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from . import ceilings, devices, doctor, timing
from .report import console, say

NEEDED = 4e9  # bytes of free memory: two buffers of ceilings.COPY_BYTES, and the matrices
BLOCK = 4096  # elements of a tile
RESIDENT = 8  # programs of read_kernel to a multiprocessor
L2_SHARE = 4  # of the L2 is what is read again and again: on an H100 each half of the L2 keeps a copy for its own half
PASSES = 64  # over that share
CALLS = 20
LAUNCHES = 1000
DTYPES = ("fp16", "bf16", "tf32", "fp32", "int8", "fp8")


@dataclass(frozen=True)
class Gauge:
    """One figure: what was reached and what the datasheet says, in `unit`; why: there is none."""

    name: str
    unit: str
    reached: float | None
    promised: float | None
    why: str = ""


@triton.jit
def read_kernel(source_ptr, out_ptr, tiles, steps, BLOCK: tl.constexpr):
    """Each program reads `steps` tiles, past the L1, and stores one number, so that no load can be left out."""
    total = tl.zeros((BLOCK,), tl.float32)
    for step in range(steps):
        tile = (tl.program_id(0) + step * tl.num_programs(0)) % tiles
        total += tl.load(source_ptr + tile * BLOCK + tl.arange(0, BLOCK), cache_modifier=".cg")
    tl.store(out_ptr + tl.program_id(0), tl.sum(total))


def read(source: torch.Tensor, programs: int, passes: int = 1) -> torch.Tensor:
    """Sums, one a program, of the whole tiles of `source` (fp32), each of which is read `passes` times."""
    out = torch.empty(programs, device=source.device)
    tiles = source.numel() // BLOCK
    read_kernel[(programs,)](source, out, tiles, passes * tiles // programs, BLOCK=BLOCK, num_warps=8)
    return out


def gauges(card: devices.Device | None) -> Iterator[Gauge]:
    """Every figure, as it is measured. card: the GPU here, if it is a known one."""
    bandwidth, peaks = (card.bandwidth, card.peaks) if card else (None, {})
    yield _gauge("copy", "GB/s", bandwidth, lambda: ceilings.copy_rate() / 1e9)
    yield _gauge("read", "GB/s", bandwidth, lambda: read_rate() / 1e9)
    yield _gauge("read from the L2", "GB/s", None, lambda: l2_rate() / 1e9)
    for dtype in DTYPES:
        unit = "TOPS" if dtype == "int8" else "TFLOPS"
        yield _gauge(f"matmul {dtype}", unit, peaks.get(dtype), lambda dtype=dtype: matmul_rate(dtype) / 1e12)
    yield _gauge("smallest kernel", "µs", None, lambda: ceilings.launch_ms() * 1e3)
    yield _gauge("launch from Python", "µs", None, lambda: launch_seconds() * 1e6)


def read_rate() -> float:
    """Bytes a second that a kernel reads of a large buffer."""
    source, _ = ceilings._copy_buffers()
    return _read_rate(source, 1)


def l2_rate() -> float:
    """Bytes a second that a kernel reads of a buffer that stays in the L2."""
    source, _ = ceilings._copy_buffers()
    share = torch.cuda.get_device_properties(0).L2_cache_size // L2_SHARE // source.element_size()
    return _read_rate(source[:share], PASSES)


def _read_rate(source: torch.Tensor, passes: int) -> float:
    programs = RESIDENT * torch.cuda.get_device_properties(0).multi_processor_count
    tiles = source.numel() // BLOCK
    nbytes = passes * tiles // programs * programs * BLOCK * source.element_size()
    return nbytes / (ceilings.milliseconds(lambda: read(source, programs, passes), CALLS, ceilings.SPIN) * 1e-3)


def matmul_rate(dtype: str) -> float:
    """Operations a second of cuBLAS: fp8 and int8 by the functions of torch that ask it for them."""
    m = ceilings.MATMUL
    return 2 * m**3 / (ceilings.milliseconds(product(dtype, m, "cuda"), CALLS) * 1e-3)


def product(dtype: str, m: int, device: str) -> Callable[[], torch.Tensor]:
    """A call that multiplies two [m, m] matrices of a dtype as devices.peaks names it."""
    a, b = (torch.randn(m, m, device=device) for _ in range(2))
    if dtype == "int8":
        a, b = ((30 * x).clamp(-128, 127).to(torch.int8) for x in (a, b))
        return lambda: torch._int_mm(a, b.t())
    if dtype == "fp8":
        a, b = (x.to(torch.float8_e4m3fn) for x in (a, b))
        one = torch.ones((), device=device)
        return lambda: torch._scaled_mm(a, b.t(), one, one, out_dtype=torch.bfloat16, use_fast_accum=False)
    if dtype in ("fp16", "bf16"):
        a, b = (x.to({"fp16": torch.float16, "bf16": torch.bfloat16}[dtype]) for x in (a, b))
    torch.set_float32_matmul_precision("high" if dtype == "tf32" else "highest")
    return lambda: a @ b


def launch_seconds() -> float:
    """Seconds that Python takes to launch a kernel of Triton that does nothing."""
    source, _ = ceilings._copy_buffers()
    out, took = torch.empty(1, device="cuda"), []
    for _ in range(5):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(LAUNCHES):
            read_kernel[(1,)](source, out, 1, 0, BLOCK=BLOCK, num_warps=8)
        took.append((time.perf_counter() - start) / LAUNCHES)
    torch.cuda.synchronize()
    return statistics.median(took[1:])  # the first compiles


def refusal() -> str:
    """Why nothing is measured here, or an empty string."""
    if not torch.cuda.is_available():
        return "there is no GPU here that torch can use"
    if why := timing.refusal() or doctor.no_compiler():
        return why
    free = torch.cuda.mem_get_info()[0]
    return f"{NEEDED / 1e9:.0f} GB of free GPU memory are needed, {free / 1e9:.1f} are free" if free < NEEDED else ""


def show() -> None:
    """What the GPU here reaches beside its datasheet, and the table of known GPUs."""
    card, found = None, []
    say()
    if why := refusal():
        say(f"not measured: {why}", "yellow")
    else:
        card, name = ceilings.device(), torch.cuda.get_device_name()
        known = f", beside the datasheet of {card.name}" if card else "; its datasheet is not known here"
        with console.status(f"{name} is measured"):
            for gauge in gauges(card):
                found.append(gauge)
                if len(found) == 1:
                    say(f"what {name} reaches{known}", "bold")
                say(line(gauge), "" if gauge.reached else "yellow", 2)
    say()
    for row in table(found, card):
        say(row, "bold" if row.startswith(("reached", "known")) else "", 2)


def line(gauge: Gauge) -> str:
    """One figure beside its datasheet's."""
    if gauge.reached is None:
        return f"{gauge.name:<20}{'-':>9}  {gauge.why}"
    of = f"of {_figure(gauge.promised):>7}  {gauge.reached / gauge.promised:>4.0%}" if gauge.promised else ""
    return f"{gauge.name:<20}{_figure(gauge.reached):>9} {gauge.unit:<7}{of}".rstrip()


def table(found: list[Gauge], card: devices.Device | None) -> Iterator[str]:
    """The known GPUs' datasheets, a row each; above them what was reached here. The GPU here is marked."""
    columns = ["GB/s", *devices.A100, "SMs", "L2 MB", "GB"]
    wide = 7

    def row(name, cells):
        return f"{name:<18}" + "".join(f"{cell:>{wide}}" for cell in cells)

    yield row("known GPUs", columns)
    if found:
        reached = {gauge.name: gauge.reached for gauge in found}
        cells = [reached["copy"], *(reached[f"matmul {dtype}"] for dtype in devices.A100)]
        yield row("reached here", map(_figure, cells))
    for device in devices.DEVICES:
        sizes = f"{device.multiprocessors}", f"{device.l2_bytes / devices.MB:.3g}", f"{device.memory_gb}"
        cells = [*map(_figure, (device.bandwidth, *device.peaks.values())), *sizes]
        yield row(f"{'▶ ' if device is card else '  '}{device.name}", cells)


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _gauge(name: str, unit: str, promised: float | None, measure: Callable[[], float]) -> Gauge:
    try:
        return Gauge(name, unit, measure(), promised)
    except Exception as error:  # a dtype that this GPU, or this torch, has not
        return Gauge(name, unit, None, promised, str(error).strip().splitlines()[0][:90] or type(error).__name__)
