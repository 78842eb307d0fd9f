"""Image files of a store as tensors, or as something that is indexed like one.

What is small is one tensor. What is large stays in its files: an image is copied or decoded when a
batch asks for it.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor

from benchmark.images.packed import Pack

IN_MEMORY = 1 << 30  # bytes of pixels that are held as one tensor


def map_images(descriptor: int, count: int, size: int) -> Tensor:
    """The images of an open file as uint8 (count, 3, size, size), mapped, not read.

    Raises:
        ValueError: the file has not the length that this many images take.
    """
    expected = count * 3 * size * size
    found = os.fstat(descriptor).st_size
    if found != expected:
        raise ValueError(f"an image file has {found} bytes; {count} images take {expected}")
    if count == 0:  # an empty file cannot be mapped
        return torch.empty((0, 3, size, size), dtype=torch.uint8)
    # A private copy-on-write map: torch wants a writable buffer, the file stays as it is.
    view = mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY)
    return torch.frombuffer(view, dtype=torch.uint8).view(count, 3, size, size)


class Images:
    """Images uint8 (N, 3, S, S) that stay in their files, indexed as a tensor is.

    ``images[rows]`` with an int64 tensor or a slice gives a tensor of these images. ``len``,
    ``shape`` and ``dtype`` are a tensor's.

    Args:
        parts: mapped tensors or packs, one after the other.
        size: side of an image in pixels.
        rows: int64 (N,), which images of the parts, in order; default all.
        device: where what is asked for is put.
    """

    dtype = torch.uint8

    def __init__(
        self,
        parts: Sequence[Tensor | Pack],
        size: int,
        rows: Tensor | None = None,
        device: torch.device | None = None,
    ) -> None:
        self._parts, self._size = list(parts), size
        self._ends = np.cumsum([len(part) for part in parts])
        total = int(self._ends[-1]) if len(self._ends) else 0
        self._rows = torch.arange(total) if rows is None else rows
        self.device = device or torch.device("cpu")

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def shape(self) -> torch.Size:
        """(N, 3, S, S)."""
        return torch.Size((len(self), 3, self._size, self._size))

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        rows = self._rows[index.cpu() if isinstance(index, Tensor) else index].tolist()
        out = torch.empty((len(rows), 3, self._size, self._size), dtype=torch.uint8)
        for place, row in enumerate(rows):
            number = int(np.searchsorted(self._ends, row, side="right"))
            part = self._parts[number]
            within = row - (int(self._ends[number - 1]) if number else 0)
            out[place] = (
                torch.from_numpy(part.decode(within)) if isinstance(part, Pack) else part[within]
            )
        return out.to(self.device)

    def select(self, rows: Tensor) -> Self:
        """Some of the images; nothing is copied or decoded."""
        return type(self)(self._parts, self._size, self._rows[rows.cpu()], self.device)

    def to(self, device: torch.device) -> Self:
        """The same images; what is asked for is put on the device, batch by batch."""
        return type(self)(self._parts, self._size, self._rows, device)

    def plus(self, other: Images) -> Images:
        """These images, then those of another; nothing is copied or decoded."""
        start = int(self._ends[-1]) if len(self._ends) else 0
        return Images(
            [*self._parts, *other._parts],
            self._size,
            torch.cat([self._rows, other._rows + start]),
            self.device,
        )


def join(parts: Sequence[Tensor | Pack], size: int) -> Tensor | Images:
    """Parts one after the other: one tensor in memory if it is small, else ``Images``."""
    total = sum(len(part) for part in parts) * 3 * size * size
    tensors = [part for part in parts if isinstance(part, Tensor)]
    if len(tensors) == len(parts) and parts and total <= IN_MEMORY:
        return torch.cat(tensors)
    return Images(parts, size)


def select(images: Tensor | Images, rows: Tensor) -> Tensor | Images:
    """Some of the images, by an int64 tensor of their indices."""
    return images.select(rows) if isinstance(images, Images) else images[rows]


def concatenate(first: Tensor | Images, second: Tensor | Images) -> Tensor | Images:
    """Images one after the other."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return torch.cat([first, second])
    one, two = (
        images if isinstance(images, Images) else Images([images.cpu()], images.shape[-1])
        for images in (first, second)
    )
    return one.plus(two).to(first.device)


def open_images(descriptor: int, count: int, size: int, kind: str) -> Tensor | Pack:
    """The images of an open file of a store, of kind ``raw`` or ``jpeg``.

    Raises:
        ValueError: the file does not hold that many images.
    """
    return Pack(descriptor, count, size) if kind == "jpeg" else map_images(descriptor, count, size)
