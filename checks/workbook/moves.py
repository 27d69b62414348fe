"""Bytes, sectors, launches and memory against what is necessary: a good kernel told from a merely right one."""

from .exercise import Case, Moves, Prediction
from .schedule import MULTIPROCESSORS

SECTOR = 32  # bytes that the memory system moves at a time


def judge(moves: Moves, inputs, outputs: int, answer: dict) -> tuple[list[str], dict]:
    """What the entry moves too much of, in words (empty: nothing), and the measured figures.

    inputs: the arguments of the call. outputs: bytes of its results. answer: what the worker said of it.
    """
    facts, operations = answer["facts"], answer["operations"]
    lines = facts["lines"]
    necessary = moves.bytes(*inputs)
    requested = sum(line["bytes"] for line in lines) + sum(op["bytes"] for op in operations)
    share = in_use(lines)
    launches = len(facts["launches"]) + len(operations)
    memory = sum(size for _, size in answer["taken"]) + answer["elsewhere"] - outputs
    figures = {
        "necessary_bytes": necessary,
        "requested_bytes": requested,
        "sector_share": round(share, 3),
        "launches": launches,
        "extra_memory": memory,
    }
    if moves.window:
        loads = facts["window"] or {"bytes": 0, "distinct": 0}
        reuse = loads["bytes"] / max(1, loads["distinct"])
        figures["reuse"] = round(reuse, 2)
    if moves.programs:
        figures["programs"] = programs = max((launch["programs"] for launch in facts["launches"]), default=0)
    if moves.busy:
        busy = facts["schedule"]["work"] / max(1, facts["schedule"]["room"])
        figures["busy"] = round(busy, 3)
    complaints = []
    if requested > moves.slack * necessary:
        complaints.append(
            f"asks for {requested:,} bytes, {requested / necessary:.1f} times the {necessary:,} necessary: "
            + _most(_by_bytes(lines, operations))
        )
    if share < moves.sectors:
        worst = max(lines, key=lambda line: SECTOR * line["sectors"] - line["useful"])
        complaints.append(
            f"uses {share:.0%} of the {SECTOR}-byte sectors it touches, at least {moves.sectors:.0%} is asked; "
            f"worst is the {worst['kind']} of {worst['arg']} in line {worst['line']}, "
            f"which uses {in_use([worst]):.0%}"
        )
    if launches > moves.launches:
        names = [launch["kernel"] for launch in facts["launches"]] + [f"torch's {op['name']}" for op in operations]
        complaints.append(f"launches {launches} kernels where {moves.launches} will do: {', '.join(names[:8])}")
    if moves.window and reuse < moves.window.reuse:
        complaints.append(
            f"{moves.window.programs} programs in a row load each byte {reuse:.1f} times between them, at least "
            f"{moves.window.reuse} is asked: number the tiles so that neighbours share what they load"
        )
    if moves.programs and programs > moves.programs:
        complaints.append(
            f"launches {programs} programs, at most {moves.programs} are asked on a GPU of {MULTIPROCESSORS} "
            "multiprocessors: let each make more than one tile"
        )
    if moves.busy and busy < moves.busy:
        complaints.append(
            f"keeps {MULTIPROCESSORS} multiprocessors at work for {busy:.0%} of the time, at least {moves.busy:.0%} is "
            "asked: give each of them as many products as the others"
        )
    if memory > moves.memory(*inputs):
        complaints.append(f"allocates {memory:,} bytes beyond its outputs, at most {moves.memory(*inputs):,} is asked")
    return complaints, figures


def foretold(prediction: Prediction, case: Case, inputs, said: float, answer: dict) -> str:
    """What is wrong with a learner's prediction of a case, in words; empty where it holds.

    said: what the learner's function returned. answer: what the worker said of the learner's kernel.
    """
    loads = [line for line in answer["facts"]["lines"] if line["kind"] == "load"]
    right, traced = prediction.share(*inputs), in_use(loads)
    if traced != right:
        return (
            f"the loads of {case.id} use {traced} of the sectors that they touch, where {right} can be had: "
            "mend the kernel before the prediction"
        )
    if said != right:
        rounded = ": do not round" if abs(said - right) < 1e-3 else ""
        arguments = ", ".join(f"{name}={value}" for name, value in prediction.arguments(*inputs).items())
        useful, sectors = (sum(load[what] for load in loads) for what in ("useful", "sectors"))
        return (
            f"{prediction.function}({arguments}) is {said}, the trace shows {traced}: "
            f"{useful:,} bytes in use in {sectors:,} sectors of {SECTOR} bytes{rounded}"
        )
    return ""


def in_use(lines) -> float:
    """The share in use of the sectors that some lines of the trace touch."""
    touched = SECTOR * sum(line["sectors"] for line in lines)
    return sum(line["useful"] for line in lines) / touched if touched else 1.0


def _by_bytes(lines, operations):
    words = [
        (line["bytes"], f"line {line['line']} {line['kind']}s {line['bytes']:,} of {line['arg']}") for line in lines
    ]
    return words + [(op["bytes"], f"torch's {op['name']} moves {op['bytes']:,}") for op in operations]


def _most(words, count=4):
    return ", ".join(text for _, text in sorted(words, key=lambda w: -w[0])[:count])
