"""Nsight Compute's counters -> a reading: `ncu --import FILE --csv --page raw --print-units base`.

Of that format: a row of names, a row of units, a row a kernel launched; numbers with commas between thousands, "n/a"
where a GPU has no such counter. Lines before the names are ncu's own, and versions differ in what they call a unit.
What a counter counts, and what a stalled warp waits for: NVIDIA, Nsight Compute, Profiling Guide, metrics reference.
That below 60% of both peaks latency is the limit is the rule of ncu's own section Speed of Light.
"""

import contextlib
import csv
import math

from .readings import Asked, Reading, Unreadable, short, size, time

LOW = 60  # per cent of its peak; where neither memory nor compute reaches it, latency is the limit
SHOWN = 4  # kernels, the longest
WAITS = 3  # reasons of stalled warps
STALL = "smsp__average_warps_issue_stalled_{}_per_issue_active.ratio"

NAME = "Kernel Name"
TIME = "gpu__time_duration.sum"  # ns
READ, WRITTEN = "dram__bytes_read.sum", "dram__bytes_write.sum"
DRAM = "dram__throughput.avg.pct_of_peak_sustained_elapsed"
L2, L1 = "lts__throughput.avg.pct_of_peak_sustained_elapsed", "l1tex__throughput.avg.pct_of_peak_sustained_active"
MEMORY = "gpu__compute_memory_throughput.avg.pct_of_peak_sustained_elapsed"
COMPUTE = "sm__throughput.avg.pct_of_peak_sustained_elapsed"
TENSOR = "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active"
L2_HITS, L1_HITS = "lts__t_sector_hit_rate.pct", "l1tex__t_sector_hit_rate.pct"
ACHIEVED = "sm__warps_active.avg.pct_of_peak_sustained_active"
THEORETICAL = "sm__maximum_warps_per_active_cycle_pct"
REGISTERS, WAVES = "launch__registers_per_thread", "launch__waves_per_multiprocessor"
LIMITS = {  # blocks that a multiprocessor holds by each
    "registers": "launch__occupancy_limit_registers",
    "shared memory": "launch__occupancy_limit_shared_mem",
    "warps": "launch__occupancy_limit_warps",
    "blocks": "launch__occupancy_limit_blocks",
}
STALLS = {  # what the warps wait for
    "long_scoreboard": "data from global memory",
    "short_scoreboard": "data from shared memory, or a special function",
    "barrier": "other warps at a barrier",
    "gmma": "the tensor cores (wgmma)",
    "math_pipe_throttle": "a busy arithmetic pipe",
    "mio_throttle": "room in the queue to shared memory and special functions",
    "lg_throttle": "room in the queue of loads and stores",
    "tex_throttle": "room in the queue of the texture path",
    "wait": "an instruction's fixed latency",
    "not_selected": "its turn, other warps being ready too",
    "no_instruction": "the next instruction to be fetched",
    "imc_miss": "a constant to be fetched",
    "branch_resolving": "a branch to be resolved",
    "dispatch_stall": "the dispatcher",
    "drain": "stores to drain before it ends",
    "membar": "a memory fence",
    "sleeping": "the end of a sleep",
    "misc": "something that NVIDIA does not name",
}
SCALE = {  # of a unit: to ns, and to bytes
    **dict.fromkeys(("s", "second"), 1e9),
    **dict.fromkeys(("ms", "msecond"), 1e6),
    **dict.fromkeys(("us", "usecond"), 1e3),
    **{"Kbyte": 1e3, "Mbyte": 1e6, "Gbyte": 1e9},
}
SELECTED = STALL.format("selected")  # no stall: the warp that was issued
# Asked for by name are those that every GPU has: one that it lacks would be an error. The others are of sections.
METRICS = (TIME, READ, WRITTEN, DRAM, L2, L1, MEMORY, COMPUTE, TENSOR, L2_HITS, L1_HITS, ACHIEVED, THEORETICAL)
SECTIONS = ("LaunchStats", "Occupancy", "WarpStateStats", "SchedulerStats")


def parse(text: str) -> list[dict[str, str | float]]:
    """Each kernel launched, in order: its NAME, and by ncu's names the numbers that were counted."""
    lines = text.splitlines()
    start = next((at for at, line in enumerate(lines) if line.startswith('"ID",')), None)
    names, *rows = csv.reader(lines[start:]) if start is not None else [[]]
    rows = [row for row in rows if len(row) == len(names)]
    units = dict(zip(names, next((row for row in rows if not row[0]), [])))
    kernels = [_counted(dict(zip(names, row)), units) for row in rows if row[0]]
    if not kernels:
        raise Unreadable("ncu counted nothing: no kernel was launched in the call that is profiled")
    if not all(TIME in kernel for kernel in kernels):
        raise Unreadable(f"ncu did not count {TIME}, the time of a kernel")
    return kernels


def read(text: str, asked: Asked) -> Reading:
    """The longest kernels of one call, and what limits the first of them."""
    kernels = sorted(parse(text), key=lambda kernel: -kernel[TIME])
    whole = sum(kernel[TIME] for kernel in kernels)
    groups = [
        (f"{short(kernel[NAME])}, {kernel[TIME] / whole:.0%} of the time", figures(kernel))
        for kernel in kernels[:SHOWN]
    ]
    moved = sum(kernel.get(READ, 0) + kernel.get(WRITTEN, 0) for kernel in kernels)
    rows = [("time", asked.held(whole / 1e9)), ("kernels launched", f"{len(kernels)}")]
    if READ in kernels[0]:
        times = f", {moved / asked.bytes:.2f} times what is necessary" if asked.bytes else ""
        rows.append(("bytes of the DRAM", f"{size(moved)}{times}"))
    if len(kernels) == 1:
        groups[0] = (short(kernels[0][NAME]), groups[0][1])
    return Reading([*groups, (f"one call, {asked.case}", rows)], limiter(kernels[0]))


