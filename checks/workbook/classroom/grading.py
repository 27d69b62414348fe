"""A class graded: each submission by a process of its own, as many at a time as this machine can time honestly."""

import contextlib
import fcntl
import hashlib
import json
import os
import queue
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from .. import catalog, doctor
from . import page, results, similarity, submissions, tripwires
from .rubric import Rubric
from .submissions import Submission, Unreadable

SECONDS = (120, 240)  # that a submission may take: in all, and for each part
GPU_SECONDS = 1800  # that it waits for a GPU that another class is timed on
TRIES = 2
LOG_BYTES = 1 << 20  # kept of what its grader wrote
NAMED = 5  # files named in a remark


class CannotGrade(Exception):
    """Why no class can be graded as it was asked, in one line."""


@dataclass
class Class:
    """A folder of submissions, and the folder of their results. remarks: on the class as a whole, one line each."""

    folder: Path
    out: Path
    parts: list[catalog.Part]
    rubric: Rubric
    jobs: int = 0  # 0: one for each GPU, or else one for two cores

    def grade(self, starting: Callable[[str], None], done: Callable[[dict, bool], None]) -> list[dict]:
        """Grades what has no result yet, or has changed; hears of each as it starts, and as its result is there."""
        self._prepare()
        with alone(self.out):
            self._set_aside()
            return self._all(starting, done)

    def _all(self, starting, done) -> list[dict]:
        self.checks = checks_digest()  # as they are now, should they change meanwhile
        self.children, self.stopped = set(), threading.Event()
        gpus = visible_gpus()
        free = queue.SimpleQueue()
        for gpu in gpus:
            free.put(gpu)
        jobs = self.jobs or len(gpus) or max(1, (os.cpu_count() or 1) // 2)
        # a GPU times one submission at a time; without one they only share the cores
        pool = ThreadPoolExecutor(min(jobs, len(gpus)) if gpus else jobs)
        found = {}
        try:
            waiting = {}
            for submission in self.submissions:
                if result := self._kept(submission):
                    found[submission.name] = self._finish(result)
                    done(found[submission.name], True)
                else:
                    waiting[pool.submit(self._grade, submission, free if gpus else None, starting)] = submission
            for future in as_completed(waiting):
                found[waiting[future].name] = self._finish(future.result())
                done(found[waiting[future].name], False)
        finally:
            self.stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for child in list(self.children):
                end(child)
        ordered = [found[submission.name] for submission in self.submissions]
        results.write_table(self.out, ordered, [part.id for part in self.parts])
        for report in (similarity.report, tripwires.report, page.write):
            try:
                report(self.out)
            except Exception as error:  # they read what anyone may have handed in; the results stand without them
                what = report.__module__.rpartition(".")[2]
                self.remarks.append(f"the report on {what} is missing or old: {type(error).__name__}: {error}")
        return ordered

    def _prepare(self) -> None:
        folder, out = self.folder.resolve(), self.out.resolve()
        if not folder.is_dir():
            raise CannotGrade(f"there is no folder {self.folder}")
        if out == folder or out.is_relative_to(folder) or folder.is_relative_to(out):
            raise CannotGrade(f"{self.out} and {self.folder} lie in one another: name an OUT of its own")
        try:
            for name in ("results", "work", "logs"):
                (out / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CannotGrade(f"{self.out} cannot be written: {error.strerror}") from None
        self.submissions, others = submissions.find(folder)
        self.remarks = []
        if others:
            named = ", ".join(others[:NAMED]) + " …" * (len(others) > NAMED)
            self.remarks.append(f"not graded, as they are neither a folder nor a zip: {named}")
        if not self.submissions:
            raise CannotGrade(f"{self.folder} holds no submission: a folder or a zip each is expected")
        about = out / "class.json"
        with contextlib.suppress(OSError, ValueError, KeyError):
            self.seed = int(json.loads(about.read_text())["seed"])
            return
        self.seed = secrets.randbelow(10**6)
        results.write(about, json.dumps({"seed": self.seed}) + "\n")

    def _set_aside(self) -> None:
        """Results of submissions that are there no more go to OUT/earlier, where neither page nor table counts them."""
        names = {submission.name for submission in self.submissions}
        gone = sorted(file.stem for file in (self.out / "results").glob("*.json") if file.stem not in names)
        for place in (
            p for name in gone for p in (f"results/{name}.json", f"results/{name}.junit.xml", f"work/{name}")
        ):
            to = self.out / "earlier" / place
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(to, ignore_errors=True)
            with contextlib.suppress(FileNotFoundError):
                (self.out / place).replace(to)
        if gone:
            named = ", ".join(gone[:NAMED]) + " …" * (len(gone) > NAMED)
            self.remarks.append(f"no longer handed in, their results are in {self.out}/earlier: {named}")

    def _kept(self, submission: Submission) -> dict | None:
        """The result of an earlier run, if it is of these files, these checks and this seed."""
        self._read(submission)
        if submission.reason:
            return None
        try:
            result = json.loads((self.out / "results" / f"{submission.name}.json").read_text())
            same = result["digests"] == self._digests(submission) and result["status"] == "graded"
            whole = all(part["status"] != "error" for part in result["parts"].values())
            told = {"source": submission.source.name, "notes": submission.notes}
            return {**result, **told} if same and whole else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def _read(self, submission: Submission) -> None:
        submission.reason = ""
        try:
            submissions.read(submission, [part.path for part in catalog.parts()])
            asked = {part.path for part in self.parts}
            submission.files = {path: data for path, data in submission.files.items() if path in asked}
        except Unreadable as error:
            submission.reason = str(error)

    def _digests(self, submission: Submission) -> dict:
        files = hashlib.sha256(repr(sorted(submission.files.items())).encode()).hexdigest()
        return {"files": files, "checks": self.checks, "parts": [p.id for p in self.parts], "seed": self.seed}

    def _grade(self, submission: Submission, free, starting) -> dict:
        starting(submission.name)
        started = time.monotonic()
        told, reason = None, submission.reason
        if not reason:
            tree = self._lay(submission)
            for _ in range(TRIES):
                told, reason = self._run(submission.name, tree, free)
                if told or self.stopped.is_set():
                    break
        about = {"date": datetime.now(timezone.utc).isoformat(timespec="seconds"), "workbook": self.checks[:12]}
        return {
            "submission": submission.name,
            "source": submission.source.name,
            "status": "graded" if told else "could not be graded",
            "reason": "" if told else reason,
            "notes": submission.notes,
            "parts": told["parts"] if told else {},
            "seconds": round(time.monotonic() - started, 1),
            "provenance": {**(told["provenance"] if told else doctor.versions()), **about, "seed": self.seed},
            "digests": self._digests(submission),
        }

    def _lay(self, submission: Submission) -> Path:
        """The submission's own tree, laid anew: the files of the curriculum, and nothing else."""
        tree = self.out / "work" / submission.name
        shutil.rmtree(tree, ignore_errors=True)
        tree.mkdir()
        for path, data in submission.files.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(data)
        return tree

    def _run(self, name: str, tree: Path, free) -> tuple[dict | None, str]:
        """What the process that grades it told, or why it told nothing."""
        with on_a_gpu(free, self.stopped) as gpu, tempfile.TemporaryDirectory(prefix="workbook-") as folder:
            if self.stopped.is_set():
                return None, "stopped"
            if gpu == "":
                return None, f"no GPU was free for {GPU_SECONDS // 60} minutes"
            file = Path(folder, "verdicts.json")
            ids = [part.id for part in self.parts]
            told = [str(tree.resolve()), str(file), str(self.seed), *ids]
            command = [sys.executable, "-m", "workbook.classroom.one", *told]
            env = os.environ | {"PYTHONPATH": os.pathsep.join([str(catalog.CHECKS), os.environ.get("PYTHONPATH", "")])}
            if gpu:
                env["CUDA_VISIBLE_DEVICES"] = gpu
            deadline = SECONDS[0] + SECONDS[1] * len(ids)
            with (self.out / "logs" / f"{name}.log").open("wb") as log:
                child = subprocess.Popen(
                    command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
                self.children.add(child)
                try:
                    code = child.wait(deadline)
                    reason = f"its grader ended with status {code}; logs/{name}.log tells more"
                except subprocess.TimeoutExpired:
                    reason = f"grading it took longer than {deadline / 60:.0f} minutes"
                finally:
                    self.children.discard(child)
                    end(child)
                    log.truncate(min(LOG_BYTES, os.fstat(log.fileno()).st_size))
            try:
                return json.loads(file.read_text()), ""
            except (OSError, ValueError):
                return None, reason

    def _finish(self, result: dict) -> dict:
        result = results.account(result, self.rubric)
        results.write_result(self.out, result)
        return result


@contextlib.contextmanager
def alone(out: Path) -> Iterator[None]:
    """One run at a time in OUT. Raises CannotGrade."""
    with (out / ".lock").open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotGrade(f"another run grades into {out}: wait for it, or name an OUT of its own") from None
        yield


def end(child: subprocess.Popen) -> None:
    """Ends a process with its group; what it has started otherwise ends when it does."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def checks_digest() -> str:
    """Of all that makes a verdict: specs, grading library, versions."""
    found = hashlib.sha256(json.dumps(doctor.versions()).encode())
    for file in sorted(catalog.CHECKS.rglob("*.py")):
        if not file.is_relative_to(catalog.CHECKS / "selfcheck"):
            found.update(file.relative_to(catalog.CHECKS).as_posix().encode() + file.read_bytes())
    return found.hexdigest()


def visible_gpus() -> list[str]:
    """The GPUs here, as CUDA_VISIBLE_DEVICES names them; none where torch sees none."""
    import torch

    if not torch.cuda.is_available():
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]


@contextlib.contextmanager
def on_a_gpu(free, stopped: threading.Event) -> Iterator[str | None]:
    """A GPU that no other class on this machine is timed on; None where there are none, "" where none came free."""
    if free is None:
        yield None
        return
    gpu = free.get()
    lock = Path(tempfile.gettempdir(), f"workbook-gpu-{os.getuid()}-{gpu.replace('/', '_')}.lock")
    try:
        with lock.open("w") as held:
            for _ in range(GPU_SECONDS):
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    yield gpu
                    return
                if stopped.wait(1):
                    break
            yield ""
    finally:
        free.put(gpu)
