"""Say what a file is by its first bytes, for messages about files of the wrong kind."""

from __future__ import annotations

HEAD_BYTES = 512  # enough for every kind below

_KINDS = {
    b"\xff\xd8\xff": "a JPEG image",
    b"\x89PNG\r\n\x1a\n": "a PNG image",
    b"GIF8": "a GIF image",
    b"BM": "a BMP image",
    b"II*\0": "a TIFF image",
    b"MM\0*": "a TIFF image",
    b"8BPS": "a Photoshop image",
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a zip archive, truncated or with data after its end",
    b"\x1f\x8b": "a compressed file that is not a tar archive",
    b"BZh": "a compressed file that is not a tar archive",
    b"\xfd7zXZ\0": "a compressed file that is not a tar archive",
    b"Rar!": "a RAR archive",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive",
    b"(\xb5/\xfd": "a Zstandard file",
    b"version https://git-lfs": "a Git LFS pointer; run `git lfs pull` where it comes from",
}
_WEB_PAGE = "a web page, perhaps a download confirmation page"


def describe(head: bytes) -> str:
    """Name the kind of a file, such as ``a GIF image``.

    Args:
        head: its first :data:`HEAD_BYTES` bytes.
    """
    if not head:
        return "empty"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "a WebP image"
    if head[4:8] == b"ftyp":
        return "an AVIF image" if head[8:12] in (b"avif", b"avis") else "a HEIC image or a video"
    for magic, kind in _KINDS.items():
        if head.startswith(magic):
            return kind
    if head.lstrip()[:4] == b"<svg" or (head.lstrip()[:1] == b"<" and b"<svg" in head):
        return "an SVG drawing"
    if head.lstrip()[:1] == b"<":
        return _WEB_PAGE
    if not head.strip(b"\0"):
        return "filled with zeros, perhaps an interrupted download"
    return "another kind of file, or truncated"
