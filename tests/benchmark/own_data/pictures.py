"""Folders of tiny images, each of another colour unless a test wants identical ones."""

from __future__ import annotations

import io
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

from PIL import Image

from benchmark.own_data.build import Choices, NewManifest, build_manifest
from benchmark.own_data.listing import Entry


def png(number: int) -> bytes:
    """A PNG file whose bytes are those of no other number."""
    buffer = io.BytesIO()
    colour = (number % 256, number // 256 % 256, number // 65536)
    Image.new("RGB", (4, 4), colour).save(buffer, "PNG")
    return buffer.getvalue()


def paint(root: Path, paths: Iterable[str], start: int = 0) -> Path:
    """Write an image to each path below a folder, with numbers from ``start``."""
    for number, path in enumerate(paths, start):
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(number))
    return root


def grid(domains: str = "photo sketch", classes: str = "cat dog owl", images: int = 4) -> list[str]:
    """The paths of a data set with equally many images in each class and domain."""
    return [
        f"{domain}/{name}/{number}.png"
        for domain in domains.split(" ")
        for name in classes.split(" ")
        for number in range(images)
    ]


def entries_of(paths: Iterable[str], **fields: str) -> list[Entry]:
    """Entries of ``<domain>/<class>/<file>`` that have no files."""
    return [Entry(path, "", *path.split("/")[:2], **fields) for path in paths]


def build(origin: Path, name: str = "mine", **choices: object) -> NewManifest:
    """Build a manifest with the small network."""
    values = {"seen": Fraction(1, 2), "draws": 1, "model": "convnet", **choices}
    return build_manifest(Choices(name, "0.1", origin, **values), lambda finished, total: None)
