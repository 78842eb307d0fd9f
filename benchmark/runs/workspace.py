"""The workspace: one folder per finished run, named by the run's key, that appears by rename."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmark.errors import RecordError
from benchmark.records import PREDICTIONS_FILE, RECORD_FILE, WEIGHTS_FILE, RunRecord


class Workspace:
    """Runs and results of one user.

    Args:
        root: its folder; made when something is written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.runs = self.root / "runs"

    def folder(self, key: str) -> Path:
        """The folder of a run, there or not."""
        return self.runs / key

    def finished(self, key: str, *, weights: bool = False) -> RunRecord | None:
        """The record of a run that ended well and has its files, or None.

        Args:
            key: the run's key.
            weights: whether the adapted weights are needed as well.
        """
        folder = self.folder(key)
        if not (folder / RECORD_FILE).is_file():
            return None
        try:
            record = RunRecord.read(folder)
        except RecordError:
            return None  # damaged: run it again
        if record.status != "ok" or not (folder / PREDICTIONS_FILE).is_file():
            return None
        if weights and not (folder / WEIGHTS_FILE).is_file():
            return None
        return record

    def records(self) -> Iterator[RunRecord]:
        """The records of all runs, in the order of their keys.

        Raises:
            RecordError: a record cannot be trusted.
        """
        for path in sorted(self.runs.glob(f"[0-9a-f]*/{RECORD_FILE}")):
            yield RunRecord.read(path.parent)

    @contextlib.contextmanager
    def temporary(self) -> Iterator[Path]:
        """A folder for a run in hand, gone afterwards."""
        base = self.root / "tmp"
        base.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=base, ignore_cleanup_errors=True) as name:
            yield Path(name)
