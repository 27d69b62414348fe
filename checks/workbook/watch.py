"""Regrade on save. The servers stay warm, so that an answer takes less than a second."""

import contextlib
import os
import secrets
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator

from . import catalog, cli, progress, report, warm
from .catalog import Part
from .report import console, say

PERIOD = 0.2  # seconds between two looks at the file
KEYS = "n next   h hint   l list   c check all   r reset   q quit"


class Watch:
    """One part at a time; n goes on, and nothing else does."""

    def __init__(self, part: Part):
        self.part, self.seed = part, secrets.randbelow(10**6)

    def run(self) -> None:
        graded, pressed = None, ""
        with keyboard() as key:
            warm.warm_up("interpret", "compile")
            say(f"{self.file()} is graded now, and again on every save")
            self.keys()
            while pressed != "q":
                if (saved := self.saved()) != graded:
                    if graded and console.is_terminal:
                        console.clear()
                    graded = saved  # before grading, so that a save in the meantime is seen
                    self.regrade()
                pressed = key(PERIOD)
                if pressed in ACTIONS:
                    with key.cooked():
                        ACTIONS[pressed](self)

    def saved(self) -> tuple[str, int]:
        """Changes when the file is saved, and when another part is watched."""
        try:
            return self.part.id, self.part.file(catalog.STAGES).stat().st_mtime_ns
        except FileNotFoundError:
            return self.part.id, 0

    def file(self) -> str:
        return report.shown(self.part.file(catalog.STAGES))

    def keys(self) -> None:
        if sys.stdin.isatty():
            say(KEYS, "dim")

    def regrade(self) -> None:
        outcome = cli.grade(self.part, catalog.STAGES, self.seed)
        if outcome.status == "pass":
            say("passes; n goes on to the next part", "green", 6)
        self.line()

    def line(self) -> None:
        """How far one is, what is waited for, and the keys."""
        state, parts = progress.load(), catalog.parts()
        done = sum(progress.standing(part, state) == "pass" for part in parts)
        filled = round(24 * done / len(parts))
        bar = f"{'█' * filled}{'░' * (24 - filled)}  {done} of {len(parts)}"
        say(f"\n{bar}   waiting for a save of {self.file()}", "bold")
        self.keys()

    def next(self) -> None:
        state = progress.load()
        following = progress.next_part(state, after=self.part) or progress.next_part(state)
        if following in (None, self.part):
            say("there is no other part that does not pass yet")
        self.part = following or self.part

    def hint(self) -> None:
        cli.give_hint(self.part)

    def list(self) -> None:
        cli.show_progress()

    def check_all(self) -> None:
        outcomes = [cli.grade(part, catalog.STAGES, self.seed, alone=False) for part in catalog.parts()]
        report.summary(outcomes, catalog.STAGES)
        self.line()

    def reset(self) -> None:
        if cli.confirm(f"lay the stub of {self.part.id} again? a copy of your file is kept"):
            cli.lay_again(self.part)


ACTIONS: dict[str, Callable[[Watch], None]] = {
    "n": Watch.next,
    "h": Watch.hint,
    "l": Watch.list,
    "c": Watch.check_all,
    "r": Watch.reset,
    "x": Watch.reset,
}


class Keyboard:
    """Keys without Enter. Where stdin is no terminal there are none, and asking for one only takes its time."""

    def __init__(self):
        self.fd = sys.stdin.fileno() if sys.stdin.isatty() else None
        self.before = None if self.fd is None else termios.tcgetattr(self.fd)

    def __call__(self, seconds: float) -> str:
        if self.fd is None:
            time.sleep(seconds)
            return ""
        if not select.select([self.fd], [], [], seconds)[0]:
            return ""
        return os.read(self.fd, 1).decode(errors="replace") or "q"  # the terminal is gone

    @contextlib.contextmanager
    def cooked(self) -> Iterator[None]:
        """The terminal as it was, for a question."""
        self.restore()
        try:
            yield
        finally:
            self.raw()

    def raw(self) -> None:
        if self.fd is not None:
            tty.setcbreak(self.fd, termios.TCSANOW)

    def restore(self) -> None:
        if self.fd is not None:
            termios.tcsetattr(self.fd, termios.TCSADRAIN, self.before)


@contextlib.contextmanager
def keyboard() -> Iterator[Keyboard]:
    """A keyboard; the terminal is as before on every way out."""
    key = Keyboard()
    key.raw()
    try:
        yield key
    finally:
        key.restore()
