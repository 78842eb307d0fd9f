"""The local folder of a data set's image files."""

from __future__ import annotations

import os
import stat
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmark.folders import data_folder
from benchmark.manifest.manifest import slices

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmark.manifest.manifest import Manifest


def images_folder(manifest: Manifest) -> Path:
    """Return the folder that a manifest's image paths are relative to; it may not exist yet."""
    return data_folder() / "images" / f"{manifest.name}-{manifest.version}"


def image_size(path: str | Path) -> int:
    """The size of an image's file in bytes, that of a link's target; 0 if it is absent.

    An empty file counts as absent: after a power cut, a new file may be empty.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 - Path takes three times as long
    except OSError:
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def image_sizes(manifest: Manifest) -> NDArray[np.int64]:
    """The `image_size` of each of the manifest's rows in the local copy."""
    root, paths = str(images_folder(manifest)), chain.from_iterable(slices(manifest.table["path"]))
    return np.fromiter((image_size(f"{root}/{path}") for path in paths), np.int64)


def absent_rows(manifest: Manifest) -> NDArray[np.int64]:
    """Return the manifest's rows whose images are not in the local copy, in order."""
    return np.flatnonzero(image_sizes(manifest) == 0)


def paths_of(manifest: Manifest, rows: NDArray[np.int64]) -> list[str]:
    """Return the paths of some of the manifest's rows."""
    paths: list[str] = manifest.table["path"].take(rows).to_pylist()
    return paths


def absent_paths(manifest: Manifest) -> set[str]:
    """Return the manifest's paths that are not in the local copy."""
    return set(paths_of(manifest, absent_rows(manifest)))
