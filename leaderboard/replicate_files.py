"""The values of boards in each draw on disk, so that a board of known runs reads no outcomes.

A file is named by a digest of everything that its values depend on: what has changed has another
name. Files are derived: one that is missing or damaged is computed again. The oldest are removed
when all of them together get too large.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from benchmark.files import canonical_json, digest_file, read_bounded
from benchmark.patterns import SHA256
from leaderboard import areas, columns, outcomes, pooled, predictions, resampling, statistics
from leaderboard.outcome_files import entries
from leaderboard.pooled import MACRO
from leaderboard.predictions import scorer_digest
from leaderboard.resampling import SAMPLED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Replicates: TypeAlias = Mapping[str, NDArray[np.float32]]
    # Macro metrics by name, and values in each draw by column key.
    Pooled: TypeAlias = tuple[Mapping[str, NDArray[np.float64]], Replicates]

FOLDER = "intervals"  # of a workspace
MAX_BYTES = 1 << 29  # of all files; 200 methods on 6 tasks take 100 MB
_NAME = re.compile(rf"{SHA256.pattern}(\.\d+)?")  # the second part: a file that was being written
_DIGEST = hashlib.sha256().digest_size
_MODULES = (areas, columns, outcomes, pooled, predictions, resampling, statistics)
_CODE = tuple(Path(str(module.__file__)) for module in _MODULES)


class ReplicateFiles:
    """The values of a workspace's boards in each draw, see ``Resampling.replicates``."""

    def __init__(self, workspace: Path) -> None:
        """Remember the folder of a workspace."""
        self._folder = workspace / FOLDER

    def path(self, facts: object) -> Path:
        """The file of the values that depend on some facts, and on the code.

        Args:
            facts: what the values depend on, as JSON.
        """
        code = [digest_file(path) for path in _CODE]
        content = canonical_json([facts, code, scorer_digest()])
        return self._folder / hashlib.sha256(content).hexdigest()

    def read(self, path: Path, labels: int) -> dict[str, NDArray[np.float32]] | None:
        """Read the values of some labels by column key; None if the file is missing or damaged."""
        body = _body(path)
        if body is None or len(body) % (4 * len(SAMPLED) * labels):
            return None
        return _unpacked(body, labels)

    def write(self, path: Path, replicates: Replicates) -> None:
        """Write values, if the workspace can be written to and they are not too large."""
        self._store(path, _packed(replicates))

    def read_pooled(self, path: Path, shape: tuple[int, ...]) -> Pooled | None:
        """Read pooled values; None if the file is missing or damaged.

        Args:
            path: the file.
            shape: of each macro metric.
        """
        body, size = _body(path), 8 * len(MACRO) * math.prod(shape)
        if body is None or len(body) < size or (len(body) - size) % (4 * len(SAMPLED) * shape[1]):
            return None
        macro = np.frombuffer(body[:size], "<f8").reshape(len(MACRO), *shape)
        return dict(zip(MACRO, macro, strict=True)), _unpacked(body[size:], shape[1])

    def write_pooled(self, path: Path, pooled: Pooled) -> None:
        """As :meth:`write`, with the macro metrics, which cannot be computed from scores."""
        macro, replicates = pooled
        body = np.stack([macro[name] for name in MACRO]).astype("<f8").tobytes()
        self._store(path, body + _packed(replicates))

    def _store(self, path: Path, body: bytes) -> None:
        """Write a file, if the workspace can be written to and it is not too large.

        It is not synced to disk as runs are: its digest shows whether all of it is there.
        """
        if len(body) > MAX_BYTES // 2:
            return
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        with suppress(OSError):
            path.parent.mkdir(exist_ok=True)
            self._make_room(len(body))
            try:
                temporary.write_bytes(_digest(path.name, body) + body)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)

    def _make_room(self, size: int) -> None:
        """Remove the oldest files until there is room for one of a size."""
        files = [(file.stat(), file) for file in self._folder.iterdir() if file.is_file()]
        total = size + sum(stat.st_size for stat, _ in files)
        for stat, file in sorted(files, key=lambda entry: entry[0].st_mtime_ns):
            if total <= MAX_BYTES:
                break
            file.unlink(missing_ok=True)
            total -= stat.st_size


def useless_replicates(workspace: Path) -> tuple[list[Path], list[Path]]:
    """The files of a workspace's intervals, and those among them that are damaged or half-written.

    Args:
        workspace: its folder.
    """
    files = [path for path in entries(workspace / FOLDER) if _NAME.fullmatch(path.name)]
    return files, [path for path in files if _body(path) is None]


def _packed(replicates: Replicates) -> bytes:
    """Values as bytes, the columns in order."""
    return np.stack([replicates[column.key] for column in SAMPLED]).astype("<f4").tobytes()


def _unpacked(body: memoryview, labels: int) -> dict[str, NDArray[np.float32]]:
    """The values of some labels by column key."""
    values = np.frombuffer(body, "<f4").reshape(len(SAMPLED), -1, labels)
    return {column.key: of_column for column, of_column in zip(SAMPLED, values, strict=True)}


def _body(path: Path) -> memoryview | None:
    """A file without its digest; None if it is missing, damaged, or of another name."""
    try:
        content = read_bounded(path, MAX_BYTES)
    except OSError:
        return None
    body = memoryview(content)[_DIGEST:]
    if len(content) > MAX_BYTES or _digest(path.name, body) != content[:_DIGEST]:
        return None
    return body


def _digest(name: str, body: bytes | memoryview) -> bytes:
    digest = hashlib.sha256(name.encode())
    digest.update(body)
    return digest.digest()
