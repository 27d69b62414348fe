"""What students handed in, whatever it holds: only regular files at the curriculum's paths are taken, as bytes.

A submission is a folder, a zip or a git checkout: of the whole workbook, of its stages/, or of what lies in there,
wrapped in further folders as course systems do. Nothing of it is executed, followed or unpacked anywhere else.
"""

import os
import re
import stat
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

FILE_BYTES = 256 << 10  # of a file that is taken
ENTRIES = 20_000  # files and folders of a submission that are looked at
ARCHIVE_BYTES = 128 << 20  # of a zip that is opened: its list of entries is read whole
DEEP = 8  # folders below one another
NAME_BYTES = 120  # of a submission's name, for which a file system has 255 with what is added to it
NOT_STUDENTS = {"solutions", "checks", "stubs", ".git"}  # folders of the workbook that hold the same paths
NAMED = 5  # files named in a note


class Unreadable(Exception):
    """The submission cannot be read; the message says why."""


class TooLarge(Exception):
    """A file is larger than any answer."""


@dataclass
class Submission:
    """name: unique, and fit for a file's name. files: path of the curriculum -> bytes. notes: what to know of it."""

    name: str
    source: Path
    files: dict[str, bytes] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def find(folder: Path) -> tuple[list[Submission], list[str]]:
    """The submissions in a folder, in order, and the names of other files there.

    Two submissions that come to the same name are numbered, and say so.
    """
    found, others, taken = [], [], {}
    for entry in sorted(folder.iterdir(), key=lambda e: (e.name.casefold(), e.name)):
        if entry.name.startswith("."):
            continue
        if not (entry.is_dir() or entry.is_symlink() or entry.suffix.lower() == ".zip"):
            others.append(entry.name)
            continue
        plain = name = fit(entry.stem if entry.suffix.lower() == ".zip" else entry.name)
        number = 2
        while name.casefold() in taken:
            name, number = f"{plain}-{number}", number + 1
        submission = Submission(name, entry)
        if name != plain:
            other = taken[plain.casefold()]
            submission.notes.append(f"{other.source.name} and {entry.name} have one name; this is {entry.name}")
            other.notes.append(f"{other.source.name} and {entry.name} have one name; this is {other.source.name}")
        taken[name.casefold()] = submission
        found.append(submission)
    return found, others


def fit(name: str) -> str:
    """A name without what has a meaning to a file system, a terminal or a spreadsheet."""
    plain = re.sub(r"[^\w .,@+-]", "_", name.strip())
    return plain.encode()[:NAME_BYTES].decode(errors="ignore").strip("_. -+=@") or "unnamed"


def read(submission: Submission, wanted: list[str]) -> None:
    """Takes the files at the wanted paths. Raises Unreadable."""
    source = submission.source
    try:
        mode = source.lstat().st_mode
        if stat.S_ISLNK(mode):
            raise Unreadable("it is a symbolic link, and those are not followed")
        if stat.S_ISDIR(mode):
            _take(submission, wanted, dict(_walk(source, submission.notes)))
        elif not stat.S_ISREG(mode):
            raise Unreadable("it is neither a folder nor a file")
        elif source.lstat().st_size > ARCHIVE_BYTES:
            raise Unreadable(f"the zip is larger than {ARCHIVE_BYTES >> 20:,} MB")
        else:
            with zipfile.ZipFile(source) as archive:
                _take(submission, wanted, dict(_members(archive, submission.notes)))
    except Unreadable:
        raise
    except OSError as error:
        raise Unreadable(f"it cannot be read: {error.strerror or error}") from None
    except Exception as error:  # what zipfile raises on bytes made to confuse it has no common class
        raise Unreadable(f"the zip is damaged: {error}") from None


