"""Verify the folder of a run: its record, and the digest of every file that belongs to the run."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from benchmark.errors import RecordError
from benchmark.files import open_inside
from benchmark.isolation.conversation import OUTPUT_FILE
from benchmark.methods.files import CODE_FOLDER, MAX_KEPT_FILE
from benchmark.records import (
    PREDICTIONS_FILE,
    RECORD_FILE,
    WEIGHTS_FILE,
    RunRecord,
    repeat_run,
)
from benchmark.runs.execute import MAX_OUTPUT_TEXT

MAX_PREDICTIONS_BYTES = 4 << 30
MAX_WEIGHTS_BYTES = 16 << 30
_CHUNK = 1 << 20

CheckRecord = Callable[[RunRecord, Path], None]  # raises RecordError; see `rows.check_record`


@dataclass(frozen=True)
class RunFile:
    """A file of a run besides its record.

    Attributes:
        name: relative to the run's folder.
        limit: the most bytes that such a file has.
        digests: SHA-256 (hex) that it may have; empty if none is recorded.
    """

    name: str
    limit: int
    digests: frozenset[str] = frozenset()


@dataclass(frozen=True)
class VerifiedRun:
    """A run that can be used.

    Attributes:
        record: its record.
        files: its other files that are there, undamaged.
        damaged: what is wrong with files that the run's row does not need, by their names.
    """

    record: RunRecord
    files: list[RunFile]
    damaged: dict[str, str]

    @property
    def rank(self) -> int:
        """The greater, the more is there: of two folders of one run, the greater is kept."""
        if self.record.status != "ok":
            return 0 if self.record.status == "failed" else 1
        return 3 if any(file.name == WEIGHTS_FILE for file in self.files) else 2


def verify_run(folder: Path, key: str, check: CheckRecord) -> VerifiedRun:
    """Read all files of a run and compare their digests. No link is followed.

    Args:
        folder: the run's folder.
        key: the key that the run must have.
        check: also checks the record.

    Raises:
        RecordError: the record or the predictions cannot be used; the message says why.
    """
    try:
        with open_inside(folder, RECORD_FILE):
            pass
    except OSError as error:
        if not isinstance(error, FileNotFoundError):
            raise RecordError(f"{folder / RECORD_FILE}: {error.strerror}") from None
    record = RunRecord.read(folder, key)
    check(record, folder / RECORD_FILE)
    files, damaged = [], {}
    for file in files_of(record):
        try:
            read_run_file(folder, file)
        except FileNotFoundError:
            if file.name == PREDICTIONS_FILE:
                raise RecordError(
                    f"{folder / file.name} is missing; {repeat_run(folder)}"
                ) from None
        except (OSError, RecordError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            if file.name == PREDICTIONS_FILE:
                raise RecordError(f"{folder / file.name}: {reason}; {repeat_run(folder)}") from None
            damaged[file.name] = str(reason)
        else:
            files.append(file)
    return VerifiedRun(record, files, damaged)


def read_run_file(folder: Path, file: RunFile, to: BinaryIO | None = None) -> None:
    """Read a file of a run and compare its digest.

    Args:
        folder: the run's folder; ``file``: the file.
        to: where its bytes are written.

    Raises:
        FileNotFoundError: it does not exist.
        OSError: it cannot be read, or is not a regular file.
        RecordError: it is too large, or its digest is not one of those that are recorded.
    """
    digest, size = hashlib.sha256(), 0
    with open_inside(folder, file.name) as source:
        if os.fstat(source.fileno()).st_size > file.limit:  # a sparse file may be of any length
            raise RecordError(f"it is larger than {file.limit} bytes")
        while chunk := source.read(_CHUNK):
            size += len(chunk)
            if size > file.limit:
                raise RecordError(f"it is larger than {file.limit} bytes")
            digest.update(chunk)
            if to is not None:
                to.write(chunk)
    if file.digests and digest.hexdigest() not in file.digests:
        raise RecordError("it does not match the SHA-256 in the run's record")


def files_of(record: RunRecord) -> Iterator[RunFile]:
    """The files that a run may have besides its record."""
    if record.status == "ok":
        digests = frozenset([record.predictions_sha256 or ""])
        yield RunFile(PREDICTIONS_FILE, MAX_PREDICTIONS_BYTES, digests)
    if record.weights_sha256 is not None:
        yield RunFile(WEIGHTS_FILE, MAX_WEIGHTS_BYTES, frozenset([record.weights_sha256]))
    yield RunFile(OUTPUT_FILE, MAX_OUTPUT_TEXT)
    code: dict[str, set[str]] = {}  # two files may have one name; one of them was kept
    for name, digest in code_files(record):
        code.setdefault(name, set()).add(digest)
    for name, digests_of_name in code.items():
        yield RunFile(f"{CODE_FOLDER}/{name}", MAX_KEPT_FILE, frozenset(digests_of_name))


def code_files(record: RunRecord) -> list[tuple[str, str]]:
    """The method's files in a run's key: names and SHA-256, whatever the record says."""
    match record.made_from:
        case {"method": {"code": {"files": [*files]}}}:
            pairs = [entry for entry in files if isinstance(entry, list) and len(entry) == 2]
            return [(str(name), str(digest)) for name, digest in pairs]
    return []
