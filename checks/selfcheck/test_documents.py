"""Every ```python block of a lesson or a note runs without a GPU, and the links of each lead somewhere."""

import re
from multiprocessing import get_context
from pathlib import Path

import documents
import pytest
from workbook import catalog

SECONDS = 60
PLACES = ("*.md", "stages/*/*/README.md", "notes/*.md")
FILES = [pytest.param(f, id=str(f.relative_to(catalog.ROOT))) for p in PLACES for f in sorted(catalog.ROOT.glob(p))]


@pytest.fixture(scope="module")
def forks():
    """Processes that have torch and Triton imported when they begin."""
    context = get_context("forkserver")
    # the last is what assert_close imports
    context.set_forkserver_preload(["torch", "triton.runtime.interpreter", "torch.distributed.tensor"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        with context.Pool(1, maxtasksperchild=1) as pool:
            yield pool


@pytest.mark.parametrize("file", FILES)
def test_blocks(file, forks):
    assert not (told := wrong(file, forks)), told


def test_what_is_wrong_is_told_with_its_line_in_the_document(tmp_path, forks):
    """In a block, in a kernel, and where nothing runs what a block defines."""
    for code, expected in (
        (KERNEL + "assert x.max() > 1", r"line 19, in <module>\n.*assert x.max\(\) > 1\n.*AssertionError"),
        (KERNEL.replace("+ 1", "+ one"), r"line 17, in <module>\n.*line 11, in add_kernel\n.*NameError: .*'one'"),
        (KERNEL.partition("x = ")[0], r"note.md:8: add_kernel is defined, and nothing runs it"),
        ("print('before')\nraise SystemExit(0)", r"before\n.*line 7, in <module>.*\nSystemExit: 0"),
    ):
        note = tmp_path / "note.md"
        note.write_text(NOTE.replace("CODE", code))
        assert re.search(expected, wrong(note, forks), re.S)


@pytest.mark.parametrize("file", FILES)
def test_links(file):
    """Each leads to a file that is there, and to a heading that it has."""
    for link in documents.links(file.read_text()):
        path, _, heading = link.partition("#")
        target = file.parent / path if path else file
        assert "://" in link or target.exists(), link
        assert "://" in link or not heading or heading in documents.headings(target.read_text()), link


def wrong(file: Path, forks) -> str:
    return forks.apply_async(documents.run, [file]).get(SECONDS)


NOTE = """```py
1 / 0
```

```python
CODE
```
"""

KERNEL = """import triton
@triton.jit
def add_kernel(x_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offsets, mask=offsets < n)
    tl.store(x_ptr + offsets, x + 1, mask=offsets < n)
```

Between blocks.

```python
x = torch.zeros(5); add_kernel[(1,)](x, 5, BLOCK=8)
torch.testing.assert_close(x, torch.ones(5))
"""
