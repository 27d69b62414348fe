"""What this GPU reaches at this moment: the copy and the matmul that shares of a roofline are taken of."""

import ctypes
import itertools
import statistics
from functools import cache

import torch

from . import devices

COPY_BYTES = 1 << 30
MATMUL = 4096
KNOWN = 0.85  # of the datasheet's bandwidth is what a large copy reaches at the least on a GPU that is idle
TRIES = 10  # copies, 5 to 10 ms each, in which a neighbour has to leave the GPU idle
IDLE = 0.90  # of what a copy reached before is what it has to reach again where nothing else uses the GPU


def copy_rate() -> float:
    """Bytes a second, read plus written, of a large copy on this GPU."""
    source, target = _copy_buffers()
    return 2 * source.nbytes / (milliseconds(lambda: target.copy_(source), 5) * 1e-3)


def matmul_rate() -> float:
    """bf16 operations a second of a matmul on random data."""
    a, b = _matmul_buffers()
    return 2 * MATMUL**3 / (milliseconds(lambda: a @ b, 20) * 1e-3)


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


def milliseconds(call, calls: int) -> float:
    """Median milliseconds of a call, by events."""
    marks = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(calls)]
    call()
    for start, end in marks:
        start.record()
        call()
        end.record()
    torch.cuda.synchronize()
    return statistics.median(start.elapsed_time(end) for start, end in marks)


def time_peers(grading, speed, every: bool) -> dict[str, float | str]:
    """Milliseconds of each peer (of the first, the baseline, unless `every`), or why there are none.

    Timed as the kernel is: call after call, over inputs that together exceed the L2.
    """
    result = {}
    size = sum(a.nbytes for a in grading.inputs(speed.case, "meta") if isinstance(a, torch.Tensor))
    sets = 1 + 2 * torch.cuda.get_device_properties(0).L2_cache_size // max(1, size)
    for name, call in list(speed.peers.items())[: None if every else 1]:
        inputs = itertools.cycle([grading.inputs(speed.case, "cuda") for _ in range(sets)])
        try:
            peer = torch.compile(call) if name.endswith("compile") else call
            for _ in range(5):
                peer(*next(inputs))
            result[name] = round(milliseconds(lambda peer=peer, inputs=inputs: peer(*next(inputs)), 60), 5)
        except ImportError as error:
            result[name] = f"not installed: {error}"
        except Exception as error:  # a peer's failure is no verdict on the learner
            result[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"
        del inputs
    torch.cuda.empty_cache()
    return result


@cache
def _copy_buffers():
    return [torch.empty(COPY_BYTES // 4, device="cuda").normal_() for _ in range(2)]


@cache
def _matmul_buffers():
    return [torch.randn(MATMUL, MATMUL, device="cuda", dtype=torch.bfloat16) for _ in range(2)]
