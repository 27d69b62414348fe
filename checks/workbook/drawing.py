"""An inspected kernel as a learner sees it: its resources, and what each line of it moves, beside the line itself."""

from collections import defaultdict
from itertools import zip_longest

from rich.padding import Padding
from rich.syntax import Syntax
from rich.text import Text

from . import moves, report
from .advice import Advice, advise
from .inspection import Access, Compiled, Inspection, Launch, Traced, device, programs
from .report import clean, console, say

WIDE = 100  # columns of a terminal that has room for bars
BAR = 10  # characters that stand for all of a sector
GOOD, POOR = 0.9, 0.5  # shares of the sectors
MATTERS = 0.05  # of the bytes of all sectors touched is what a line has to waste to be coloured
LABEL = 19  # columns of the names in a table
COUNTED = {  # in the compiled code: what it is called here, and which instructions it is
    "128-bit loads": ("ld.128",),
    "narrower loads": ("ld.8", "ld.16", "ld.32", "ld.64"),
    "128-bit stores": ("st.128",),
    "narrower stores": ("st.8", "st.16", "st.32", "st.64"),
    "atomics": ("atomic",),
    "cp.async": ("cp.async",),
    "mma.sync": ("mma",),
    "wgmma": ("wgmma",),
    "TMA copies": ("tma",),
    "barriers": ("bar",),
    "mbarrier waits": ("mbarrier",),
}
ALWAYS = ("128-bit loads", "narrower loads")


def show(found: Inspection) -> None:
    """Everything about one part, and last what limits it."""
    advice = advise(found)
    say(f"{found.part.id} {found.part.title}  ({report.shown(found.file)})", "bold")
    amiss(found)
    tables = [
        (launch.kernel, call.case.id, {arch: figures(found, call, launch, arch) for arch in launch.facts})
        for call in found.compiled
        for launch in call.launches
    ]
    wide = 2 + max(len(cell) for *_, columns in tables for column in columns.values() for cell in column.values())
    before = {}
    for kernel, case, columns in tables:
        say()
        table(f"{kernel}, {case}", columns, before.get(kernel, {}), wide)
        before[kernel] = columns
    say()
    picture(found, advice)
    say()
    timed(found)
    limit(advice)


def compare(mine: Inspection, theirs: Inspection) -> None:
    """Two trees' figures side by side, what differs marked, and what limits each."""
    both, names = (mine, theirs), [report.shown(found.tree) for found in (mine, theirs)]
    say(f"{mine.part.id} {mine.part.title}  ({' beside '.join(names)})", "bold")
    for found, name in zip(both, names):
        amiss(found, f"{name}: ")
    for calls in zip(mine.compiled, theirs.compiled):
        for launches in zip_longest(*(call.launches for call in calls)):
            kernels = dict.fromkeys(launch.kernel for launch in launches if launch)
            say()
            say(f"{' beside '.join(kernels)}, {calls[0].case.id}", "bold", 2)
            pair(names, [side(*three) for three in zip(both, calls, launches)])
    say()
    if mine.traced and theirs.traced:
        say(f"one call, {mine.traced.case.id}", "bold", 2)
        pair(names, [{name: {0: figure} for name, figure in moved(found.traced).items()} for found in both])
        say()
    for found, name in zip(both, names):
        timed(found, f"{name}: ")
        limit(advise(found), f"{name}: ")


def amiss(found: Inspection, whose: str = "") -> None:
    """What is wrong with a part that is inspected all the same."""
    told = []
    if found.wrong:
        case, verdict = found.wrong
        told.append(f"fails {case.id}: {verdict.message}")
    told += [f"does not compile for sm_{arch}: {why}" for arch, why in found.refused.items()]
    told += [f"{call.case.id} launches no kernel" for call in found.compiled if not call.launches]
    for sentence, *quoted in (text.split("\n") for text in told):
        say(f"{whose}{sentence}", "red", 2)
        for line in quoted:
            say(line, indent=4)


