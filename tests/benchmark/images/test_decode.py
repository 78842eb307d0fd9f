"""Images convert to 8-bit RGB by one documented rule, or are refused by name."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from benchmark.errors import DataError
from benchmark.images import decode as module
from benchmark.images.decode import decode, decode_file, opened, read_file

GREY, COLOUR, PALETTE, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 3, 4, 6  # PNG's colour types
ROW = b"\0"  # a PNG row without a filter


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(size: tuple[int, int], depth: int, colour: int, rows: bytes, *chunks: bytes) -> bytes:
    """A PNG of any kind, also those that PIL cannot write."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + data + chunk(b"IEND", b"")


def shorts(*values: int) -> bytes:
    return struct.pack(f">{len(values)}H", *values)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def pixels(data: bytes) -> list[tuple[int, int, int]]:
    array = np.asarray(decode(data).image)
    assert array.dtype == np.uint8
    return [tuple(pixel) for pixel in array.reshape(-1, 3).tolist()]


def grey(*values: int) -> list[tuple[int, int, int]]:
    return [(value, value, value) for value in values]


PLTE = chunk(b"PLTE", bytes([10, 20, 30, 200, 100, 0]))
TWO = (2, 1)  # pixels
CASES: dict[str, tuple[bytes, list[tuple[int, int, int]], tuple[str, ...]]] = {
    "16-bit grey": (
        png(TWO, 16, GREY, ROW + shorts(0x0180, 0xFFFF)),
        grey(1, 255),
        (module.SIXTEEN_BIT,),
    ),
    "16-bit grey, transparent value": (
        png(TWO, 16, GREY, ROW + shorts(0x0180, 0x0181), chunk(b"tRNS", shorts(0x0180))),
        grey(255, 1),
        (
            module.TRANSPARENT,
            module.SIXTEEN_BIT,
        ),
    ),
    "16-bit colour": (
        png(TWO, 16, COLOUR, ROW + shorts(0x0100, 0x00FF, 0xFFFF, 0x1280, 0x7FFF, 0)),
        [(1, 0, 255), (18, 127, 0)],
        (module.SIXTEEN_BIT,),
    ),
    "16-bit grey with alpha": (
        png(TWO, 16, GREY_ALPHA, ROW + shorts(0x4D00, 0xFFFF, 0x4D00, 0)),
        grey(77, 255),
        (
            module.TRANSPARENT,
            module.SIXTEEN_BIT,
        ),
    ),
    "16-bit colour with alpha": (
        png(TWO, 16, COLOUR_ALPHA, ROW + shorts(0x1000, 0x2000, 0x3000, 0xFFFF, 1, 2, 3, 0)),
        [(16, 32, 48), (255, 255, 255)],
        (
            module.TRANSPARENT,
            module.SIXTEEN_BIT,
        ),
    ),
    "1-bit": (png(TWO, 1, GREY, ROW + b"\x40"), grey(0, 255), ()),
    "1-bit, transparent value": (
        png(TWO, 1, GREY, ROW + b"\x40", chunk(b"tRNS", shorts(0))),
        grey(255, 255),
        (module.TRANSPARENT,),
    ),
    "2-bit": (png((4, 1), 2, GREY, ROW + b"\x1b"), grey(0, 85, 170, 255), ()),
    "4-bit, transparent value": (
        png(TWO, 4, GREY, ROW + b"\x3e", chunk(b"tRNS", shorts(3))),
        grey(255, 238),
        (module.TRANSPARENT,),
    ),
    "8-bit grey, transparent value": (
        png(TWO, 8, GREY, ROW + bytes([0, 7]), chunk(b"tRNS", shorts(0))),
        grey(255, 7),
        (module.TRANSPARENT,),
    ),
    "8-bit colour, transparent colour": (
        png(TWO, 8, COLOUR, ROW + bytes([1, 2, 3, 1, 2, 4]), chunk(b"tRNS", shorts(1, 2, 3))),
        [(255, 255, 255), (1, 2, 4)],
        (module.TRANSPARENT,),
    ),
    "palette": (png(TWO, 8, PALETTE, ROW + b"\0\1", PLTE), [(10, 20, 30), (200, 100, 0)], ()),
    "palette, one transparent entry": (
        png(TWO, 8, PALETTE, ROW + b"\0\1", PLTE, chunk(b"tRNS", b"\0")),
        [(255, 255, 255), (200, 100, 0)],
        (module.TRANSPARENT,),
    ),
    "palette, half transparent": (
        png(TWO, 8, PALETTE, ROW + b"\0\1", PLTE, chunk(b"tRNS", b"\xff\x80")),
        [(10, 20, 30), (227, 177, 127)],
        (module.TRANSPARENT,),
    ),
    "palette, opaque": (
        png(TWO, 8, PALETTE, ROW + b"\0\1", PLTE, chunk(b"tRNS", b"\xff\xff")),
        [(10, 20, 30), (200, 100, 0)],
        (),
    ),
    "alpha": (
        png(TWO, 8, COLOUR_ALPHA, ROW + bytes([0, 0, 0, 0, 9, 8, 7, 255])),
        [(255, 255, 255), (9, 8, 7)],
        (module.TRANSPARENT,),
    ),
    "grey with alpha": (
        png(TWO, 8, GREY_ALPHA, ROW + bytes([0, 0, 9, 255])),
        grey(255, 9),
        (module.TRANSPARENT,),
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("error")
def test_conversion(name: str) -> None:
    data, expected, notes = CASES[name]
    assert pixels(data) == expected
    assert decode(data).notes == notes


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_plain_images_are_what_pil_and_torchvision_give(mode: str, kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (31, 17, 3), dtype=np.uint8)
    image = Image.fromarray(noise).convert(mode)
    for options in ({}, {"progressive": True} if kind == "JPEG" else {"optimize": True}):
        data = encoded(image, kind, **options)
        with Image.open(io.BytesIO(data)) as picture:
            expected = np.asarray(picture.convert("RGB"))
        assert np.array_equal(np.asarray(decode(data).image), expected)
        assert decode(data)[1:] == (False, ())


def test_cmyk_as_adobe_writes_it() -> None:
    data = encoded(Image.new("CMYK", (8, 8), (255, 0, 0, 51)), "JPEG", quality=100)
    assert b"Adobe" in data
    assert np.abs(np.array(pixels(data)) - [0, 204, 204]).max() <= 2
    assert decode(data).notes == (module.CMYK,)
    start = data.index(b"\xff\xee")
    length = 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    with pytest.raises(DataError, match="CMYK without Adobe's marker"):
        decode(data[:start] + data[start + length :])


@pytest.mark.parametrize("kind", ["PNG", "MPO"])
def test_of_several_pictures_the_first_is_used(kind: str) -> None:
    first, second = Image.new("RGB", (8, 8), (8, 8, 8)), Image.new("RGB", (8, 8), "red")
    data = encoded(first, kind, save_all=True, append_images=[second])
    assert set(pixels(data)) == {(8, 8, 8)}
    assert decode(data, ".png" if kind == "PNG" else ".jpg").notes == (module.SEVERAL,)


def test_orientation_is_ignored_and_noted() -> None:
    image = Image.new("RGB", (8, 24))
    exif = image.getexif()
    exif[module.ORIENTATION] = 6
    data = encoded(image, "JPEG", exif=exif)
    assert decode(data).image.size == (8, 24)
    assert decode(data).notes == (module.ROTATED,)
    assert decode(data.replace(b"MM\0*", b"MM\xff\xff")).image.size == (8, 24)  # damaged EXIF


@pytest.mark.parametrize(
    ("kind", "suffix", "notes"),
    [
        ("PNG", ".jpg", ("PNG, but the name ends in .jpg",)),
        ("JPEG", ".png", ("JPEG, but the name ends in .png",)),
        ("JPEG", ".JPEG", ()),
        ("PNG", ".PNG", ()),
        ("PNG", ".\x1b[31m" + "x" * 100, ("PNG, but the name ends in .\ufffd[31mxxxx",)),
    ],
)
def test_a_format_other_than_the_name_says(kind: str, suffix: str, notes: tuple[str]) -> None:
    assert decode(encoded(Image.new("L", (4, 4)), kind), suffix).notes == notes


BIG = 1 << 20
SMALL_JPEG = encoded(Image.new("L", (4, 4)), "JPEG")
REFUSED = {
    "GIF": (encoded(Image.new("L", (4, 4)), "GIF"), "a GIF image; images must be JPEG or PNG"),
    "WebP": (encoded(Image.new("L", (4, 4)), "WEBP"), "a WebP image"),
    "TIFF": (encoded(Image.new("I;16", (4, 4)), "TIFF"), "a TIFF image"),
    "BMP": (encoded(Image.new("L", (4, 4)), "BMP"), "a BMP image"),
    "page": (b"<!doctype html><title>Sign in</title>", "a web page"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer"),
    "empty": (b"", "it is empty"),
    "zeros": (bytes(4096), "filled with zeros"),
    "16-bit colour, transparent colour": (
        png(TWO, 16, COLOUR, ROW + bytes(12), chunk(b"tRNS", bytes(6))),
        "16 bits per channel and a transparent colour",
    ),
    "palette index without a colour": (
        png(TWO, 8, PALETTE, ROW + b"\0\x02", PLTE),
        "palette index 2, but the palette has 2",
    ),
    "no palette": (png(TWO, 8, PALETTE, ROW + b"\0\0"), "palette"),
    "wide": (png((60_000, 60_000), 8, GREY, b""), "decompression bomb"),
    "large": (png((9000, 9000), 8, GREY, b""), "9000 x 9000 pixels, more than"),
    "text": (
        png(TWO, 8, GREY, ROW + b"ab", chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(8 * BIG)))),
        "(?i)too large",
    ),
    "profile": (
        png(TWO, 8, GREY, ROW + b"ab", chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(8 * BIG)))),
        "(?i)too large",
    ),
    "scans": (SMALL_JPEG[:-2] + b"\xff\xda\x00\x02" * 101 + SMALL_JPEG[-2:], "more than 100 scans"),
    "segments": (
        SMALL_JPEG[:2] + b"\xff\xe1\x00\x04\xff\xda" * 10_001 + SMALL_JPEG[2:],
        "more than 100 scans",
    ),
    "head only": (b"\xff\xd8\xff\xe0" + bytes(100), "its header is damaged"),
}


