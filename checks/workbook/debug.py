"""Triton's own switches in a learner's check: `make check EX=1.1a DEBUG=ir`. A class is graded without them."""

import re
import shutil

from . import progress, warm
from .asked import stop
from .report import shown

SWITCHES = {  # name -> the variable of the workers' environment that is set, and what it does
    "ir": ("MLIR_ENABLE_DUMP", "the code before each pass of the compiler, up to LLVM's"),
    "autotune": ("TRITON_PRINT_AUTOTUNING", "what is tried and what is chosen on a GPU"),
    "assert": ("TRITON_DEBUG", "an int32 that overflows fails, and so does tl.device_assert on a GPU"),
}


def switch_on(name: str) -> None:
    """For the workers that are started from now on."""
    if name not in SWITCHES:
        known = "; ".join(f"{name}: {says}" for name, (_, says) in SWITCHES.items())
        stop(f"there is no DEBUG={name}; there is {known}")
    warm.switches[SWITCHES[name][0]] = "1"


def keep(outcome, name: str) -> str:
    """Writes what was printed to CHECK.txt and the code before a pass to CHECK/NUMBER-PASS.mlir; says where.

    The verdicts keep what the learner's code has printed.
    """
    folder, texts = progress.folder() / "debug" / outcome.part.id, {}
    for check, verdict in outcome.results:
        verdict.printed, *passes = re.split(r"^(?=// -----// .*IR Dump )", verdict.printed, flags=re.M)
        if verdict.printed:
            texts[f"{check.name}.txt"] = verdict.printed
        for number, text in enumerate((text for text in passes if "tt.func" in text), 1):
            at = re.search(r"IR Dump \w+:? (\w+)", text)[1]
            texts[f"{check.name}/{number:03}-{at}.mlir"] = text
    told = f"DEBUG={name}, {SWITCHES[name][1]}: "
    try:
        shutil.rmtree(folder, ignore_errors=True)
        for place, text in texts.items():
            file = folder / place.replace(" ", "_")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    except OSError as error:
        return f"{told}{shown(folder)} cannot be written: {error.strerror}"
    return told + (f"{len(texts)} files in {shown(folder)}" if texts else "nothing was told by what ran here")
