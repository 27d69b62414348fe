"""What this GPU reaches at this moment: the copy and the matmul that shares of a roofline are taken of."""

import ctypes
import itertools
import statistics
from collections import deque
from functools import cache

import torch

from . import devices

COPY_BYTES = 1 << 30
MATMUL = 4096
RIDGE = 50  # operations a byte; what does fewer is bound by memory on every GPU of devices.py
SPIN = 30_000_000  # cycles, some 15 ms, in which calls queue up on the GPU
KNOWN = 0.85  # of the datasheet's bandwidth is what a large copy reaches at the least on a GPU that is idle
TRIES = 10  # copies, 5 to 10 ms each, in which a neighbour has to leave the GPU idle
IDLE = 0.90  # of what a copy reached before is what it has to reach again where nothing else uses the GPU


def copy_rate() -> float:
    """Bytes a second, read plus written, of a large copy on this GPU."""
    source, target = _copy_buffers()
    return 2 * source.nbytes / (milliseconds(lambda: target.copy_(source), 5) * 1e-3)


def matmul_rate(products: str = "bf16") -> float:
    """Operations a second of a matmul on random data: bf16's; of others by what their peak is to its own."""
    a, b = _matmul_buffers()
    peaks = (device() or devices.DEVICES[0]).peaks
    return peaks[products] / peaks["bf16"] * 2 * MATMUL**3 / (milliseconds(lambda: a @ b, 20) * 1e-3)


def launch_ms() -> float:
    """Milliseconds of the smallest kernel there is: no call takes less."""
    one = torch.zeros(1, device="cuda")
    return milliseconds(lambda: one.add_(1), 60, SPIN)


@cache
def anchor() -> float:
    """Bytes a second of a copy before any submission ran, and at least what a GPU of this name reaches when idle."""
    known = device()
    return max(copy_rate(), copy_rate(), copy_rate(), KNOWN * known.bandwidth * 1e9 if known else 0)


def idle(rate: float) -> bool:
    """Whether a copy at this rate had the GPU to itself."""
    return rate >= IDLE * anchor()


def idle_rate() -> float | None:
    """The rate of the first copy that has the GPU to itself; None where a neighbour leaves no gap."""
    return next((rate for _ in range(TRIES) if idle(rate := copy_rate())), None)


def device() -> devices.Device | None:
    return devices.find(torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory)


def flush() -> None:
    """Leaves nothing of what was written before in the L2: reads twice its size, and ends what was set to persist."""
    source, _ = _copy_buffers()
    source[: torch.cuda.get_device_properties(0).L2_cache_size // 2].sum()
    ctypes.CDLL("libcuda.so.1").cuCtxResetPersistingL2Cache()


def milliseconds(call, calls: int, spin: int = 0, before=lambda: None) -> float:
    """Median milliseconds of a call, by events; `before` is called before each, and not counted.

    spin: cycles that the GPU is kept busy first, while the calls queue up behind, so that none waits for Python.
    """
    marks = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(calls)]
    call()
    if spin:
        torch.cuda._sleep(spin)
    for start, end in marks:
        before()
        start.record()
        call()
        end.record()
    torch.cuda.synchronize()
    return statistics.median(start.elapsed_time(end) for start, end in marks)


def time_peers(grading, speed, every: bool, spin: int = 0) -> dict[str, float | str]:
    """Milliseconds of each peer (of the first, the baseline, unless `every`), or why there are none.

    Timed as the kernel is: call after call, over inputs that together exceed the L2, and as many places for results.
    """
    result = {}
    for name, call in list(speed.peers.items())[: None if every else 1]:
        try:
            peer = torch.compile(call) if name.endswith("compile") else call
            result[name] = round(_in_turn(peer, grading, speed.case, spin), 5)
        except ImportError as error:
            result[name] = f"not installed: {error}"
        except Exception as error:  # a peer's failure is no verdict on the learner
            result[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"
    torch.cuda.empty_cache()
    return result


def _in_turn(peer, grading, case, spin: int) -> float:
    size = sum(a.nbytes for a in grading.inputs(case, "meta") if isinstance(a, torch.Tensor))
    sets = 1 + 2 * torch.cuda.get_device_properties(0).L2_cache_size // max(1, size)
    inputs = itertools.cycle([grading.inputs(case, "cuda") for _ in range(sets)])
    kept = deque(maxlen=sets)  # a result that is let go would lend its place, still in the L2, to the next
    for _ in range(max(5, sets + 1)):
        kept.append(peer(*next(inputs)))
    return milliseconds(lambda: kept.append(peer(*next(inputs))), 60, spin)


@cache
def _copy_buffers():
    return [torch.empty(COPY_BYTES // 4, device="cuda").normal_() for _ in range(2)]


@cache
def _matmul_buffers():
    return [torch.randn(MATMUL, MATMUL, device="cuda", dtype=torch.bfloat16) for _ in range(2)]