@pytest.mark.parametrize(
    "data",
    [
        SMALL_JPEG + b"\xff\xda\x00\x02" * 101,  # the video of a moving photo
        SMALL_JPEG[:2] + b"\xff\xe2\x01\x30" + b"\xff\xda" * 151 + SMALL_JPEG[2:],  # a profile
        SMALL_JPEG + b"\xff" * (8 << 20) + b"\xff\xda" * 101,
    ],
)
def test_bytes_outside_the_image_are_not_taken_for_scans(data: bytes) -> None:
    assert decode(data).image.tobytes() == decode(SMALL_JPEG).image.tobytes()


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore:Image size")
def test_refused_by_name_and_without_much_memory(name: str) -> None:
    data, reason = REFUSED[name]
    tracemalloc.start()
    with pytest.raises(DataError, match=reason):
        decode(data)
    assert tracemalloc.get_traced_memory()[1] < 32 * BIG
    tracemalloc.stop()


@given(
    st.sampled_from([data for data, *_ in CASES.values()]),
    st.lists(st.tuples(st.integers(8, 200), st.integers(0, 255)), max_size=4),
    st.integers(10, 300),
)
@settings(max_examples=300, deadline=None)
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_decoded_or_refused(
    data: bytes, edits: list[tuple[int, int]], length: int
) -> None:
    """Also with right checksums, so that the damage is not found by them alone."""
    content = bytearray(data)
    for place, value in edits:
        content[place % len(content)] = value
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    with contextlib.suppress(DataError):
        assert decode(bytes(content[:length])).image.mode == "RGB"
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_a_file_that_ends_early_is_decoded_and_marked() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for kind in ("PNG", "JPEG"):
        data = encoded(Image.fromarray(noise), kind)
        assert decode(data[:-2000]).truncated
        assert not decode(data).truncated