def figures(found: Inspection, call: Compiled, launch: Launch, arch: int) -> dict[str, str]:
    """What one kernel takes of one architecture, and what its code is made of."""
    facts, held, known = launch.facts[arch], launch.occupancy(arch), found.intensity(call, arch)
    counts = {name: sum(facts["instructions"].get(kind, 0) for kind in kinds) for name, kinds in COUNTED.items()}
    return {
        "registers a thread": f"{facts['registers']}",
        "bytes spilled": f"{facts['spills']:,}",
        "bytes shared": f"{facts['shared']:,}",
        "warps a program": f"{facts['warps']}",
        "warps resident": f"{held.warps} of {held.most}",
        "limited by": ", ".join(held.limits).replace("shared memory", "shared"),
        "programs": f"{programs(facts):,}",
        "waves": f"{launch.waves(arch):,.1f}" if held.blocks else "none fits",
        "operations a byte": number(known[0]) if known else "not known",
        "ridge point": f"{known[1]:,.1f}" if known else "not known",
        **{name: f"{count:,}" for name, count in counts.items()},
    }


def moved(traced: Traced) -> dict[str, str]:
    """What the traced call moves."""
    figures = traced.figures
    return {
        "bytes asked for": f"{figures['requested_bytes']:,}",
        "bytes necessary": f"{figures['necessary_bytes']:,}",
        "sectors in use": f"{figures['sector_share']:.0%}",
        "operations a byte": number(traced.intensity),
        "kernels launched": f"{figures['launches']:,}",
        "extra memory": f"{figures['extra_memory']:,}",
    }


def table(title: str, columns: dict[int, dict[str, str]], before: dict[int, dict[str, str]], wide: int) -> None:
    """The figures of one kernel, a column for each architecture; of a kernel that was shown before, what differs."""
    names = [name for name in next(iter(columns.values())) if worth(name, list(columns.values()))]
    differ = [name for name in names if any(before.get(arch, {}).get(name) != columns[arch][name] for arch in columns)]
    say(f"{title}{'' if differ == names else ', the rest as above'}", "bold", 2)
    rows = [[f"sm_{arch}" for arch in columns], [device(arch).name for arch in columns]]
    rows += [[column[name] for column in columns.values()] for name in differ]
    for number, (name, cells) in enumerate(zip(["", "", *differ], rows)):
        say(f"{name:<{LABEL}}{''.join(f'{cell:>{wide}}' for cell in cells)}", ("bold", "dim", "")[min(number, 2)], 4)


def side(found: Inspection, call: Compiled, launch: Launch | None) -> dict[str, dict[int, str]]:
    """The figures of one kernel by name, each by architecture."""
    columns = {arch: figures(found, call, launch, arch) for arch in launch.facts} if launch else {}
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    return {name: {arch: column[name] for arch, column in columns.items()} for name in names}


def pair(heads: list[str], sides: list[dict[str, dict[int, str]]]) -> None:
    """Two columns of figures; a row in which they differ is marked. Architectures share a row where they agree."""
    rows = [("", "", *heads)]
    for name in dict.fromkeys(name for one in sides for name in one):
        here = [one.get(name, {}) for one in sides]
        archs = sorted({arch for values in here for arch in values})
        if name in COUNTED and not worth(name, [{name: value} for values in here for value in values.values()]):
            continue
        if all(len(set(values.values())) < 2 for values in here):
            archs = archs[:1]
        for arch in archs:
            label = f"sm_{arch}" if len(archs) > 1 else ""
            rows.append((name if arch == archs[0] else "", label, *(values.get(arch, "-") for values in here)))
    wide = 2 + max(len(cell) for _, _, *cells in rows for cell in cells)
    for number, (name, arch, left, right) in enumerate(rows):
        differs = number > 0 and left != right
        style = "yellow" if differs else "" if number else "bold"
        say(f"{'≠' if differs else ' '} {name:<{LABEL}}{arch:<6}{left:>{wide}}{right:>{wide}}", style, 2)


def worth(name: str, columns: list[dict[str, str]]) -> bool:
    """Whether a figure is told: of the instructions only those that some code has."""
    return name not in COUNTED or name in ALWAYS or any(column[name] != "0" for column in columns)


def picture(found: Inspection, advice: Advice) -> None:
    """The learner's kernels, line by line, with what each line moves before it."""
    if found.untraced or not found.calls:
        say(f"not traced: {found.untraced or 'its spec grades no moves'}", "yellow", 2)
    for traced in found.calls:
        listing(found, traced, advice)


