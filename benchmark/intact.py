"""Files that a job reads: what it computes is kept only if they were intact all the time.

A store is compared with its digests when a command opens it, but the runs read it later, and one
changed bit would be in their predictions for good.

Loads no torch.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmark.errors import DataError, HTBenchError
from benchmark.files import matches_digest, read_sealed
from benchmark.images.store.build import MAX_INDEX_BYTES
from benchmark.images.store.store import INDEX_FILE, DomainStore
from benchmark.renames import checked_renames
from benchmark.sources.features import FEATURES_RECORD, MAX_RECORD_BYTES, Features


@contextlib.contextmanager
def intact(files: Mapping[Path, str]) -> Iterator[None]:
    """Keep no new folder of this thread's block if a file was damaged before or during it.

    Args:
        files: what the block reads, with SHA-256 (hex).

    Raises:
        DataError: a file is missing or damaged, or was changed during the block.
    """
    before = {path: _stamp(path) for path in files}
    for path, sha256 in files.items():
        if not matches_digest(path, sha256):
            raise DataError(f"{path} is missing or damaged; run the command again to mend it")

    def check() -> None:
        for path, sha256 in files.items():
            now = _stamp(path)
            # One that was deleted was read as it was, or not at all.
            if now is not None and (now != before[path] or not matches_digest(path, sha256)):
                raise DataError(
                    f"{path} was changed while it was in use, so nothing that was computed from it "
                    "is kept; run the command again to mend it"
                )

    try:
        with checked_renames(check):
            yield
    except HTBenchError:
        check()  # then that is why
        raise


def _stamp(path: Path) -> tuple[int, ...] | None:
    """What differs once a file was written or replaced, even by the same bytes."""
    try:
        status = os.stat(path)  # noqa: PTH116 - a tenth of the time of Path.stat with many files
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def files_of_store(store: DomainStore) -> dict[Path, str]:
    """The image files of a store that is open, with the digests of its indices.

    Raises:
        DataError: an index is missing or damaged.
    """
    classes = [int(label) for label in store.index["train"]]
    paths = [store.test_file] if store.index["test"] else []
    paths += [path for path, _, _ in store.train_files(classes)]
    if (whole := store.root / INDEX_FILE).exists():
        digests = read_sealed(whole, MAX_INDEX_BYTES, DataError)["files"]
        return {path: digests[path.name] for path in paths}
    return {
        path: read_sealed(path.with_suffix(".json"), MAX_INDEX_BYTES, DataError)["digest"]
        for path in paths
    }


def files_of_features(features: Features) -> dict[Path, str]:
    """The file of features, with the digest of its record.

    Raises:
        DataError: the record is missing or damaged.
    """
    record = read_sealed(features.path.with_name(FEATURES_RECORD), MAX_RECORD_BYTES, DataError)
    return {features.path: record["digest"]}
