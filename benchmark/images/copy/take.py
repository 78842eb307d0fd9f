"""Import images that the user has: folders and archives, in any common layout.

The local copy holds exactly the manifest's images under the manifest's paths, so folder aliases and
unrelated files do not matter after this step.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from benchmark.errors import DataError, UsageError, first
from benchmark.images.copy.archive import SUFFIXES, Member, list_members, unpack
from benchmark.images.copy.folder import top_of, walk
from benchmark.images.copy.match import Matcher
from benchmark.images.copy.placing import placing
from benchmark.images.copy.remarks import Kind, Remarks
from benchmark.images.place import absent_rows, images_folder, paths_of
from benchmark.manifest.manifest import slices
from benchmark.progress import Logger, Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmark.manifest.manifest import Manifest

STEP = 256  # images between two reports of progress
MEMBERS_PER_IMAGE = 4  # of an archive, which may hold other files: labels, masks, other domains
MORE_MEMBERS = 100_000  # of any archive: the manifest may be of a small part of a data set


def import_images(
    manifest: Manifest,
    origin: Path,
    *,
    copy: bool,
    progress: Progress | None = None,
    log: Logger | None = None,
) -> int:
    """Import the images of a manifest from a folder or an archive; existing ones are kept.

    If files are copied, existing links are replaced.

    Args:
        manifest: a manifest whose images are files.
        origin: a folder, a zip or tar archive, or a folder with such archives.
        copy: copy the files of a folder instead of linking to them.
        progress: called with the number of imported images and their total.
        log: called with each kind of files that was left out, or that is unusual.

    Returns:
        The number of imported images.

    Raises:
        DataError: an archive is invalid, or two files match the same image.
        StorageError: images cannot be written.
        UsageError: no file matches an image of the manifest, or the origin is a special file.
    """
    remarks = Remarks()
    task = _Import(manifest, copy, progress or (lambda finished, total: None))
    if origin.is_dir():
        for archive in task.take_folder(origin, remarks):
            if task.is_absent.any():
                _try_archive(task, archive, remarks, log)
    else:
        task.take_archive(origin, remarks)
    if not task.has_matched:
        raise _nothing(manifest, origin, remarks)
    if log is not None:
        for line in remarks.lines():
            log(f"{origin}: {line}")
    return task.count


class _Import:
    """Imports images from one origin after the other.

    Attributes:
        count: the number of imported images.
        has_matched: whether any file is an image of the manifest.
        is_absent: whether each row's image is not in the local copy.
    """

    def __init__(self, manifest: Manifest, copy: bool, progress: Progress) -> None:
        self._root, self._copy, self._progress = images_folder(manifest), copy, progress
        self._manifest, self._matcher = manifest, Matcher(manifest)
        self.is_absent = np.zeros(manifest.table.num_rows, np.bool_)
        self.is_absent[absent_rows(manifest)] = True
        if copy:  # a link to an image is not a copy
            paths = chain.from_iterable(slices(manifest.table["path"]))
            self.is_absent |= [Path(f"{self._root}/{path}").is_symlink() for path in paths]
        self._most_members = MEMBERS_PER_IMAGE * manifest.table.num_rows + MORE_MEMBERS
        self.count, self.has_matched = 0, False

    def take_folder(self, origin: Path, remarks: Remarks) -> list[Path]:
        """Link to the files of a folder, or copy them; returns the archives in it."""
        files = _FolderFiles(origin, remarks)
        positions = self._matcher.match(files, remarks)
        rows = self._new(positions)
        with placing(self._root) as writer:
            place = writer.copy if self._copy else writer.link
            for start in range(0, len(rows), STEP):
                part = rows[start : start + STEP]
                paths = paths_of(self._manifest, part)
                for position, path in zip(positions[part].tolist(), paths, strict=True):
                    place(files[position][1], path)
                self._progress(start + len(part), len(rows))
        self._taken(rows)
        return files.archives

    def take_archive(self, archive: Path, remarks: Remarks) -> None:
        """Extract the images of an archive."""
        members = list_members(archive, remarks, self._most_members)
        positions = self._matcher.match(_MemberFiles(archive, members), remarks)
        rows = self._new(positions)
        places: dict[int, list[str]] = {}
        paths = paths_of(self._manifest, rows)
        for position, path in zip(positions[rows].tolist(), paths, strict=True):
            places.setdefault(members[position].number, []).append(path)
        with placing(self._root) as writer:
            unpack(archive, members, places, writer, self._most_members, self._progress)
        self._taken(rows)

    def _new(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of absent images that have a file, in the order of the files."""
        self.has_matched |= bool((positions >= 0).any())
        rows = np.flatnonzero(self.is_absent & (positions >= 0))
        return rows[np.argsort(positions[rows], kind="stable")]

    def _taken(self, rows: NDArray[np.int64]) -> None:
        self.is_absent[rows] = False
        self.count += len(rows)


