"""The code that kernels became, written to files: TTIR, TTGIR, PTX, and SASS with the learner's lines quoted in it."""

import re
from collections import Counter
from pathlib import Path

from .inspection import CannotInspect, Inspection

PLACE = re.compile(r'(\s*//## )File "(.*)", line (\d+)(.*)')


def check(folder: Path) -> None:
    """Makes the folder; nothing is ever overwritten. Raises CannotInspect where it is not new, nor empty."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise CannotInspect(f"{folder} is there already: name a new or an empty folder")
    except FileExistsError:
        raise CannotInspect(f"{folder} is there already, and is no folder: name a new or an empty folder") from None
    except OSError as error:
        raise CannotInspect(f"{folder} cannot be written: {error.strerror}") from None


def save(found: Inspection, folder: Path) -> int:
    """Writes FOLDER/CASE/KERNEL.sm_80.ptx and its kin; how many. Raises CannotInspect where that fails."""
    written, names = 0, Counter()
    try:
        for call in found.compiled:
            into = folder / plain(call.case.id)
            into.mkdir(exist_ok=True)
            for launch in call.launches:
                names[into, launch.kernel] += 1
                again = f"_{number}" if (number := names[into, launch.kernel]) > 1 else ""
                for arch, facts in launch.facts.items():
                    for stage, text in facts["texts"].items():
                        words = text.decode(errors="replace")
                        file = into / f"{plain(launch.kernel)}{again}.sm_{arch}.{stage}"
                        file.write_text(quoted(words, found) if stage == "sass" else words)
                        written += 1
    except OSError as error:
        raise CannotInspect(f"{folder} cannot be written: {error.strerror}") from None
    return written


def quoted(sass: str, found: Inspection) -> str:
    """SASS in which each place in the learner's file is followed by what stands there."""
    source, lines = found.text.splitlines(), []
    for line in sass.splitlines():
        if (place := PLACE.fullmatch(line)) and Path(place[2]).name == found.file.name:
            start, _, number, more = place.groups()
            here = source[int(number) - 1].strip() if int(number) <= len(source) else ""
            line = f"{start}{found.file.name}:{number}{more}: {here}"
        lines.append(line)
    return "\n".join([*lines, ""])


def plain(name: str) -> str:
    """A name that stays inside its folder, whatever a submission called its kernel."""
    return re.sub(r"[^\w=,+-]", "_", name)[:100]
