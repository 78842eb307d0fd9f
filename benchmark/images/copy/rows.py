"""Find the rows of a manifest by text, in 12 bytes for each: a dictionary takes about 200."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from benchmark.manifest.manifest import slices

if TYPE_CHECKING:
    import pyarrow as pa


class Rows:
    """Finds rows by a key, of which it keeps the hash alone.

    Args:
        keys: the key of each row.
        count: how many there are.
    """

    def __init__(self, keys: Iterable[Hashable], count: int) -> None:
        hashes = np.fromiter(map(hash, keys), np.int64, count)
        order = np.argsort(hashes, kind="stable")
        self._hashes, self._rows = hashes[order], order.astype(np.int32)

    def of(self, key: Hashable) -> list[int]:
        """The rows that may have a key, in order; others may have the same hash, so compare."""
        value = hash(key)
        start = int(self._hashes.searchsorted(value))
        if start == len(self._hashes) or self._hashes[start] != value:
            return []
        rows: list[int] = self._rows[start : self._hashes.searchsorted(value, "right")].tolist()
        return rows


class PathRows:
    """Finds the row of a path.

    Args:
        paths: a column of different texts.
    """

    def __init__(self, paths: pa.ChunkedArray) -> None:
        self._paths = paths
        self._rows = Rows(chain.from_iterable(slices(paths)), len(paths))

    def find(self, path: str) -> int | None:
        """The row of a path, or None."""
        rows = self._rows.of(path)
        return next((row for row in rows if self._paths[row].as_py() == path), None)
