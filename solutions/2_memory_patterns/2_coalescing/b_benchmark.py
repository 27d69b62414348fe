"""Measure it.

The time of one call by the GPU's own clock, as a user finds it whose data do not lie in the cache.
"""

import statistics
import time

import torch

WARM_UP = 0.025  # seconds
CALLS = 100


def milliseconds(call):
    """The median time that the GPU takes for one call, in milliseconds, as a float.

    call: a function of no arguments that launches work on the GPU and returns before it is done. Its first call
    compiles. Every call that is measured finds none of its data in the L2, and a GPU whose clock has risen.
    """
    # TODO: call once and wait, so that everything is compiled; then call and wait, again and again, until WARM_UP
    # seconds have passed by the host's clock.
    ### BEGIN SOLUTION
    call()
    torch.cuda.synchronize()
    end = time.perf_counter() + WARM_UP
    while time.perf_counter() < end:
        call()
        torch.cuda.synchronize()
    ### END SOLUTION
    # TODO: `marks`, a pair of events for each of CALLS calls, one recorded right before the call, one right behind it.
    # Before each pair drive the data of the last call out of the L2. Wait for nothing.
    ### BEGIN SOLUTION
    l2 = torch.cuda.get_device_properties(0).L2_cache_size
    scratch = torch.empty(4 * l2, dtype=torch.int8, device="cuda")
    marks = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(CALLS)]
    for before, behind in marks:
        scratch.zero_()
        before.record()
        call()
        behind.record()
    ### END SOLUTION
    # TODO: wait for the GPU, once, and return the median of the times between the events of each pair.
    ### BEGIN SOLUTION
    torch.cuda.synchronize()
    return statistics.median(before.elapsed_time(behind) for before, behind in marks)
    ### END SOLUTION
