"""What went wrong, in a few words, from the first line of a message. The first pattern that is found names it."""

import re

CAUSES = (
    ("blank left open", r"blanks? [\d, and]+ (is|are) still open"),
    ("no file, or no such function", r"there is no file|the file defines no|cannot be read|not UTF-8"),
    ("does not parse or import", r"^(syntax error|wrong indentation|ModuleNotFoundError|ImportError)"),
    ("no kernel of its own", r"no kernel is launched|even with every kernel emptied|is asked of a Triton kernel"),
    ("crash or time-out", r"no answer within|the process (was|ended|told)|out of GPU memory"),
    ("out of bounds", r"out.of.bounds|illegal memory access"),
    ("race", r"^race, |is not the same in run|still changed after"),
    ("changes its input", r"^changes its input|lies in the memory of the input"),
    ("elements never written", r"were never written"),
    (
        "wrong shape, dtype or layout",
        r"^returns \d+ tensors| has shape | is (b?float|u?int|bool|complex)\w*, expected|is not contiguous",
    ),
    ("suspect speed", r"^suspect: "),
    ("wrong prediction", r"the trace shows|where a number is expected"),
    ("wrong result", r"elements of .+ (is|are) wrong|relative error|, expected "),
)
RUNG = {"compiles": "does not compile", "moves": "moves too much", "fast": "too slow"}
WHERE = re.compile(r"^(not measured: |right on the CPU, wrong on the GPU: |in (a )?timed call( \d+)?: )+")


def cause(check) -> str:
    """check: has a status, a rung and a message."""
    if check.status == "error":
        return "could not be graded"
    sentence = WHERE.sub("", check.message.partition("\n")[0])
    for what, pattern in CAUSES:
        if re.search(pattern, sentence):
            return what
    return RUNG.get(check.rung, "raises an error")