@pytest.mark.parametrize("allows", [False, True])
def test_switches_of_pil_that_others_set_change_nothing(
    allows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A truncated file was taken for a whole one."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", allows)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for kind in ("PNG", "JPEG"):
        data = encoded(Image.fromarray(noise), kind)
        assert decode(data[:-2000]).truncated
        assert not decode(data).truncated
        with pytest.raises(DataError, match="truncated"), opened(data[:-2000]) as image:
            image.load()
    assert ImageFile.LOAD_TRUNCATED_IMAGES is allows
    assert Image.MAX_IMAGE_PIXELS == 100


FORK = """
import io, os, threading
from PIL import Image, ImageFile
from benchmark.images.decode import decode, opened
file = io.BytesIO()
Image.new("RGB", (8, 8)).save(file, "PNG")
data, is_open, may_close = file.getvalue(), threading.Event(), threading.Event()

def hold():
    with opened(data, truncated=True):
        is_open.set()
        may_close.wait()

thread = threading.Thread(target=hold)
thread.start()
is_open.wait()
threading.Timer(0.2, may_close.set).start()
if child := os.fork():
    thread.join()
    decode(data)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
else:
    decode(data)
    os._exit(ImageFile.LOAD_TRUNCATED_IMAGES)
"""


def test_a_process_that_is_forked_while_a_thread_decodes_can_decode() -> None:
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", FORK], start_new_session=True
    ) as process:
        try:
            assert process.wait(timeout=30) == 0
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise


class TestFiles:
    def test_special_files_are_refused_without_waiting(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.jpg")
        for path in (tmp_path / "pipe.jpg", Path("/dev/zero"), tmp_path):
            with pytest.raises(DataError, match=r"not a regular file|Is a directory"):
                read_file(path)
        with pytest.raises(DataError, match=r"gone\.jpg cannot be decoded: it cannot be read: No "):
            decode_file(tmp_path / "gone.jpg")

    def test_a_huge_file_is_not_read(self, tmp_path: Path) -> None:
        with (tmp_path / "a.jpg").open("wb") as file:
            file.truncate(1 << 40)
        with pytest.raises(DataError, match="1099511627776 bytes, more than 268435456"):
            read_file(tmp_path / "a.jpg")

    def test_the_message_names_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "a.jpg").write_bytes(b"GIF89a")
        with pytest.raises(DataError, match=r"a\.jpg cannot be decoded: it is a GIF image"):
            decode_file(tmp_path / "a.jpg")
