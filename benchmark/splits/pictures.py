"""The original images of a data set: bytes embedded in the manifest, or the user's files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.commands import ways_to_images
from benchmark.errors import DataError, first
from benchmark.images.decode import decode, read_file
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


def open_image(image: bytes | Path) -> Image.Image:
    """Decode an image as RGB.

    Raises:
        DataError: it cannot be decoded.
    """
    try:
        data, suffix = (image, "") if isinstance(image, bytes) else (read_file(image), image.suffix)
        return decode(data, suffix).image
    except DataError as error:
        where = "an embedded image" if isinstance(image, bytes) else str(image)
        raise DataError(f"cannot decode {where}: {error}") from None