class _Names(NamedTuple):
    """The files of a folder as two texts: an object for each file would take much more.

    Attributes:
        folder: the folder's path as the user sees it.
        real: its path without links.
        names: of the files, with a slash between two.
        links: the real paths of files that are links, and nothing for others, with NUL between two.
    """

    folder: str
    real: str
    names: str
    links: str


class _FolderFiles:
    """The files below a folder, each with its real path; walks the folder when it is iterated over.

    Attributes:
        archives: those in the folder, which are not among its files.
    """

    def __init__(self, origin: Path, remarks: Remarks) -> None:
        self._origin, self._remarks = origin, remarks
        self.archives: list[Path] = []
        self._folders: list[_Names] = []
        self._starts: list[int] = []  # the position of the first file of each folder
        self._unpacked = lru_cache(1)(self._unpack)  # files of one folder are asked for together

    def __iter__(self) -> Iterator[tuple[str, str]]:
        count = 0
        for folder in walk(self._origin, self._remarks):
            files = {}
            for name, file in folder.files.items():
                if name.lower().endswith(SUFFIXES):
                    self.archives.append(Path(folder.name, name))
                else:
                    files[name] = file
            links = "\0".join("" if f == f"{folder.real}/{n}" else f for n, f in files.items())
            self._folders.append(_Names(folder.name, folder.real, "/".join(files), links))
            self._starts.append(count)
            count += len(files)
            for name, file in files.items():
                yield f"{folder.name}/{name}", file

    def __getitem__(self, position: int, /) -> tuple[str, str]:
        number = bisect_right(self._starts, position) - 1
        folder, names, links = self._unpacked(number)
        place = position - self._starts[number]
        name = names[place]
        return f"{folder.folder}/{name}", links[place] or f"{folder.real}/{name}"

    def _unpack(self, number: int) -> tuple[_Names, list[str], list[str]]:
        folder = self._folders[number]
        return folder, folder.names.split("/"), folder.links.split("\0")


class _MemberFiles:
    """The members of an archive, each with its number."""

    def __init__(self, archive: Path, members: Sequence[Member]) -> None:
        # The domain may be in the name of the archive only, as in clipart.zip.
        path = Path(top_of(archive))
        self._top, self._members = f"{path.parent}/{path.name.partition('.')[0]}", members

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return map(self.__getitem__, range(len(self._members)))

    def __getitem__(self, position: int, /) -> tuple[str, int]:
        member = self._members[position]
        return f"{self._top}/{member.name}", member.number


def _try_archive(task: _Import, archive: Path, remarks: Remarks, log: Logger | None) -> None:
    """Extract one of several archives; another one may be better."""
    try:
        task.take_archive(archive, remarks)
    except (DataError, UsageError) as error:
        remarks.add(Kind("archive", "that cannot be used"), archive.name)
        if log is not None:
            log(str(error))


def _nothing(manifest: Manifest, origin: Path, remarks: Remarks) -> UsageError:
    content = list(remarks.lines())
    if origin.is_dir():
        with contextlib.suppress(OSError):  # the walk has named a folder that cannot be read
            content.insert(0, ", ".join(sorted(path.name for path in origin.iterdir())[:5]))
    domains = first([domain.name for domain in manifest.domains], limit=8)
    return UsageError(
        f"{origin} contains no images of {manifest.reference} (it contains: "
        f"{'; '.join(filter(None, content))[:1000] or 'nothing'}); it should contain files such as "
        f"{manifest.table['path'][0].as_py()}, at any depth of a folder, of a zip or tar archive, "
        f"or of the archives in a folder; the domains are {domains}"
    )
