"""Raw image files of a store as tensors."""

from __future__ import annotations

import mmap
import os

import torch
from torch import Tensor


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
