"""Decode an image file as 8-bit RGB: one rule for every place that reads images.

Files are JPEG or PNG. Greyscale, palettes and 8-bit RGB convert in the one possible way. Otherwise:

- 16 bits per channel: the high byte of each value;
- transparency: the image on a white background;
- CMYK: as Adobe writes it (inverted), without colour management; refused without Adobe's marker,
  since the polarity is then unknown;
- several pictures in one file (animated PNG, MPO): the first one, as every viewer of still images
  shows;
- EXIF orientation, ICC profiles and gamma: ignored, as PIL and torchvision's ``ImageFolder`` do.

Everything else is refused by name. Sizes are checked before pixels are decoded. Loads no torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from benchmark.errors import DataError
from benchmark.images.kinds import HEAD_BYTES, describe
from benchmark.text import printable

if TYPE_CHECKING:
    from PIL import Image

RULES = 2  # increase it when a file gets other pixels, so that stores are built again

MAX_FILE_BYTES = 256 << 20  # of one encoded image
MAX_PIXELS = 64 << 20  # a decoded image has 4 bytes per pixel in PIL, 256 MiB
MAX_SCANS = 100  # of a progressive JPEG; each costs a pass over all pixels, and encoders write ten
MAX_SEGMENTS = 10_000  # of a JPEG: profiles and metadata are in pieces of up to 64 KiB
_SCAN, _END = 0xDA, 0xD9
_SWITCHES = threading.RLock()  # one image at a time is decoded, with its own switches
# A process that is forked while another thread decodes, such as a data loader's worker, would have
# a lock that nobody releases, and the switches of that image.
os.register_at_fork(
    before=_SWITCHES.acquire,
    after_in_parent=_SWITCHES.release,
    after_in_child=_SWITCHES.release,
)
# A marker of a JPEG other than those within the data of a scan: a zero after 0xFF, and restarts.
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")
ORIENTATION = 0x0112  # the EXIF tag; 1 is upright
MAX_REASON = 200  # characters of an error of PIL

SUFFIXES = {"JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"), "PNG": (".png", ".apng")}

SIXTEEN_BIT = "16 bits per channel; the high byte is used"
TRANSPARENT = "transparent; shown on white"
CMYK = "CMYK; converted to RGB without colour management"
SEVERAL = "several pictures in one file; the first one is used"
ROTATED = "EXIF orientation is not upright; it is ignored, as by PIL and torchvision"


class Decoded(NamedTuple):
    """A decoded image.

    Attributes:
        image: PIL image in RGB.
        truncated: whether the file ends early. PIL fills the rest with grey or black; DomainNet
            has such files.
        notes: what is unusual about the file, in words that are the same for all such files.
    """

    image: Image.Image
    truncated: bool
    notes: tuple[str, ...]


def decode_file(path: Path, sha256: str | None = None) -> Decoded:
    """Decode an image file, see :func:`decode`.

    Args:
        path: the file.
        sha256: what its SHA-256 (hex) must be; None for any.

    Raises:
        DataError: it is another file, or cannot be decoded; the message has the path and the
            reason.
    """
    try:
        data = read_file(path)
        if sha256 is None or sha256 == (digest := hashlib.sha256(data).hexdigest()):
            return decode(data, path.suffix)
    except DataError as error:
        raise DataError(f"{path} cannot be decoded: {error}") from None
    raise DataError(f"{path} is another image: its SHA-256 is {digest}, not {sha256}")


def read_file(path: Path | str) -> bytes:
    """Read a file that should be an image.

    Raises:
        DataError: it cannot be read, is not a regular file, or is too large for an image; the
            message is only the reason.
    """
    try:
        # A FIFO or a device must neither block nor have side effects. A file object would take as
        # long as a small image takes to decode.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise DataError("it is not a regular file")
            if status.st_size > MAX_FILE_BYTES:
                raise DataError(f"it has {status.st_size} bytes, more than {MAX_FILE_BYTES}")
            return _read(descriptor, status.st_size)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise DataError(f"it cannot be read: {error.strerror or error}") from None


def _read(descriptor: int, size: int) -> bytes:
    """Read that many bytes, or fewer if the file ends before; one call may return fewer."""
    parts = []
    while size > 0 and (part := os.read(descriptor, size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def decode(data: bytes, suffix: str = "") -> Decoded:
    """Decode a JPEG or PNG file as RGB.

    Args:
        data: the bytes of the file.
        suffix: the suffix of its name, to note a different format.

    Raises:
        DataError: it cannot be decoded, or has no single conversion to 8-bit RGB; the message is
            only the reason.
    """
    try:
        return _decode(data, suffix, truncated=False)
    except _Truncated:
        return _decode(data, suffix, truncated=True)


class _Truncated(DataError):
    """The file ends early."""


def _decode(data: bytes, suffix: str, *, truncated: bool) -> Decoded:
    with opened(data, truncated=truncated) as image:
        depth = data[24] if image.format == "PNG" else 8  # bits per channel or palette index
        rgb, composed = _to_rgb(image, depth)
        notes = [TRANSPARENT] if composed else []
        return Decoded(rgb, truncated, (*notes, *_notes(image, depth, suffix)))


@contextlib.contextmanager
def opened(data: bytes, *, truncated: bool = False) -> Iterator[Image.Image]:
    """Open a JPEG or PNG file, with its size checked; pixels are decoded when they are used.

    Args:
        data: the bytes of the file.
        truncated: whether PIL fills in what is missing from a file that ends early.

    Raises:
        DataError: it cannot be opened, or PIL fails in the block; the message is only the reason.
    """
    from PIL import Image, UnidentifiedImageError

    kind = describe(data[:HEAD_BYTES])
    if kind not in ("a JPEG image", "a PNG image"):
        raise DataError(f"it is {kind}; images must be JPEG or PNG")
    if kind == "a JPEG image" and _has_many_scans(data):
        raise DataError(f"it has more than {MAX_SCANS} scans, which take too long to decode")
    try:
        with (
            _switches(truncated=truncated),
            Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image,
        ):
            if image.width * image.height > MAX_PIXELS:
                raise DataError(
                    f"it has {image.width} x {image.height} pixels, more than {MAX_PIXELS} (a "
                    "decompression bomb?)"
                )
            yield image
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(
            f"it starts like {kind}, but its header is damaged, or of a kind that PIL cannot read "
            "(such as 12 bits per channel)"
        ) from None
    except MemoryError:
        raise DataError("it takes more memory to decode than one image may take") from None
    except OSError as error:
        problem = _Truncated if "truncated" in str(error).lower() else DataError
        raise problem(str(error)[:MAX_REASON]) from None
    except Exception as error:  # PIL raises many kinds for damaged files
        raise DataError(str(error)[:MAX_REASON] or type(error).__name__) from None


@contextlib.contextmanager
def _switches(*, truncated: bool) -> Iterator[None]:
    """Set PIL's global switches, which the calling program may have set for itself."""
    from PIL import Image, ImageFile

    with _SWITCHES:
        before = ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS
        ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = truncated, None
        try:
            yield
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = before


