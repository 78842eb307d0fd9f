"""The folders of a workspace's runs: which there are, and whether their files have changed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from benchmark.patterns import SHA256
from benchmark.records import PREDICTIONS_FILE, RECORD_FILE


class RunFolders(NamedTuple):
    """The entries of the folder ``runs``.

    Attributes:
        keys: names that are the key of a run; nothing is known about what they lead to.
        foreign: names of other folders, such as a synchronised copy of a run's folder.
    """

    keys: list[str]
    foreign: list[str]


def run_folders(runs: Path) -> RunFolders:
    """List the folders of runs, in no order; hidden entries are skipped, and so are other files.

    Raises:
        OSError: the folder exists and cannot be listed.
    """
    keys, foreign = [], []
    try:
        with os.scandir(runs) as entries:
            for entry in entries:
                if SHA256.fullmatch(entry.name):
                    keys.append(entry.name)
                elif not entry.name.startswith(".") and _is_folder(entry):
                    foreign.append(entry.name)
    except FileNotFoundError:
        pass
    return RunFolders(keys, foreign)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a loop
        return False


def stamp(folder: str | Path) -> str | None:
    """A text that changes when the record or the predictions of a run are replaced or written to.

    It consists of the inode, size, modification and change times of both files. Bits that a disk
    flips on its own do not change it.

    Args:
        folder: the run's folder.

    Returns:
        The stamp; None if the record cannot be accessed.
    """
    try:
        record = os.stat(f"{folder}/{RECORD_FILE}")  # noqa: PTH116 - paths of pathlib are slow
    except OSError:
        return None
    try:
        predictions = os.stat(f"{folder}/{PREDICTIONS_FILE}")  # noqa: PTH116
    except OSError:
        return _text(record)
    return f"{_text(record)} {_text(predictions)}"


def _text(status: os.stat_result) -> str:
    times = f"{status.st_mtime_ns:x}.{status.st_ctime_ns:x}"
    return f"{status.st_ino:x}.{status.st_size:x}.{times}"