def listing(found: Inspection, traced: Traced, advice: Advice) -> None:
    """One traced call."""
    at = defaultdict(list)
    for access in traced.accesses:
        at[access.line].append(access)
    bars = not console.is_terminal or console.width >= WIDE
    wide = max([5, *(len(f"{access.bytes:,}") for access in traced.accesses)])
    share = BAR + 5 if bars else 7
    blank, text = Text(" " * (wide + share + 8)), clean(found.text)
    code = Syntax("", "python", theme="ansi_dark", background_color="default").highlight(text).split("\n")
    touched = moves.SECTOR * sum(access.sectors for access in traced.accesses)
    say(f"one call, {traced.case.id}", "bold", 2)
    heads = f"{'line':>8}  {'bytes':>{wide}}  {'sectors in use' if bars else 'sectors':<{share}}  bits"
    say(f"{heads} │ bits of one thread at a time, on sm_{found.arch}", "dim")
    known = [lines for lines in found.kernels if any(line in lines for line in at)]
    others = [range(line, line + 1) for line in at if not any(line in lines for lines in known)]
    for lines in sorted(known + others, key=lambda lines: lines.start):
        for line in lines:
            here = at.get(line, [])
            figures = margin(here[0], wide, bars, touched) if len(here) == 1 else blank
            mark(str(line), figures, code[line - 1] if 0 < line <= len(code) else Text(), line in advice.lines)
            for access in here if len(here) > 1 else ():
                words = Text(f"└ {access.kind} of {clean(access.arg)}", "dim")
                mark("", margin(access, wide, bars, touched), words, line in advice.lines)
    whole = Access(0, "", "", *(sum(getattr(x, n) for x in traced.accesses) for n in ("bytes", "useful", "sectors")))
    total = moved(traced)
    words = f"{total['bytes necessary']} necessary, {total['operations a byte']} operations a byte"
    mark("all", margin(whole, wide, bars, touched), Text(words, "dim"), False)
    words = f"kernels launched: {total['kernels launched']}, extra memory: {total['extra memory']} bytes"
    mark("", blank, Text(words, "dim"), False)
    for operation in traced.operations:
        say(f"torch's {operation['name']} moves {operation['bytes']:,} of the bytes", "yellow", 2)


def mark(line: str, figures: Text, code: Text, worst: bool) -> None:
    """One line of the picture; cut, not folded, where a terminal is too narrow for it."""
    number = Text(f"{'▶ ' if worst and line else '  '}{line:>4}", "bold red" if worst else "dim")
    whole = Text("  ").join([Text(""), number, figures]) + Text(" │ ", "dim") + code
    if worst:
        whole.stylize("bold")
    if console.is_terminal:
        whole.truncate(console.width, overflow="ellipsis")
    console.print(whole, soft_wrap=True)


def margin(access: Access, wide: int, bars: bool, touched: int) -> Text:
    """What one access moves: bytes, the share of its sectors in use, bits. touched: bytes of all sectors touched."""
    style = "green" if access.share >= GOOD else "yellow" if access.share >= POOR else "red"
    if access.wasted < MATTERS * touched and access.share < GOOD:
        style = "dim"
    filled = round(BAR * access.share)
    bar = f"{'█' * filled}{'░' * (BAR - filled)} {access.share:>4.0%}" if bars else f"{access.share:>7.0%}"
    bits = "TMA" if access.tma else access.bits or ""
    return Text.assemble(f"{access.bytes:>{wide},}  ", (bar, style), f"  {bits:>4}")


def timed(found: Inspection, whose: str = "") -> None:
    """On a GPU, the time of each timed call beside its roofline."""
    for case, verdict in found.measured:
        if timing := verdict.facts.get("timing"):
            roofline = f"its roofline {timing['share'] * timing['ms']:.4f} ms, {timing['share']:.0%}"
            say(f"{whose}{case.id} takes {timing['ms']:.4f} ms here, {roofline}", indent=2)
        else:
            say(f"{whose}{case.id} is not timed: {verdict.message}", "yellow", 2)


def limit(advice: Advice, whose: str = "") -> None:
    """The closing sentence, folded between words where there is a terminal."""
    text = Text(f"{'▶ ' if advice.lines else ''}{whose}{clean(advice.sentence)}", "bold")
    console.print(
        Padding(text, (0, 0, 0, 2), expand=False) if console.is_terminal else Text("  ") + text,
        soft_wrap=not console.is_terminal,
    )


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
