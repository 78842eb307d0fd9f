"""The paths of a data set's images in a copy of the user's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.errors import DataError, first
from benchmark.images.copy.folder import walk
from benchmark.images.copy.match import Matcher
from benchmark.images.copy.remarks import Remarks

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
    files = list(_files(root))
    positions = Matcher(manifest).match(files, Remarks()).tolist()
    if absent := [path for path, at in zip(paths, positions, strict=True) if at < 0]:
        raise DataError(
            f"--root {root} does not contain {len(absent)} of {len(paths)} images of "
            f"{manifest.reference} ({first(absent)}); name the folder that contains the domains' "
            "folders"
        )
    return {path: files[at][1] for path, at in zip(paths, positions, strict=True)}


def _files(root: Path) -> Iterator[tuple[str, str]]:
    """Each file below a folder: its absolute path, and its path below the folder as it was given.

    The folder's own name and those above it may be a domain's.
    """
    for folder in walk(root, Remarks()):
        for name in folder.files:
            yield f"{folder.name}/{name}", str(root / folder.below / name)
