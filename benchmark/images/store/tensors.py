"""Image files of a store as tensors, or as an object that is indexed like one.

Small data are held in memory as one tensor. Large data stay in their files: an image is copied or
decoded when a batch needs it, and on a GPU with enough memory only once.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor

from benchmark.images.store.jpeg import JpegPack

IN_MEMORY = 1 << 30  # largest number of bytes held as one tensor
# Of a GPU's free memory, the share that images may take: four runs side by side fit.
ON_DEVICE = 1 / 6


def as_images(pixels: Tensor, size: int, kind: str) -> Tensor:
    """View the bytes of a store's images, uint8 (N,), as uint8 (M, 3, size, size).

    Of kind ``interleaved``, the result has torch's ``channels_last`` strides; of kind ``raw``, it
    is contiguous.
    """
    count = len(pixels) // (3 * size * size)
    if kind == "interleaved":
        return pixels.view(count, size, size, 3).permute(0, 3, 1, 2)
    return pixels.view(count, 3, size, size)


def map_images(descriptor: int, count: int, size: int, kind: str = "raw") -> Tensor:
    """Map the images of an open file into memory as uint8 (count, 3, size, size).

    Args:
        descriptor: the file, open for reading.
        count: number of images.
        size: side of an image in pixels.
        kind: ``raw`` or ``interleaved``.

    Raises:
        ValueError: the length of the file does not match.
    """
    expected = count * 3 * size * size
    length = os.fstat(descriptor).st_size
    if length != expected:
        raise ValueError(
            f"an image file of the store has {length} bytes, but {count} images need {expected}"
        )
    if count == 0:  # an empty file cannot be mapped
        return as_images(torch.empty(0, dtype=torch.uint8), size, kind)
    # Copy-on-write: torch requires a writable buffer, but the file must not change.
    view = mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY)
    return as_images(torch.frombuffer(view, dtype=torch.uint8), size, kind)


class Kept:
    """Images on a device, each read when it is first needed and kept from then on.

    Args:
        count: number of images.
        size: side of an image in pixels.
        device: where they are kept; memory is taken at the first use.
    """

    def __init__(self, count: int, size: int, device: torch.device) -> None:
        self._shape, self._device = (count, 3, size, size), device
        self._images: Tensor | None = None
        self._here = torch.zeros(count, dtype=torch.bool)

    def get(self, rows: Tensor, read: Callable[[Tensor], Tensor]) -> Tensor:
        """Return images, uint8 (N, 3, S, S) on the device.

        Args:
            rows: int64 (N,), on the CPU.
            read: returns the images of such rows, on the CPU.
        """
        if self._images is None:
            # The first use may be a prediction, in whose mode training could not add images.
            with torch.inference_mode(False):
                self._images = torch.empty(self._shape, dtype=torch.uint8, device=self._device)
        new = rows[~self._here[rows]].unique()  # type: ignore[no-untyped-call]
        if len(new):
            # One by one: an assignment by index sorts the indices, to be deterministic.
            for row, image in zip(new.tolist(), read(new).to(self._device), strict=True):
                self._images[row] = image
            self._here[new] = True
        return self._images[rows.to(self._device)]


def fits_on(device: torch.device, size: int) -> bool:
    """Whether so many bytes of images may be kept on a device: never on the CPU."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return size <= ON_DEVICE * free


