"""Where the images of a data set that does not ship with the suite lie on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.folders import data_folder

if TYPE_CHECKING:
    from benchmark.manifest import Manifest


def images_folder(manifest: Manifest) -> Path:
    """The root of the paths of a manifest that embeds no image; it may not exist yet."""
    return data_folder() / "images" / f"{manifest.name}-{manifest.version}"
