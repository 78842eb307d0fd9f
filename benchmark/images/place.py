"""The local folder of a data set's image files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.folders import data_folder

if TYPE_CHECKING:
    from benchmark.manifest.manifest import Manifest


def images_folder(manifest: Manifest) -> Path:
    """Return the folder that a manifest's image paths are relative to; it may not exist yet."""
    return data_folder() / "images" / f"{manifest.name}-{manifest.version}"
