"""The images of a store's files as the bytes that they are stored in; nothing is decoded.

Loads no torch.
"""

from __future__ import annotations

import os
import shlex
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import accumulate
from pathlib import Path
from typing import Self

from benchmark.errors import DataError
from benchmark.images.store.jpeg import JpegPack


class EncodedImages:
    """A context manager that opens image files of a store and reads single images.

    Args:
        files: path and number of images of each file.
        size: side of an image in pixels.
        kind: ``raw``, ``interleaved`` or ``jpeg``.

    Raises:
        DataError: on entry, a file does not hold that many images.
    """

    def __init__(self, files: Sequence[tuple[Path, int]], size: int, kind: str) -> None:
        self._files, self.size, self._kind = files, size, kind
        self._ends = list(accumulate(count for _, count in files))
        self._open: list[_RawFile | JpegPack] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            for path, count in self._files:
                descriptor = self._stack.enter_context(path.open("rb")).fileno()
                kind = JpegPack if self._kind == "jpeg" else _RawFile
                self._open.append(kind(descriptor, count, self.size))
        except ValueError as error:
            self._stack.close()
            raise DataError(
                f"{path}: {error}; delete the store and run the command again: "
                f"rm -r {shlex.quote(str(path.parent))}"
            ) from None
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def read(self, index: int) -> bytes:
        """The bytes of an image; indices run through all files."""
        number = bisect_right(self._ends, index)
        start = self._ends[number - 1] if number else 0
        return self._open[number].encoded(index - start)


class _RawFile:
    """An open file of ``count`` images of 3 S S bytes each."""

    def __init__(self, descriptor: int, count: int, size: int) -> None:
        self._descriptor, self._bytes = descriptor, 3 * size * size
        length, expected = os.fstat(descriptor).st_size, count * self._bytes
        if length != expected:
            raise ValueError(
                f"an image file of the store has {length} bytes, but {count} images need {expected}"
            )

    def encoded(self, index: int) -> bytes:
        return os.pread(self._descriptor, self._bytes, index * self._bytes)
