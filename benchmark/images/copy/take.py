"""Import images that the user has: a folder or an archive, in any layout that is in circulation.

The local copy holds exactly the manifest's images under the manifest's paths, so folder aliases and
unrelated files do not matter after this step.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.errors import DataError, UsageError
from benchmark.files import atomic_path
from benchmark.images.copy.archive import list_members, unpack
from benchmark.images.place import images_folder
from benchmark.progress import Progress

if TYPE_CHECKING:
    from benchmark.manifest.manifest import Manifest


def absent_paths(manifest: Manifest) -> set[str]:
    """Return the manifest's paths that are not in the local copy."""
    root = images_folder(manifest)
    return {path for path in manifest.table["path"].to_pylist() if not (root / path).is_file()}


def match(manifest: Manifest, names: Iterable[str]) -> dict[str, str]:
    """Match files with images by the ends of their paths.

    The data set may lie at any depth, and a domain's folder may have any of the names that the
    manifest lists for it. Case, spaces, dashes and underscores in folder names are ignored; file
    names must be equal.

    Args:
        manifest: a manifest whose images are files.
        names: relative paths, with slashes.

    Returns:
        Name to manifest path, for the names that are images of the manifest.

    Raises:
        DataError: two files match the same image.
    """
    alias = {_loose(f): d.name for d in manifest.domains for f in (d.name, *d.folders)}
    known: dict[tuple[str, ...], str] = {}
    for path in manifest.table["path"].to_pylist():
        known[_key(path.split("/"), alias)] = path
    depths = sorted({len(key) for key in known}, reverse=True)
    path_of: dict[str, str] = {}
    name_of: dict[str, str] = {}
    for name in names:
        parts = name.split("/")
        for depth in depths:
            path = known.get(_key(parts[-depth:], alias))
            if path is None:
                continue
            if path in name_of:
                raise DataError(
                    f"{name_of[path]!r} and {name!r} both match the image {path!r} of "
                    f"{manifest.reference}; give a folder or archive that contains "
                    "only one copy of the data set"
                )
            path_of[name], name_of[path] = path, name
            break
    return path_of


def _key(parts: list[str], alias: dict[str, str]) -> tuple[str, ...]:
    folders = [_loose(part) for part in parts[:-1]]
    if folders:
        folders[0] = alias.get(folders[0], folders[0])
    return (*folders, parts[-1])


def _loose(name: str) -> str:
    return re.sub(r"[ _-]", "", name).lower()


def import_images(
    manifest: Manifest, origin: Path, *, copy: bool, progress: Progress | None = None
) -> int:
    """Import the images of a manifest from a folder or an archive; existing ones are kept.

    Args:
        manifest: a manifest whose images are files.
        origin: a folder, or a zip or tar archive.
        copy: copy the files of a folder instead of linking to them.
        progress: called with the number of imported images and their total.

    Returns:
        The number of imported images.

    Raises:
        DataError: the archive is invalid, or two files match the same image.
        UsageError: no file matches an image of the manifest.
    """
    root, origin = images_folder(manifest), origin.resolve()
    absent = absent_paths(manifest)
    if origin.is_dir():
        path_of = match(manifest, _walk(origin))
        _check_any(manifest, origin, path_of)
        new = {name: path for name, path in path_of.items() if path in absent}
        for count, (name, path) in enumerate(sorted(new.items()), start=1):
            _place(origin.parent / name, root / path, copy=copy)
            if progress is not None:
                progress(count, len(new))
        return len(new)
    # The domain may be in the name of the archive only, as in clipart.zip.
    stem = origin.name.partition(".")[0]
    names = {f"{stem}/{name.removeprefix('./')}": name for name in list_members(origin)}
    path_of = match(manifest, names)
    _check_any(manifest, origin, path_of)
    places = {names[name]: path for name, path in path_of.items() if path in absent}
    return unpack(origin, root, places.get, progress)


def _walk(folder: Path) -> Iterator[str]:
    """Yield the files below a folder, their paths starting with the folder's own name.

    Links to folders are followed, each target once.
    """
    parent = folder.parent
    visited = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        if (target := os.path.realpath(place)) in visited:
            folders.clear()
            continue
        visited.add(target)
        folders.sort()
        for name in files:
            yield (Path(place) / name).relative_to(parent).as_posix()


def _check_any(manifest: Manifest, origin: Path, path_of: dict[str, str]) -> None:
    if path_of:
        return
    example = manifest.table["path"][0].as_py()
    content = ""
    if origin.is_dir():
        names = sorted(entry.name for entry in origin.iterdir())[:5]
        content = f" (it contains: {', '.join(names) or 'nothing'})"
    raise UsageError(
        f"{origin} contains no images of {manifest.reference}{content}; it should contain files "
        f"such as {example}"
    )


def _place(file: Path, target: Path, *, copy: bool) -> None:
    """Copy or link to a file."""
    with atomic_path(target) as temporary:
        if copy:
            shutil.copyfile(file, temporary)
        else:
            temporary.unlink()
            temporary.symlink_to(file.resolve())
