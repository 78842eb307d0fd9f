"""The paths of a data set's images in a copy of the user's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.errors import DataError, first
from benchmark.images.copy.take import match

if TYPE_CHECKING:
    from benchmark.manifest.manifest import Manifest


def paths_below(manifest: Manifest, root: Path) -> dict[str, str]:
    """The path of every image below a folder, by the manifest's path.

    Args:
        manifest: its images are matched as ``htbench data import`` matches them: at any depth, and
            under any of the names that the manifest lists for a domain's folder.
        root: the folder. If there is no such folder on this machine, the paths are ``root`` and
            the manifest's path, for a machine where the manifest's names are used.

    Raises:
        DataError: images are missing from the folder, or there are two files for one.
    """
    paths: list[str] = manifest.table["path"].to_pylist()
    if not root.exists():
        return {path: str(root / path) for path in paths}
    folder = root.resolve()
    path_of = match(manifest, (f"{folder.name}/{name}" for name in _files(folder)))
    own = {path: str(root / name.partition("/")[2]) for name, path in path_of.items()}
    if absent := [path for path in paths if path not in own]:
        raise DataError(
            f"--root {root} does not contain {len(absent)} of {len(paths)} images of "
            f"{manifest.reference} ({first(absent)}); name the folder that contains the domains' "
            "folders"
        )
    return own


def _files(folder: Path) -> Iterator[str]:
    """The files below a folder, relative to it; linked folders are followed, each target once."""
    visited = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        if (target := os.path.realpath(place)) in visited:
            folders.clear()
            continue
        visited.add(target)
        for name in names:
            yield (Path(place) / name).relative_to(folder).as_posix()
