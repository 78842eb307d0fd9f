"""Raw image files of a store as tensors."""

from __future__ import annotations

import mmap

import torch
from torch import Tensor


def map_images(descriptor: int, count: int, size: int) -> Tensor:
    """The images of an open file as uint8 (count, 3, size, size), mapped, not read.

    Raises:
        ValueError: the file has not the length that this many images take.
    """
    expected = count * 3 * size * size
    # A private copy-on-write map: torch wants a writable buffer, the file stays as it is.
    view = mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY)
    if len(view) != expected:
        raise ValueError(f"an image file has {len(view)} bytes; {count} images take {expected}")
    return torch.frombuffer(view, dtype=torch.uint8).view(count, 3, size, size)
