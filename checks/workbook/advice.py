"""What limits an inspected kernel, in one sentence with its figures, and what to try: the gravest first."""

from dataclasses import dataclass

from .inspection import Access, Compiled, Inspection, Launch, device, here, programs

AGAIN = 0.9  # of the bytes of one line are the same ones where another line moves as many
NARROW = 0.1  # of all bytes is what a line has to move for its width to matter
FEW = 4  # times as many warps would fit: too few to have enough loads under way
SPILLED = 64  # bytes a thread, stored or loaded: less is an address or a counter
WIDEST = 128  # bits that a thread accesses at a time


@dataclass(frozen=True)
class Advice:
    """A sentence, and the lines of the file that it is about."""

    sentence: str
    lines: tuple[int, ...] = ()


def advise(found: Inspection) -> Advice:
    """The first of GRAVEST_FIRST, below, that has something to say."""
    return next(advice for look in GRAVEST_FIRST if (advice := look(found)))


def too_large(found: Inspection) -> Advice | None:
    for launch in _launches(found):
        for arch, facts in launch.facts.items():
            if (over := facts["shared"] - facts["limit"]) > 0:
                return Advice(
                    f"{launch.kernel} needs {facts['shared']:,} bytes of shared memory, {over:,} more than a block has "
                    f"on sm_{arch}: make the tiles or num_stages smaller"
                )
    return None


def spilling(found: Inspection) -> Advice | None:
    for launch in _launches(found):
        for arch, facts in launch.facts.items():
            if facts["spills"] >= SPILLED:
                return Advice(
                    f"{launch.kernel} spills {facts['spills']:,} bytes a thread to memory on sm_{arch}, where it has "
                    f"{facts['registers']} registers: make the block smaller, or num_warps larger"
                )
    return None


def scattered(found: Inspection) -> Advice | None:
    if not found.traced or found.traced.figures["sector_share"] >= found.traced.wanted.sectors:
        return None
    worst = max(found.traced.accesses, key=lambda access: access.wasted)
    return Advice(
        f"line {worst.line} uses {worst.share:.0%} of the sectors it touches: neighbouring lanes should "
        f"{_verb(worst)} neighbouring addresses",
        (worst.line,),
    )


def launches(found: Inspection) -> Advice | None:
    if not found.traced or found.traced.figures["launches"] <= (most := found.traced.wanted.launches):
        return None
    torchs = ", ".join(dict.fromkeys(f"torch's {operation['name']}" for operation in found.traced.operations))
    among = f", {torchs} among them" if torchs else ""
    more = f", and {_total(found)}" if _times(found) > found.traced.wanted.slack else ""
    return Advice(
        f"the call launches {found.traced.figures['launches']} kernels where {most} will do{among}{more}: what one has "
        "loaded or stored, the next has to load again"
    )


def repeated(found: Inspection) -> Advice | None:
    """Of the argument that is moved most often over: the line that does so, or the lines that each do once."""
    if not found.traced or _times(found) <= found.traced.wanted.slack:
        return None
    moved = {}
    for access in found.traced.accesses:
        moved.setdefault((access.kind, access.arg), []).append(access)
    if not moved:
        return None
    accesses = max(moved.values(), key=lambda same: sum(access.bytes for access in same) - same[0].size)
    most = max(accesses, key=lambda access: access.bytes)
    lines = tuple(access.line for access in accesses if access.bytes >= AGAIN * most.bytes)
    if len(lines) > 1:
        named = f"{', '.join(map(str, lines[:-1]))} and {lines[-1]}"
        again = f"lines {named} each {_verb(most)} {most.arg}"
        less = "do so once, and keep in registers what is needed again"
    else:
        again = f"line {most.line} {_verb(most, 's')} all of {most.arg} {most.bytes / max(1, most.size):.1f} times over"
        less = "larger tiles share what several programs or steps need"
    return Advice(f"{again}, and the call {_total(found)}: {less}", lines)


def memory(found: Inspection) -> Advice | None:
    if not found.traced or found.traced.figures["extra_memory"] <= found.traced.memory:
        return None
    return Advice(
        f"the call allocates {found.traced.figures['extra_memory']:,} bytes beyond its results: what passes through "
        "memory on the way is stored and loaded once more"
    )


def other_complaint(found: Inspection) -> Advice | None:
    """What else `moves` asks for."""
    return Advice(f"the call {found.traced.complaints[0]}") if found.traced and found.traced.complaints else None


def no_matrix_unit(found: Inspection) -> Advice | None:
    if not found.traced or not found.traced.flops or not _bound_by_arithmetic(found):
        return None
    used = {kind for launch in found.launches for kind in launch.facts[found.arch]["instructions"]}
    if not used & {"mma", "wgmma"}:
        return Advice(
            f"tl.dot became no tensor-core instruction on sm_{found.arch}: give it fp16 or bf16 tiles (fp32 needs "
            "input_precision tf32), at least 16 along each side"
        )
    if found.arch == 90 and "wgmma" not in used:
        return Advice(
            "on sm_90 tl.dot became mma.sync, not the faster wgmma: that takes tiles of at least 64 rows, and "
            "num_warps of 4 or 8"
        )
    return None