class LazyImages:
    """Images uint8 (N, 3, S, S) that stay in their files, indexed like a tensor.

    ``images[rows]`` with an int64 tensor or a slice returns a tensor of these images. ``len``,
    ``shape`` and ``dtype`` are those of a tensor.

    Args:
        parts: mapped tensors or packs, in order.
        size: side of an image in pixels.
        rows: int64 (N,), indices into the concatenated parts; default: all images.
        device: the device of the returned tensors.
        kept: keeps the images of all parts on the device; default: none are kept.
    """

    dtype = torch.uint8

    def __init__(
        self,
        parts: Sequence[Tensor | JpegPack],
        size: int,
        rows: Tensor | None = None,
        device: torch.device | None = None,
        kept: Kept | None = None,
    ) -> None:
        self._parts, self._size, self._kept = list(parts), size, kept
        self._layout = torch.channels_last if _interleaved(parts) else torch.contiguous_format
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
        rows = self._rows[index.cpu() if isinstance(index, Tensor) else index]
        if self._kept is not None:
            return self._kept.get(rows, self._read)
        return self._read(rows).to(self.device)

    def _read(self, rows: Tensor) -> Tensor:
        """Images by their indices in the concatenated parts, on the CPU."""
        shape = (len(rows), 3, self._size, self._size)
        out = torch.empty(shape, dtype=torch.uint8, memory_format=self._layout)
        for place, row in enumerate(rows.tolist()):
            number = int(np.searchsorted(self._ends, row, side="right"))
            part = self._parts[number]
            index_in_part = row - (int(self._ends[number - 1]) if number else 0)
            if isinstance(part, JpegPack):
                out[place] = torch.from_numpy(part.decode(index_in_part))
            else:
                out[place] = part[index_in_part]
        return out

    def select(self, rows: Tensor) -> Self:
        """Return some of the images, without copying or decoding."""
        chosen = self._rows[rows.cpu()]
        return type(self)(self._parts, self._size, chosen, self.device, self._kept)

    def to(self, device: torch.device) -> Self:
        """Return the same images; batches are moved to the device when they are read.

        On a GPU that has enough free memory, an image is read once and stays there.
        """
        total = int(self._ends[-1]) if len(self._ends) else 0
        kept = None
        if fits_on(device, total * 3 * self._size**2):
            kept = Kept(total, self._size, device)
        return type(self)(self._parts, self._size, self._rows, device, kept)

    def plus(self, other: LazyImages) -> LazyImages:
        """Concatenate with other images, without copying or decoding."""
        start = int(self._ends[-1]) if len(self._ends) else 0
        return LazyImages(
            [*self._parts, *other._parts],
            self._size,
            torch.cat([self._rows, other._rows + start]),
            self.device,
        )


def _interleaved(parts: Sequence[Tensor | JpegPack]) -> bool:
    """Whether all parts give images with the channels of a pixel side by side."""
    return all(isinstance(part, JpegPack) or part.stride(1) == 1 for part in parts)


def join(parts: Sequence[Tensor | JpegPack], size: int) -> Tensor | LazyImages:
    """Concatenate parts: one tensor in memory if it is small, else ``LazyImages``."""
    total = sum(len(part) for part in parts) * 3 * size * size
    tensors = [part for part in parts if isinstance(part, Tensor)]
    if len(tensors) == len(parts) and parts and total <= IN_MEMORY:
        # With an empty tensor among them, the layout of the others would be lost.
        return torch.cat([tensor for tensor in tensors if len(tensor)] or tensors[:1])
    return LazyImages(parts, size)


def select(images: Tensor | LazyImages, rows: Tensor) -> Tensor | LazyImages:
    """Return some of the images, by an int64 tensor of their indices."""
    return images.select(rows) if isinstance(images, LazyImages) else images[rows]


def concatenate(first: Tensor | LazyImages, second: Tensor | LazyImages) -> Tensor | LazyImages:
    """Concatenate images."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return torch.cat([first, second])
    one, two = (
        images if isinstance(images, LazyImages) else LazyImages([images.cpu()], images.shape[-1])
        for images in (first, second)
    )
    return one.plus(two).to(first.device)


def open_images(descriptor: int, count: int, size: int, kind: str) -> Tensor | JpegPack:
    """Open the images of a store's file, of kind ``raw``, ``interleaved`` or ``jpeg``.

    Raises:
        ValueError: the file does not hold that many images.
    """
    if kind == "jpeg":
        return JpegPack(descriptor, count, size)
    return map_images(descriptor, count, size, kind)
