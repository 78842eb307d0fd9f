"""The workspace: one folder per finished run, named by the run's key, that appears by rename.

    runs/<key>/       run.json, predictions.parquet, and weights if another run starts from them
    journal.jsonl     a line when a run starts and when it ends
    tmp/<driver>/     files of runs in progress; the next driver removes those of a dead one of
                      its host, see drivers.py
    locks/            one empty file per run, locked while a driver carries out the run
    tuning/           a workspace too: the runs with which ``htbench tune`` compares settings
    set-aside/        damaged runs that ``htbench workspace repair`` moved out of the way

Several drivers may share a workspace: a run belongs to the driver that locks it, and the others
continue with the next one. The kernel releases a lock when its process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from benchmark.choices import WORKSPACE
from benchmark.errors import RecordError
from benchmark.failpoints import reach
from benchmark.files import matches_digest, new_folder
from benchmark.folders import expanded
from benchmark.records import (
    NOT_APPLICABLE,
    WEIGHTS_FILE,
    RunRecord,
    verified_predictions,
)
from benchmark.run_folders import run_folders, stamp
from benchmark.runs.drivers import driver_folders, may_be_swept, this_driver
from benchmark.temporary import temporary_folder
from benchmark.trees import remove_tree

JOURNAL_FILE = "journal.jsonl"
TUNING_FOLDER = "tuning"  # runs on folds are kept apart from runs on tasks


@contextlib.contextmanager
def temporary_workspace(prefix: str = "htbench-") -> Iterator[Workspace]:
    """A new workspace, which is removed afterwards if no run in it has failed.

    One with a failed run is kept for ``htbench show``, which the line of progress recommends.
    """
    root = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        yield Workspace(root)
    finally:
        if all(record.status != "failed" for record in Workspace(root).records()):
            remove_tree(root)


class Workspace:
    """Runs and results of one user.

    To read, just create one; to write, enter it as a context manager first.

    Args:
        root: its folder, created when something is written; ``~`` is the user's home.
        read_known: reads the stamps of runs that were read, verified and need not be repeated, by
            key; see :func:`benchmark.run_folders.stamp`. Called when a finished run is looked up.
    """

    def __init__(self, root: Path, read_known: Callable[[], Mapping[str, str]] = dict) -> None:
        self.root = expanded(root).resolve()
        self._read_known = read_known
        default = root == Path(WORKSPACE)
        self.option = () if default else ("--workspace", str(root))  # of a recommended command
        self.suite: str | None = None  # of the runs that this driver carries out; see `note`
        self.runs = self.root / "runs"
        self._finished: set[str] = set()
        self._own: Path | None = None
        self._own_lock: FileLock | None = None

    def folder(self, key: str) -> Path:
        """The folder of a run, whether or not it exists."""
        return self.runs / key

    def finished(self, key: str, *, weights: bool = False) -> RunRecord | None:
        """The record of a run that need not be repeated, or None.

        It succeeded and has its files, undamaged; or its method is not applicable, which will not
        change.

        Args:
            key: the run's key.
            weights: whether the adapted weights are needed as well, undamaged.
        """
        folder = self.folder(key)
        try:
            record = RunRecord.read(folder, key)
            if record.status == "ok":
                verified_predictions(folder, record.predictions_sha256)
        except RecordError:
            return None  # missing or damaged: repeat the run
        if record.status == NOT_APPLICABLE:
            return None if weights else record
        if record.status != "ok":
            return None
        if weights and not matches_digest(folder / WEIGHTS_FILE, record.weights_sha256):
            return None
        return record

    def is_finished(self, key: str) -> bool:
        """Whether a run need not be repeated; reads only files that are not known.

        A run that need not is looked up once.
        """
        if key in self._finished:
            return True
        present = stamp(f"{self.runs}/{key}")
        if present is None:
            return False
        if self._known.get(key) != present and self.finished(key) is None:
            return False
        self._finished.add(key)
        return True

    @cached_property
    def _known(self) -> Mapping[str, str]:
        return self._read_known()

    def records(self) -> Iterator[RunRecord]:
        """The records of all runs that can be read, in the order of their keys."""
        for name in sorted(run_folders(self.runs).keys):
            with contextlib.suppress(RecordError):
                yield RunRecord.read(self.folder(name), name)

    def newest_suite(self) -> str | None:
        """The suite of the newest line of the journal that names one: a name or a path."""
        try:
            journal = (self.root / JOURNAL_FILE).read_bytes()
        except OSError:
            return None
        at = journal.rfind(b'"suite": "')  # in a run's name, the quotation marks are escaped
        begin, end = journal.rfind(b"\n", 0, max(at, 0)) + 1, journal.find(b"\n", at)
        try:
            suite = json.loads(journal[begin:end])["suite"]
        except (ValueError, KeyError, TypeError):
            return None
        return suite if isinstance(suite, str) else None

    def __enter__(self) -> Self:
        base = self.root / "tmp"
        base.mkdir(parents=True, exist_ok=True)
        (self.root / "locks").mkdir(exist_ok=True)
        self._sweep(base)
        # The lock comes first: a folder whose lock is free belongs to a dead driver.
        handle, name = tempfile.mkstemp(prefix=this_driver().prefix, suffix=".lock", dir=base)
        os.close(handle)
        self._own_lock = FileLock(name)
        self._own_lock.acquire()
        self._own = Path(name).with_suffix("")
        self._own.mkdir()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._own is not None
        assert self._own_lock is not None
        remove_tree(self._own)
        Path(self._own_lock.lock_file).unlink(missing_ok=True)
        self._own_lock.release()
        self._own = None

    @staticmethod
    def _sweep(base: Path) -> None:
        """Remove what dead drivers of this host left behind."""
        for folder in filter(may_be_swept, driver_folders(base)):
            lock = folder.with_suffix(".lock")
            with contextlib.suppress(Timeout, OSError), FileLock(lock, blocking=False):
                remove_tree(folder)  # a file that a child still writes stays until the next sweep
                if not folder.exists():
                    lock.unlink(missing_ok=True)

    @contextlib.contextmanager
    def temporary(self) -> Iterator[Path]:
        """A folder for one job, removed afterwards."""
        with temporary_folder(self._own) as folder:
            yield folder

    @contextlib.contextmanager
    def new_run(self, key: str) -> Iterator[Path]:
        """The folder of a run: it appears whole when the block ends without an error."""
        with new_folder(self.folder(key), building_in=self._own) as building:
            yield building
        reach("run-finished")

    @contextlib.contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Lock a run for this driver; yields False if another driver has it."""
        lock = FileLock(self.root / "locks" / key)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def note(self, event: str, key: str, name: str, **facts: str) -> None:
        """Add a line to the journal, with the suite that the run was started for."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = {"time": now, "driver": os.getpid(), "event": event, "key": key, "run": name}
        line |= facts
        if self.suite is not None:
            line["suite"] = self.suite
        handle = os.open(self.root / JOURNAL_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(handle, json.dumps(line).encode() + b"\n")  # one write: lines never mix
        finally:
            os.close(handle)
