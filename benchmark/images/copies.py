"""Taking in images that a user has: a folder or an archive, in the layouts that copies use.

The local copy holds what the manifest names and nothing else, under the manifest's paths, so that
other names of folders and other files beside them end to matter here.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.errors import DataError, UsageError
from benchmark.images.local import images_folder

if TYPE_CHECKING:
    from benchmark.manifest import Manifest

Progress = Callable[[int, int], None]


def lacking(manifest: Manifest) -> set[str]:
    """The manifest's paths that are not in the local copy."""
    root = images_folder(manifest)
    return {path for path in manifest.table["path"].to_pylist() if not (root / path).is_file()}


def match(manifest: Manifest, names: Iterable[str]) -> dict[str, str]:
    """Which files are which images, by the ends of their paths.

    The data set may lie at any depth, and a domain's folder may have any of the names that the
    manifest gives for it. Case, spaces, dashes and underscores of folders do not matter; the name
    of a file does.

    Args:
        manifest: a manifest whose images are files.
        names: relative paths, with slashes.

    Returns:
        Name to manifest path, for those that are images of the manifest.

    Raises:
        DataError: two files would be the same image.
    """
    alias = {_loose(f): d.name for d in manifest.domains for f in (d.name, *d.folders)}
    known: dict[tuple[str, ...], str] = {}
    for path in manifest.table["path"].to_pylist():
        known[_key(path.split("/"), alias)] = path
    depths = sorted({len(key) for key in known}, reverse=True)
    found: dict[str, str] = {}
    taken: dict[str, str] = {}
    for name in names:
        parts = name.split("/")
        for depth in depths:
            path = known.get(_key(parts[-depth:], alias))
            if path is None:
                continue
            if path in taken:
                raise DataError(
                    f"{taken[path]!r} and {name!r} are both the image {path!r} of "
                    f"{manifest.reference}; give the folder or archive of one copy only"
                )
            found[name], taken[path] = path, name
            break
    return found


def _key(parts: list[str], alias: dict[str, str]) -> tuple[str, ...]:
    folders = [_loose(part) for part in parts[:-1]]
    if folders:
        folders[0] = alias.get(folders[0], folders[0])
    return (*folders, parts[-1])


def _loose(name: str) -> str:
    return re.sub(r"[ _-]", "", name).lower()


def import_images(
    manifest: Manifest, given: Path, *, copy: bool, progress: Progress | None = None
) -> int:
    """Take the images of a manifest from a folder or an archive; one that is here is kept.

    Args:
        manifest: a manifest whose images are files.
        given: a folder, or a zip or tar archive.
        copy: copy files of a folder; otherwise they are linked to.
        progress: called with images done and their total.

    Returns:
        How many images were taken.

    Raises:
        DataError: the archive is bad, or two files would be the same image.
        UsageError: there is no image of the manifest.
    """
    from benchmark.images.archive import list_members, unpack

    root, given = images_folder(manifest), given.resolve()
    wanted = lacking(manifest)
    if given.is_dir():
        found = match(manifest, _walk(given))
        _check_any(manifest, given, found)
        todo = {name: path for name, path in found.items() if path in wanted}
        for done, (name, path) in enumerate(sorted(todo.items()), start=1):
            _place(given.parent / name, root / path, copy=copy)
            if progress is not None:
                progress(done, len(todo))
        return len(todo)
    # A part of the path may be told by the archive's own name alone, as clipart.zip.
    stem = given.name.partition(".")[0]
    names = {f"{stem}/{name.removeprefix('./')}": name for name in list_members(given)}
    found = match(manifest, names)
    _check_any(manifest, given, found)
    places = {names[name]: path for name, path in found.items() if path in wanted}
    return unpack(given, root, places.get, progress)


def _walk(folder: Path) -> Iterator[str]:
    """Files below a folder, by paths that begin with the folder's own name."""
    parent = folder.parent
    for place, folders, files in os.walk(folder):
        folders.sort()
        for name in files:
            yield (Path(place) / name).relative_to(parent).as_posix()


def _check_any(manifest: Manifest, given: Path, found: dict[str, str]) -> None:
    if found:
        return
    example = manifest.table["path"][0].as_py()
    there = ""
    if given.is_dir():
        names = sorted(entry.name for entry in given.iterdir())[:5]
        there = f" (it has: {', '.join(names) or 'nothing'})"
    raise UsageError(
        f"{given}{there} holds no image of {manifest.reference}; a path in it should end like "
        f"{example}"
    )


def _place(file: Path, target: Path, *, copy: bool) -> None:
    """Link or copy a file, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".importing-", dir=target.parent))
    try:
        temporary = folder / "file"
        if copy:
            shutil.copyfile(file, temporary)
        else:
            temporary.symlink_to(file.resolve())
        temporary.replace(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