def figures(kernel: dict) -> list[tuple[str, str]]:
    """A kernel's figures; what was not counted is left out."""
    ns, rows = kernel[TIME], [("time", time(kernel[TIME] / 1e9))]
    if {READ, WRITTEN, DRAM} <= kernel.keys():
        read, written = kernel[READ], kernel[WRITTEN]
        of = f"{kernel[DRAM]:.0f}% of its peak ({size(read)} read, {size(written)} written)"
        rows.append(("DRAM", f"{(read + written) / ns:,.0f} GB/s, {of}"))
    hits = [f"{kernel[rate]:.0f}% of the {name}" for name, rate in (("L2", L2_HITS), ("L1", L1_HITS)) if rate in kernel]
    if hits:
        rows.append(("hits", " and ".join(hits)))
    rows += [
        (name, f"{kernel[metric]:.0f}% of its peak")
        for name, metric in (("memory", MEMORY), ("compute", COMPUTE))
        if metric in kernel
    ]
    if TENSOR in kernel:
        rows.append(("tensor cores", f"active {kernel[TENSOR]:.0f}% of the time" if kernel[TENSOR] else "not used"))
    if ACHIEVED in kernel and THEORETICAL in kernel:
        rows.append(
            ("occupancy", f"{kernel[ACHIEVED]:.0f}% achieved, {kernel[THEORETICAL]:.0f}% theoretical{held(kernel)}")
        )
    if waits := stalls(kernel):
        rows.append(("warps wait for", "; ".join(f"{what} {share:.0%}" for what, share in waits[:WAITS])))
    return rows


def held(kernel: dict) -> str:
    """What keeps more warps from being resident, where all that would tell was counted."""
    limits = {name: kernel[metric] for name, metric in LIMITS.items() if metric in kernel}
    if not limits or kernel[THEORETICAL] >= 99.5:
        return ""
    names = [name for name, blocks in limits.items() if blocks == min(limits.values())]
    named = {"registers": f"registers ({kernel.get(REGISTERS, 0):.0f} a thread)"}
    return f", limited by {' and '.join(named.get(name, name) for name in names)}"


def stalls(kernel: dict) -> list[tuple[str, float]]:
    """What warps wait for, as a share of the time that they are resident, the longest first."""
    counted = {what: kernel.get(STALL.format(name), 0) for name, what in STALLS.items()}
    whole = sum(counted.values()) + kernel.get(SELECTED, 0)
    found = [(what, ratio / whole) for what, ratio in counted.items() if ratio > 0]
    return sorted(found, key=lambda row: -row[1])


def limiter(kernel: dict) -> str:
    """What a kernel is limited by, and what to do about it."""
    if not {MEMORY, COMPUTE} <= kernel.keys():
        return "what limits it was not counted on this GPU; make bench shows its place under the roofline"
    memory, compute = kernel[MEMORY], kernel[COMPUTE]
    if max(memory, compute) < LOW:
        waits = stalls(kernel)
        wait = f"; its warps wait for {waits[0][0]} most ({waits[0][1]:.0%})" if waits else ""
        few = ", and its programs do not fill the GPU once" if kernel.get(WAVES, 1) < 1 else ""
        reached = f"neither memory ({memory:.0f}%) nor compute ({compute:.0f}%) reaches {LOW}% of its peak"
        helps = "More loads in flight (larger blocks, num_stages), or more warps resident, hide it"
        return f"latency: {reached}{wait}{few}. {helps}"
    if memory >= compute:
        paths = {"DRAM": kernel.get(DRAM, 0), "L2": kernel.get(L2, 0), "L1 and shared memory": kernel.get(L1, 0)}
        path = max(paths, key=paths.get)
        helps = {
            "DRAM": "only fewer bytes, or a better order of tiles, make it faster",
            "L2": "larger tiles ask the L2 for fewer bytes; make inspect shows the lines that waste sectors",
            "L1 and shared memory": "wider accesses, fewer of them, and no bank conflicts",
        }[path]
        return f"memory: {path} is at {paths[path]:.0f}% of its peak; {helps}"
    if kernel.get(TENSOR, 0) >= LOW:
        active = f"the tensor cores are active {kernel[TENSOR]:.0f}% of the time"
        return f"compute: {active}; only fewer operations, or a smaller dtype, make it faster"
    idle = ", and the tensor cores idle" if kernel.get(TENSOR, 1) < 1 else ""
    return f"compute: the multiprocessors are at {compute:.0f}% of their peak{idle}; fewer instructions make it faster"


def _counted(row: dict[str, str], units: dict[str, str]) -> dict[str, str | float]:
    numbers = {}
    for name, text in row.items():
        with contextlib.suppress(ValueError):  # "n/a"
            numbers[name] = float(text.replace(",", "")) * SCALE.get(units.get(name), 1)
    return {**{name: n for name, n in numbers.items() if math.isfinite(n)}, NAME: row[NAME]}
