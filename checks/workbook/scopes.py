"""Proton's tree -> a reading: the JSON of a .hatchet file, as triton.profiler writes it.

A list of two: the devices last, and first the root, {"frame": {"name"}, "metrics": {"time (ns)", "count", "bytes",
"flops", ...}, "children"}, whose metrics are a node's own. A call is a scope that bears the bytes and flops that it is
asked for; the kernels are below it.
"""

import json

from .readings import Asked, Reading, Unreadable, number, short, size, time

TIME = "time (ns)"
METADATA = (
    "__proton_launch_metadata"  # begins the scope of what a launch hook itself launches; see triton.profiler.state
)


def read(text: str, calls: int, asked: Asked) -> Reading:
    """The tree of `calls` calls: the time of each node with all below it, and bytes and flops where they are told."""
    root = json.loads(text)[0]
    took = seconds(root)
    if not took:
        raise Unreadable("proton saw no kernel in the calls that are profiled")
    rows = [row for child in sorted(root["children"], key=seconds, reverse=True) for row in tree(child, took)]
    ratio = f"at {number(asked.flops / asked.bytes)} operations a byte" if asked.flops else "asked for no operations"
    bound = f"{ratio} it is bound by {asked.bound}"
    return Reading([(f"{calls} calls, {asked.case}", rows)], f"a call takes {asked.held(took / calls)}; {bound}")


def tree(node: dict, whole: float, depth: int = 0) -> list[tuple[str, str]]:
    """A row a node, indented by its depth; what took no time is left out."""
    took, own = seconds(node), node["metrics"]
    if not took:
        return []
    told = [time(took), f"{took / whole:.0%}"]
    if own.get("count"):
        told.append(f"{own['count']:,} times, {time(took / own['count'])} each")
    if own.get("bytes"):
        told.append(f"{size(own['bytes'])}, {own['bytes'] / took / 1e9:,.0f} GB/s")
    if flops := sum(value for name, value in own.items() if name.startswith("flops")):
        told.append(f"{number(flops / took / 1e12)} TFLOPS")
    rows = [("  " * depth + short(node["frame"]["name"]), ", ".join(told))]
    for child in sorted(node.get("children", []), key=seconds, reverse=True):
        rows += tree(child, whole, depth + 1)
    return rows


def seconds(node: dict) -> float:
    """Of a node and all below it."""
    if node["frame"]["name"].startswith(METADATA):
        return 0.0
    return node["metrics"].get(TIME, 0) / 1e9 + sum(map(seconds, node.get("children", [])))
