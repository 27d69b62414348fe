"""The verdict on what was compiled: whether it fits the architecture, and what it spills."""

from . import devices
from .words import TORCH, Verdict


def judge(kernels: list[tuple[str, dict]], arch: int) -> Verdict:
    """On the kernels that calls launch, each with the id of the case, and its facts (see codegen.figures)."""
    if not kernels:
        return Verdict("fail", f"no kernel is launched: {TORCH}")
    facts, limit, spilling = {"kernels": [kernel for _, kernel in kernels]}, devices.SHARED[arch], []
    for case, kernel in kernels:
        if kernel["shared"] > limit:
            over = kernel["shared"] - limit
            return Verdict(
                "fail",
                f"{kernel['kernel']} needs {kernel['shared']:,} bytes of shared memory for {case}, {over:,} more than "
                f"the {limit:,} that a block has on sm_{arch}: make the tiles or num_stages smaller there",
                facts,
            )
        if kernel["spills"]:
            spilling.append(f"{kernel['kernel']} spills {kernel['spills']:,} bytes of registers for {case}")
    advice = ": smaller tiles, or more warps, spill less" if spilling else ""
    return Verdict("pass", "; ".join(spilling) + advice, facts)


def in_a_graph(alone: int, both: int) -> Verdict:
    """On the kernels in the graph that torch.compile makes of a call, alone and with its backward."""
    if alone and both > alone:
        return Verdict("pass")
    missing = "the backward" if alone else "the forward"
    why = "launch each by wrap_triton(kernel)[grid](...), in a function that is a triton_op itself"
    return Verdict("fail", f"the graph that torch.compile makes has no kernel of {missing}: {why}")