def _take(submission: Submission, wanted: list[str], there: dict[str, Callable[[], bytes]]) -> None:
    places = _places(there, wanted)
    for path, place in places.items():
        try:
            submission.files[path] = there[place]()
        except TooLarge as error:
            submission.notes.append(f"{path} is not taken: {error}")
    if not places:
        submission.notes.append("it holds no file of the curriculum")
    if others := sorted(set(there) - set(places.values())):
        named = ", ".join(others[:NAMED])
        submission.notes.append(f"{len(others):,} other files were left alone: {named}{' …' * (len(others) > NAMED)}")


def _places(there, wanted) -> dict[str, str]:
    """Where each wanted path lies: below the one folder that holds most of them, or, in a heap of files, by name."""
    found = {}
    for place in there:
        for path in wanted:
            if place == path or place.endswith(f"/{path}"):
                above = place[: -len(path)].rstrip("/")
                if not NOT_STUDENTS & set(PurePosixPath(above).parts):
                    found.setdefault(above, {})[path] = place
    if found:
        return found[max(found, key=lambda above: (len(found[above]), above.endswith("stages"), -len(above)))]
    by_name = {}
    for place in there:
        by_name.setdefault(PurePosixPath(place).name, []).append(place)
    names = [PurePosixPath(path).name for path in wanted]
    lone = [path for path, name in zip(wanted, names, strict=True) if names.count(name) == 1]
    return {p: by_name[n][0] for p in lone for n in [PurePosixPath(p).name] if len(by_name.get(n, [])) == 1}


def _walk(root: Path, notes: list[str]) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Relative path -> a function that reads it, for each regular file below a folder."""
    count, links = 0, []
    for folder, folders, files in os.walk(root, onerror=_refuse, followlinks=False):
        folders[:] = sorted(f for f in folders if f != ".git")
        links += [os.path.join(folder, f) for f in folders if os.path.islink(os.path.join(folder, f))]
        if len(Path(folder).relative_to(root).parts) >= DEEP:
            folders.clear()
        count += 1 + len(files)
        if count > ENTRIES:
            notes.append(f"it holds more than {ENTRIES:,} files; the others were not looked at")
            break
        for name in sorted(files):
            file = os.path.join(folder, name)
            if os.path.islink(file):
                links.append(file)
            elif stat.S_ISREG(os.lstat(file).st_mode):
                yield os.path.relpath(file, root), lambda file=file: _bytes(file)
    if links:
        named = ", ".join(os.path.relpath(link, root) for link in links[:NAMED])
        notes.append(f"{len(links)} symbolic links were not followed: {named}")


def _refuse(error: OSError) -> None:
    raise error  # a folder that cannot be listed could hold the work


def _bytes(file: str) -> bytes:
    fd = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(fd, "rb") as opened:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise Unreadable("a file of it changed while it was read")
        return _short(opened.read(FILE_BYTES + 1))


def _members(archive: zipfile.ZipFile, notes: list[str]) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Path -> a function that unpacks it, no more than FILE_BYTES, for each file of a zip that stays inside it."""
    entries, refused = archive.infolist(), []
    if len(entries) > ENTRIES:
        notes.append(f"it holds more than {ENTRIES:,} files; the others were not looked at")
    for entry in entries[:ENTRIES]:
        path = PurePosixPath(entry.filename.replace("\\", "/"))
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if entry.is_dir() or ".git" in path.parts:
            continue
        leads_out = path.is_absolute() or ".." in path.parts or ":" in entry.filename
        if leads_out or not path.parts or kind not in (0, stat.S_IFREG):
            refused.append(entry.filename)
        else:
            yield str(path), lambda entry=entry: _unpacked(archive, entry)
    if refused:
        notes.append(f"{len(refused)} entries lead out of the zip or are links: {', '.join(refused[:NAMED])}")


def _unpacked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    if entry.flag_bits & 1:
        raise Unreadable("the zip is encrypted")
    with archive.open(entry) as opened:
        return _short(opened.read(FILE_BYTES + 1))


def _short(data: bytes) -> bytes:
    if len(data) > FILE_BYTES:
        raise TooLarge(f"it is larger than {FILE_BYTES >> 10} KB")
    return data
