"""The simulated GPU: virtual time, a queue, a cache, a clock that rises, and torch.cuda in front of them."""

import json
import subprocess
import sys

import pytest
from workbook import catalog, simulated
from workbook.simulated import L2, Cache, Device, Refused, cold

MB = 10**6


@pytest.fixture
def gpu():
    """Compiled, awake for long, and nothing in its queue."""
    device = Device(seed=1)
    device.compiled, device.woken = True, -simulated.RISE
    return device


def took(gpu, size):
    """Microseconds of one call by events, behind a flush."""
    gpu.move({"scratch": 2 * L2})
    start = gpu.record()
    gpu.call(size)
    return gpu.record() - start


def test_a_launch_returns_before_the_gpu_is_done(gpu):
    gpu.call(2700 * MB)
    assert gpu.now == simulated.LAUNCH
    gpu.wait()
    assert gpu.now > cold(2700 * MB) * (1 - 5 * simulated.SPREAD)


def test_an_event_gets_the_time_at_which_the_queue_reaches_it(gpu):
    gpu.move({"x": 300 * MB})
    assert gpu.record() == pytest.approx(simulated.LAUNCH + simulated.LATENCY + cold(300 * MB))
    assert gpu.now == simulated.LAUNCH + simulated.RECORD


def test_a_gpu_that_waits_for_the_host_counts_the_launch(gpu):
    start = gpu.record()
    gpu.move({"x": 0})
    assert gpu.record() - start == simulated.LAUNCH + simulated.FLOOR


def test_the_first_call_compiles_on_the_host():
    gpu = Device(seed=1)
    gpu.call(MB)
    assert gpu.now == simulated.COMPILE + simulated.LAUNCH


def test_the_clock_rises_under_load_and_falls_when_idle(gpu):
    def copied():
        start = gpu.free
        gpu.move({"x": 2 * L2})
        return gpu.free - max(start, gpu.now + simulated.LATENCY)

    fast = copied()
    gpu.spend(2 * simulated.IDLE)
    assert copied() == pytest.approx(simulated.SLOW * fast)
    while gpu.free < gpu.woken + simulated.RISE:
        copied()
    assert copied() == pytest.approx(fast)


def test_a_neighbour_disturbs_one_call_of_eight(gpu):
    times = [took(gpu, 300 * MB) / cold(300 * MB) for _ in range(80)]
    assert [sum(t > 1.5 for t in times[n : n + 8]) for n in range(0, 80, 8)] == [1] * 10
    assert all(abs(t - 1) < 5 * simulated.SPREAD for t in times if t < 1.5)


def test_one_seed_one_noise():
    first, again, other = ([n for n, _ in zip(simulated.noise(seed), range(20))] for seed in (1, 1, 2))
    assert first == again != other


def test_the_cache_keeps_what_was_used_last():
    cache = Cache()
    assert cache.use("a", 40 * MB) == 0
    assert cache.use("a", 40 * MB) == 40 * MB
    cache.use("b", L2 - 30 * MB)
    assert cache.use("a", 40 * MB) == 30 * MB  # 10 MB have left
    cache.use("b", L2)
    assert cache.use("a", 40 * MB) == 0


def test_what_is_larger_than_the_cache_finds_nothing():
    cache = Cache()
    assert [cache.use("a", L2 + 1) for _ in range(3)] == [0, 0, 0]


def test_a_call_whose_data_are_there_is_faster(gpu):
    gpu.call(30 * MB)
    start = gpu.record()
    gpu.call(30 * MB)
    assert gpu.record() - start < 0.6 * cold(30 * MB)


def test_a_measurement_ends(gpu):
    with pytest.raises(Refused, match="takes more than 10 s"):
        while True:
            gpu.call(MB)


def in_torch(code):
    """What the code leaves in `out`, run with the device in the place of torch.cuda."""
    program = f"import json\nfrom workbook import simulated as s\ns.install()\nout = []\n{code}\nprint(json.dumps(out))"
    env = {"PYTHONPATH": str(catalog.CHECKS)}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_tensors_on_the_gpu_move_their_bytes():
    code = """
import torch
from workbook.simulated import gpu
def moved(work):
    before = gpu.since[0]
    result = work()
    out.append((gpu.since[0] - before) / 1000)
    return result
x = moved(lambda: torch.empty(1000, dtype=torch.int8, device="cuda"))
y = moved(lambda: torch.zeros(1000, dtype=torch.int8, device=torch.device("cuda", 0)))
moved(lambda: x.zero_())
moved(lambda: x.copy_(y))
moved(lambda: x[:500].fill_(1))
moved(lambda: x.__setitem__(slice(None), 0))
moved(lambda: torch.add(x, y, out=x))
moved(lambda: x + y)
moved(lambda: x.view(10, 100).t())
moved(lambda: torch.ones(1000).sum())
moved(lambda: torch.ones(1000, dtype=torch.int8).cuda())
with torch.device("cuda"):
    moved(lambda: torch.full((1000,), 1, dtype=torch.int8))
out += [str(x.device), x.is_cuda, str(torch.ones(3).device)]
"""
    assert in_torch(code) == [0, 1, 1, 2, 0.5, 1, 2, 3, 0, 0, 1, 1, "cuda:0", True, "cpu"]


def test_a_number_from_the_gpu_is_waited_for():
    code = """
import torch
from workbook.simulated import gpu
x = torch.ones(10**9, dtype=torch.int8, device="cuda")
out.append(gpu.now < gpu.free)
total = x.sum().item()
out += [gpu.now >= gpu.free, total]
"""
    assert in_torch(code) == [True, True, 0]


def test_clocks_are_virtual():
    code = """
import time, timeit, torch
from time import perf_counter
start = perf_counter(), time.time(), time.monotonic_ns(), timeit.default_timer()
time.sleep(5)
end = perf_counter(), time.time(), time.monotonic_ns(), timeit.default_timer()
out += [round(b - a) for a, b in zip(start, end)]
"""
    assert in_torch(code) == [5, 5, pytest.approx(5e9, rel=1e-6), 5]


def test_events_refuse_what_those_of_cuda_refuse():
    code = """
import torch
from torch.cuda import Event, synchronize
def told(a, b):
    try:
        return a.elapsed_time(b)
    except (ValueError, RuntimeError) as error:
        return str(error).split(" must be ")[1].split(" before")[0]
a, b = Event(enable_timing=True), Event(enable_timing=True)
out += [told(Event(), b), told(a, b)]
a.record()
torch.zeros(3 * 10**9, dtype=torch.int8, device="cuda")
b.record()
out += [b.query(), told(a, b)]
synchronize()
out += [b.query(), round(told(a, b), 1)]
"""
    timing = "created with argument 'enable_timing=True'."
    slow = pytest.approx(1e-3 * simulated.SLOW * cold(3e9), abs=0.1)
    assert in_torch(code) == [timing, "recorded", False, "completed", True, slow]
