"""A file of many JPEG images that is mapped, and an image is decoded when it is asked for.

The form: the eight bytes ``MAGIC``, the number N of images and N + 1 offsets from the beginning of
the file as little-endian unsigned 64-bit numbers, then the images one after the other. No torch.
"""

from __future__ import annotations

import io
import mmap
import os
from collections.abc import Iterable, Sequence
from typing import IO, TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAGIC = b"HTBJPEG1"
QUALITY = 95  # with full colour resolution: about 50 KB for 256 x 256 pixels


def encode(pixels: NDArray[np.uint8]) -> bytes:
    """The JPEG of an image (3, S, S) uint8."""
    from PIL import Image

    data = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    image.save(data, "JPEG", quality=QUALITY, subsampling="4:4:4")
    return data.getvalue()


def write_pack(file: IO[bytes], lengths: Sequence[int], images: Iterable[bytes]) -> None:
    """Write a pack of images whose lengths in bytes are known."""
    head = len(MAGIC) + 8 * (len(lengths) + 2)
    offsets = np.cumsum([head, *lengths], dtype="<u8")
    file.write(MAGIC + np.array([len(lengths)], "<u8").tobytes() + offsets.tobytes())
    for data in images:
        file.write(data)


class Pack:
    """The images of an open pack.

    Args:
        descriptor: of the file.
        count: images that it must hold; ``size``: their side in pixels.

    Raises:
        ValueError: it is no pack of that many images.
    """

    def __init__(self, descriptor: int, count: int, size: int) -> None:
        from PIL import Image

        Image.preinit()  # whoever decodes may not be able to read files by then
        length = os.fstat(descriptor).st_size
        head = len(MAGIC) + 8 * (count + 2)
        if length < head:
            raise ValueError(f"a pack has {length} bytes; {count} images take more")
        self._bytes = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        numbers = np.frombuffer(self._bytes, "<u8", count + 2, len(MAGIC)).astype(np.int64)
        self._offsets = numbers[1:]
        whole = self._offsets[0] == head and self._offsets[-1] == length
        if self._bytes[: len(MAGIC)] != MAGIC or numbers[0] != count or not whole:
            raise ValueError(f"a file is no pack of {count} images")
        if (np.diff(self._offsets) <= 0).any():
            raise ValueError("the offsets of a pack do not rise")
        self._size = size

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def decode(self, index: int) -> NDArray[np.uint8]:
        """An image as (3, S, S) uint8.

        Raises:
            ValueError: it cannot be decoded, or is of another size.
        """
        from PIL import Image

        begin, end = self._offsets[index : index + 2].tolist()
        try:
            with Image.open(io.BytesIO(self._bytes[begin:end]), formats=("JPEG",)) as image:
                if image.size != (self._size, self._size) or image.mode != "RGB":
                    raise ValueError(f"image {index} of a pack is {image.size} {image.mode}")
                array = np.asarray(image)
        except (OSError, SyntaxError) as error:
            raise ValueError(f"image {index} of a pack cannot be decoded: {error}") from None
        return np.ascontiguousarray(array.transpose(2, 0, 1))
