"""Draws check.svg: what `make check EX=1.1a` prints for a kernel with a wrong grid, and for the right one."""

import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text
from workbook import catalog

PART = catalog.select("1.1a")[0]
WRONG = ("triton.cdiv(n, BLOCK)", "max(1, n // BLOCK)")


def printed(source: str) -> str:
    with tempfile.TemporaryDirectory() as tree:
        file = PART.file(Path(tree))
        file.parent.mkdir(parents=True)
        file.write_text(source)
        command = [sys.executable, "-m", "workbook", "check", PART.id, "--tree", tree, "--seed", "7"]
        environment = os.environ | {"FORCE_COLOR": "1", "COLUMNS": "118", "WORKBOOK_STATE": tree}
        text = subprocess.run(command, capture_output=True, text=True, env=environment).stdout
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-ln-z]", "", text).replace(f" TREE={tree}", "")  # keeps colours only
    lines = text.replace("\r", "\n").splitlines()
    return "\n".join(line for line in lines if line.strip() and not re.search("[⠀-⣿]", line))  # no spinner


source = PART.file(catalog.SOLUTIONS).read_text()
console = Console(record=True, width=118, file=io.StringIO())
for text in (printed(source.replace(*WRONG)), printed(source)):
    console.print("$ make check EX=1.1a", style="bold")
    console.print(Text.from_ansi(text))
    console.print()
svg = console.export_svg(title="Triton Mastery Workbook")
svg = re.sub(r"@font-face {.*?}\s*", "", svg, flags=re.S)  # a font from the network: the reader's own will do
Path(__file__).with_name("check.svg").write_text(svg)
