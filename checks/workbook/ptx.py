"""What PTX says of a kernel: which instructions of it matter, and from which line of the source they come."""

import os
import re
from collections import Counter

OPERATION = {"ld": "load", "st": "store", "atom": "atomic", "red": "atomic"}
GLOBAL = re.compile(r"\b(ld|st|atom|red)\.[\w.:]*\bglobal\b[\w.:]*?(?:\.v(\d))?\.[a-z]+(\d+)(x2)?\s")
ASYNC_COPY = re.compile(r"\bcp\.async\.c[ag]\.shared\S*global\S*\s*\[[^]]*\],\s*\[[^]]*\],\s*(\w+)")
KINDS = {
    "mma": re.compile(r"\bmma\.sync"),
    "wgmma": re.compile(r"\bwgmma\.mma_async"),
    "tma": re.compile(r"\bcp\.(reduce\.)?async\.bulk\.tensor"),
    "bar": re.compile(r"\bbar(rier)?(\.cta)?\.sync"),
    "mbarrier": re.compile(r"\bmbarrier\.try_wait"),
}


def read(ptx: str) -> tuple[list[dict], list[int], dict[str, int]]:
    """The accesses to global memory by source line, the lines that TMA copies, and the instructions of each kind.

    From PTX and not SASS: ptxas keeps each access as wide as PTX states it, PTX carries the line table in
    clear, and to disassemble takes longer than many a compilation.
    """
    own = os.path.basename(re.search(r'\.file\s+1 "(.*?)"', ptx)[1])
    place = re.compile(rf"\s*\.loc\s.*//.*?\b{re.escape(own)}:([1-9]\d*):")
    line, inline, access, copied, instructions = 0, False, {}, set(), Counter()
    for text in ptx.splitlines():
        if "inline asm" in text:
            inline = "begin" in text
        elif ".loc" in text:
            # The innermost frame in the learner's own file. Inside inline assembly LLVM goes on to number the
            # lines of the assembly: what it says there is not about the learner's file.
            if not inline and (match := place.match(text)):
                line = int(match[1])
        elif match := GLOBAL.search(text):
            operation, vector, width, pair = match.groups()
            op, bits = OPERATION[operation], int(vector or 1) * int(width) * (2 if pair else 1)
            instructions["atomic" if op == "atomic" else f"{operation}.{bits}"] += 1
            access.setdefault((line, op), []).append(bits)
        elif match := ASYNC_COPY.search(text):
            instructions["cp.async"] += 1
            access.setdefault((line, "load"), []).append(8 * int(match[1], 0))
        elif kind := next((kind for kind, pattern in KINDS.items() if pattern.search(text)), ""):
            instructions[kind] += 1
            if kind == "tma":
                copied.add(line)
    rows = [{"line": at, "op": op, "bits": max(bits), "count": len(bits)} for (at, op), bits in sorted(access.items())]
    return rows, sorted(copied), dict(instructions)
