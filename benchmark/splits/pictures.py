"""The original images of a data set: bytes embedded in the manifest, or the user's files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.commands import ways_to_images
from benchmark.errors import DataError, first
from benchmark.images.decode import decode, decode_file
from benchmark.images.place import images_folder
from benchmark.images.store.embedded import embedded_images

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

    from benchmark.manifest.manifest import Manifest


def find_images(manifest: Manifest, frame: pd.DataFrame) -> list[bytes | Path]:
    """The image of each row: its encoded bytes if the manifest embeds it, else its file.

    Args:
        manifest: the manifest of the rows.
        frame: rows with ``image_id``, ``domain`` and ``path``.

    Raises:
        DataError: images are absent; the message names the command that gets them.
    """
    if manifest.document["images"] == "embedded":
        wanted = set(frame["image_id"])
        images = {
            image_id: data
            for domain in sorted(set(frame["domain"]))
            for image_id, data in embedded_images(manifest, domain)
            if image_id in wanted
        }
        if absent := sorted(wanted - images.keys()):
            raise DataError(f"{manifest.reference} has no image data for {first(absent)}")
        return [images[image_id] for image_id in frame["image_id"]]
    root = images_folder(manifest)
    files: list[bytes | Path] = [root / path for path in frame["path"]]
    if absent := [path for path in frame["path"] if not (root / path).is_file()]:
        raise DataError(
            f"{len(absent)} of {len(files)} images of {manifest.reference} are missing from {root} "
            f"({first(absent)}); run {ways_to_images(manifest)}"
        )
    return files


def open_image(image: bytes | Path, sha256: str | None) -> Image.Image:
    """Decode an image as RGB.

    Args:
        image: one of those that :func:`find_images` returns.
        sha256: what the SHA-256 (hex) of a file must be; None for any. Embedded bytes have been
            checked with the manifest.

    Raises:
        DataError: it is another image, or cannot be decoded.
    """
    if isinstance(image, Path):
        return decode_file(image, sha256).image
    try:
        return decode(image, "").image
    except DataError as error:
        raise DataError(f"an embedded image cannot be decoded: {error}") from None