def narrow(found: Inspection) -> Advice | None:
    """A line that moves much, in whole sectors, but less than a thread could at a time."""
    if not found.traced:
        return None
    threads = max(launch.facts[found.arch]["threads"] for launch in found.launches)
    for access in sorted(found.traced.accesses, key=lambda access: -access.bytes):
        bits = max(found.bits(launch.facts[found.arch], access) for launch in found.launches)
        much = access.bytes >= NARROW * found.traced.figures["requested_bytes"]
        if not (much and 0 < bits < WIDEST and access.bits < WIDEST) or access.kind == "atomic" or access.tma:
            continue
        block = access.bytes // max(1, access.times)
        if 8 * block < WIDEST * threads:
            cause = f"its {block:,} bytes are shared by {threads} threads: make the block larger, or num_warps smaller"
        else:
            cause = (
                "Triton cannot tell that the addresses of neighbours follow one another from a multiple of 16 bytes "
                "on: a stride or a size that no 16 divides, or a mask that changes from lane to lane"
            )
        return Advice(
            f"line {access.line} {access.kind}s {bits} bits a thread at a time, not {WIDEST}: {cause}", (access.line,)
        )
    return None


def idle(found: Inspection) -> Advice | None:
    gpu = device(found.arch)
    for call in found.compiled:
        counts = [programs(launch.facts[found.arch]) for launch in call.launches if found.arch in launch.facts]
        if counts and max(counts) < gpu.multiprocessors:
            return Advice(
                f"a grid of {max(counts)} leaves {gpu.multiprocessors - max(counts)} of the {gpu.multiprocessors} "
                f"multiprocessors of an {gpu.name} idle: cut the work among more programs"
            )
    return None


def few_warps(found: Inspection) -> Advice | None:
    if _bound_by_arithmetic(found):
        return None  # tensor cores are kept busy by few warps
    for launch in found.launches:
        facts, held = launch.facts[found.arch], launch.occupancy(found.arch)
        if FEW * held.warps > held.most:
            continue
        if "registers" in held.limits:
            taken, less = f"{facts['registers']} registers a thread", "make the block smaller, or num_warps larger"
        elif "shared memory" in held.limits:
            taken, less = f"{facts['shared']:,} bytes of shared memory a block", "make the tiles or num_stages smaller"
        else:
            continue
        return Advice(
            f"{taken} let {held.warps} warps run of {held.most} on sm_{found.arch}, too few to keep many loads under "
            f"way: {less}"
        )
    return None


def roof(found: Inspection) -> Advice:
    """Nothing is amiss: what is left is the work itself."""
    if found.wrong:
        return Advice(f"its result is wrong for {found.wrong[0].id}, and that comes before its speed")
    call = next((call for call in found.compiled if call.bytes), None)
    if not (call and found.traced):
        return Advice("no limit is known: its spec " + ("grades no moves" if call else "times no call"))
    archs = [found.arch] if here() else [arch for arch in found.archs if arch != 86] or found.archs
    times = [f"{_least(found, call, arch):.2f} ms on an {device(arch).name}" for arch in archs]
    what, work = "memory", f"{1e-6 * call.bytes:,.0f} MB"
    if _bound_by_arithmetic(found):
        what, work = "arithmetic", f"{1e-9 * found.intensity(call, found.arch)[0] * call.bytes:,.0f} GFLOP"
    wasted = _times(found) > 1.05 or found.traced.figures["sector_share"] < 0.9
    nothing = (
        f"the call that is traced {_total(found)}, which is granted here"
        if wasted
        else "nothing is wasted that shows here"
    )
    return Advice(
        f"{what} is the limit, and {nothing}: the {work} of {call.case.id} take at least {' and '.join(times)}"
    )


def _least(found: Inspection, call: Compiled, arch: int) -> float:
    """Milliseconds that the bytes and the operations of a call take at the rates of the datasheet."""
    ratio, ridge = found.intensity(call, arch) or (0, 1)
    return 1e-6 * call.bytes / device(arch).bandwidth * max(1, ratio / ridge)


def _bound_by_arithmetic(found: Inspection) -> bool:
    known = [found.intensity(call, found.arch) for call in found.compiled]
    return any(pair and pair[0] > pair[1] for pair in known)


def _launches(found: Inspection) -> list[Launch]:
    return [launch for call in found.compiled for launch in call.launches]


def _times(found: Inspection) -> float:
    return found.traced.figures["requested_bytes"] / found.traced.figures["necessary_bytes"]


def _total(found: Inspection) -> str:
    return f"moves {_times(found):.1f} times the bytes that are necessary"


def _verb(access: Access, s: str = "") -> str:
    return {"load": f"load{s}", "store": f"store{s} to", "atomic": f"add{s} to"}[access.kind]


GRAVEST_FIRST = (
    too_large,
    spilling,
    scattered,
    launches,
    repeated,
    memory,
    other_complaint,
    no_matrix_unit,
    narrow,
    idle,
    few_warps,
    roof,
)