def _has_many_scans(data: bytes) -> bool:
    """Whether a JPEG has more than ``MAX_SCANS`` scans, or too many segments to tell.

    Profiles, and what follows the end of the image (the video of a moving photo), may hold any
    bytes, so the segments are followed, as a decoder does.
    """
    if data.count(bytes((0xFF, _SCAN))) <= MAX_SCANS:
        return False
    scans, place = 0, 2
    for _ in range(MAX_SEGMENTS):
        marker = _MARKER.search(data, place)
        if marker is None or marker[1][0] == _END:
            return False
        scans += marker[1][0] == _SCAN
        if scans > MAX_SCANS:
            return True
        length = int.from_bytes(data[marker.end() : marker.end() + 2], "big")
        place = marker.end() + length
    return True


def _to_rgb(image: Image.Image, depth: int) -> tuple[Image.Image, bool]:
    """Convert an open image; also return whether some of it was transparent.

    Args:
        image: an open image.
        depth: its bits per channel or palette index.
    """
    from PIL import Image

    if image.mode == "P":
        _check_palette(image)
    if image.mode == "CMYK" and "adobe" not in image.info:
        raise DataError("it is CMYK without Adobe's marker, so its polarity is unknown")
    alpha = _alpha(image, depth)
    image.info.pop("transparency", None)  # PIL would warn, or convert it too
    if image.mode in ("I", "I;16"):  # a PNG of 16 bits; PIL before 11 says I
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK"):
        raise DataError(f"PIL's mode {image.mode} has no single conversion to 8-bit RGB")
    rgb = image.convert("RGB")
    if alpha is None:
        return rgb, False
    white = Image.new("RGB", rgb.size, "white")
    white.paste(rgb, mask=alpha)
    return white, True


def _check_palette(image: Image.Image) -> None:
    """Refuse pixels without a palette entry: PIL makes up a colour."""
    if image.palette is None:
        raise DataError("it has no palette")
    entries = len(image.palette.palette) // 3  # before the pixels are loaded: PIL then fills it up
    highest = int(np.asarray(image).max())
    if highest >= entries:
        raise DataError(f"a pixel has palette index {highest}, but the palette has {entries}")


def _alpha(image: Image.Image, depth: int) -> Image.Image | None:
    """The opacity of each pixel, uint8, or None if all pixels are opaque."""
    from PIL import Image

    transparent = image.info.get("transparency")
    if image.mode in ("LA", "RGBA") or (image.mode == "P" and transparent is not None):
        alpha = image.convert("RGBA").getchannel("A")
    elif transparent is None:
        return None
    else:
        if image.mode == "RGB" and depth == 16:
            raise DataError("it has 16 bits per channel and a transparent colour")
        values = np.asarray(image.convert("L") if image.mode == "1" else image)
        if image.mode == "L":  # PIL scales the pixels to 8 bits, but not this value
            transparent = transparent * 255 // (2**depth - 1)
        differs = values != np.array(transparent)
        if image.mode == "RGB":
            differs = differs.any(axis=2)
        alpha = Image.fromarray(differs.astype(np.uint8) * 255)
    return None if alpha.getextrema() == (255, 255) else alpha


def _notes(image: Image.Image, depth: int, suffix: str) -> tuple[str, ...]:
    """What is unusual about a file that was decoded."""
    format_ = "JPEG" if image.format == "MPO" else str(image.format)
    notes = []
    if suffix and suffix.lower() not in SUFFIXES[format_]:
        notes.append(f"{format_}, but the name ends in {printable(suffix, limit=10)}")
    if depth == 16:
        notes.append(SIXTEEN_BIT)
    if image.mode == "CMYK":
        notes.append(CMYK)
    if getattr(image, "n_frames", 1) > 1:
        notes.append(SEVERAL)
    with contextlib.suppress(Exception):  # of damaged EXIF data
        if "exif" in image.info and image.getexif().get(ORIENTATION, 1) != 1:
            notes.append(ROTATED)
    return tuple(notes)
