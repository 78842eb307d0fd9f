"""The local folder of a data set's image files."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.folders import data_folder

if TYPE_CHECKING:
    from benchmark.manifest.manifest import Manifest


def images_folder(manifest: Manifest) -> Path:
    """Return the folder that a manifest's image paths are relative to; it may not exist yet."""
    return data_folder() / "images" / f"{manifest.name}-{manifest.version}"


def image_sizes(manifest: Manifest) -> dict[str, int]:
    """Map the path of each image in the local copy to its size in bytes, that of a link's target.

    An empty file counts as absent: after a power cut, a new file may be empty.
    """
    root, sizes = str(images_folder(manifest)), {}
    for path in manifest.table["path"].to_pylist():
        try:
            status = os.stat(f"{root}/{path}")  # noqa: PTH116 - Path takes three times as long
        except OSError:
            continue
        if stat.S_ISREG(status.st_mode) and status.st_size > 0:
            sizes[path] = status.st_size
    return sizes


def absent_paths(manifest: Manifest) -> set[str]:
    """Return the manifest's paths that are not in the local copy."""
    return set(manifest.table["path"].to_pylist()) - image_sizes(manifest).keys()
