"""A file of many JPEG images, memory-mapped; an image is decoded when it is read.

Format: the eight bytes ``MAGIC``, the number N of images and N + 1 offsets from the start of the
file as little-endian unsigned 64-bit integers, then the images. Loads no torch.
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
QUALITY = 95  # without chroma subsampling: about 50 KB for 256 x 256 pixels


def encode(pixels: NDArray[np.uint8]) -> bytes:
    """Encode an image, uint8 (3, S, S), as JPEG."""
    from PIL import Image

    data = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    image.save(data, "JPEG", quality=QUALITY, subsampling="4:4:4")
    return data.getvalue()


def write_pack(file: IO[bytes], lengths: Sequence[int], images: Iterable[bytes]) -> None:
    """Write a pack.

    Args:
        file: a binary file at position 0.
        lengths: length of each image in bytes.
        images: the encoded images, in the same order.
    """
    head = len(MAGIC) + 8 * (len(lengths) + 2)
    offsets = np.cumsum([head, *lengths], dtype="<u8")
    file.write(MAGIC + np.array([len(lengths)], "<u8").tobytes() + offsets.tobytes())
    for data in images:
        file.write(data)


class JpegPack:
    """The images of an open pack.

    Args:
        descriptor: file descriptor, open for reading.
        count: the number of images that it must hold.
        size: their side in pixels.

    Raises:
        ValueError: the file is not a pack of ``count`` images.
    """

    def __init__(self, descriptor: int, count: int, size: int) -> None:
        from PIL import Image

        Image.preinit()  # imports decoders; a sandboxed process cannot do so later
        length = os.fstat(descriptor).st_size
        head = len(MAGIC) + 8 * (count + 2)
        if length < head:
            raise ValueError(f"the image file has only {length} bytes, too few for {count} images")
        self._bytes = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        numbers = np.frombuffer(self._bytes, "<u8", count + 2, len(MAGIC)).astype(np.int64)
        self._offsets = numbers[1:]
        is_complete = self._offsets[0] == head and self._offsets[-1] == length
        if self._bytes[: len(MAGIC)] != MAGIC or numbers[0] != count or not is_complete:
            raise ValueError(f"the image file does not contain {count} images")
        if (np.diff(self._offsets) <= 0).any():
            raise ValueError("the image file is damaged: its offsets do not increase")
        self._size = size

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def decode(self, index: int) -> NDArray[np.uint8]:
        """Decode an image.

        Returns:
            uint8 (3, S, S), interleaved in memory.

        Raises:
            ValueError: it cannot be decoded, or has another size or mode.
        """
        return decode(self.encoded(index), self._size, index)

    def encoded(self, index: int) -> bytes:
        """The bytes of an image, not decoded."""
        begin, end = self._offsets[index : index + 2].tolist()
        return self._bytes[begin:end]


def decode(data: bytes, size: int, index: int) -> NDArray[np.uint8]:
    """Decode an image.

    Args:
        data: the encoded image.
        size: its side in pixels.
        index: names it in messages.

    Returns:
        uint8 (3, S, S), interleaved in memory.

    Raises:
        ValueError: it cannot be decoded, or has another size or mode.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            if image.size != (size, size) or image.mode != "RGB":
                raise ValueError(
                    f"image {index} has size {image.size} and mode {image.mode}; expected "
                    f"{(size, size)} and RGB"
                )
            array = np.array(image)  # a copy that can be written to
    except (OSError, SyntaxError) as error:
        raise ValueError(f"image {index} cannot be decoded: {error}") from None
    return array.transpose(2, 0, 1)
