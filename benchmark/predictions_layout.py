"""Read predictions files of the benchmark without parsing them as Parquet.

The files that ``write_predictions`` writes for the same samples and classes differ only in their
logits and in the statistics of the logits. So a file that is otherwise equal, byte by byte, to one
that was written here has its logits at the same place. Any other file takes the longer way, see
:func:`benchmark.records.read_predictions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmark.records import write_predictions

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_LOGITS = 1 << 20  # with more, parsing hardly counts
# Pairs of floats that differ in every byte. A file of the first two values and one of the same in
# the other order have equal statistics; the others find where the statistics are.
_VALUES = np.array([0x3F3F3F3F, 0x40404040], np.uint32).view(np.float32)
_OTHERS = np.array([0x3E3E3E3E, 0x41414141], np.uint32).view(np.float32)


@dataclass(frozen=True)
class PredictionsLayout:
    """Where the logits are in predictions files of some samples.

    Attributes:
        size: bytes of a file.
        shape: samples and classes.
    """

    size: int
    shape: tuple[int, int]
    _logits: tuple[slice, ...]
    _fixed: tuple[tuple[slice, bytes], ...]

    @classmethod
    def of(cls, ids: Sequence[str], n_classes: int) -> PredictionsLayout | None:
        """The layout of the files for N samples and C classes; None if they have none to rely on.

        Args:
            ids: the N sample ids, in the order of the file.
            n_classes: C.
        """
        shape = len(ids), n_classes
        if not 0 < len(ids) * n_classes <= MAX_LOGITS:
            return None
        first, second, third = (
            np.frombuffer(_file(ids, np.resize(values, shape)), np.uint8)
            for values in (_VALUES, _VALUES[::-1], _OTHERS)
        )
        if not first.size == second.size == third.size:
            return None
        is_logit = first != second
        if np.count_nonzero(is_logit) != 4 * len(ids) * n_classes:
            return None
        content = first.tobytes()
        layout = cls(
            len(content),
            shape,
            tuple(_runs(is_logit)),
            tuple((part, content[part]) for part in _runs(first == third)),
        )
        sample = np.arange(len(ids) * n_classes, dtype=np.float32).reshape(shape)
        read = layout.logits(_file(ids, sample))
        return layout if read is not None and np.array_equal(read, sample) else None

    def logits(self, content: bytes) -> NDArray[np.float32] | None:
        """The logits in the content of a file, float32 (N, C); None if it has another layout."""
        if len(content) != self.size:
            return None
        if any(content[part] != expected for part, expected in self._fixed):
            return None
        logits = b"".join(memoryview(content)[part] for part in self._logits)
        return np.frombuffer(logits, "<f4").reshape(self.shape)


def _file(ids: Sequence[str], logits: NDArray[np.float32]) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    write_predictions(sink, ids, logits)
    return bytes(sink.getvalue())


def _runs(mask: NDArray[np.bool_]) -> list[slice]:
    """Where a (N,) mask is true, as slices."""
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False))
    return [slice(int(a), int(b)) for a, b in edges.reshape(-1, 2)]
