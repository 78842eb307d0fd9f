"""Import images that the user has: folders and archives, in any common layout.

The local copy holds exactly the manifest's images under the manifest's paths, so folder aliases and
unrelated files do not matter after this step.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.errors import DataError, UsageError, first
from benchmark.images.copy.archive import SUFFIXES, list_members, unpack
from benchmark.images.copy.folder import walk
from benchmark.images.copy.match import Matcher
from benchmark.images.copy.placing import placing
from benchmark.images.copy.remarks import Kind, Remarks
from benchmark.images.place import absent_paths, images_folder
from benchmark.progress import Logger, Progress

if TYPE_CHECKING:
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

    Args:
        manifest: a manifest whose images are files.
        origin: a folder, a zip or tar archive, or a folder with such archives.
        copy: copy the files of a folder instead of linking to them.
        progress: called with the number of imported images and their total.
        log: called with each kind of files that was left out, or that is unusual.

    Returns:
        The number of imported images.

    Raises:
        DataError: an archive is invalid, two files match the same image, or writing failed.
        UsageError: no file matches an image of the manifest, or the origin is a special file.
    """
    remarks = Remarks()
    task = _Import(manifest, copy, progress or (lambda finished, total: None))
    if origin.is_dir():
        archives: list[Path] = []
        task.take_folder(origin, archives, remarks)
        for archive in archives:
            if task.absent:
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
        absent: paths of images that are not in the local copy.
    """

    def __init__(self, manifest: Manifest, copy: bool, progress: Progress) -> None:
        self._root, self._copy, self._progress = images_folder(manifest), copy, progress
        self._matcher = Matcher(manifest)
        self.absent = absent_paths(manifest)
        self._most_members = MEMBERS_PER_IMAGE * manifest.table.num_rows + MORE_MEMBERS
        self.count, self.has_matched = 0, False

    def take_folder(self, origin: Path, archives: list[Path], remarks: Remarks) -> None:
        """Link to the files of a folder, or copy them; add the archives in it to a list."""
        file_of = self._matcher.match(_files(origin, archives, remarks), remarks)
        new = self._new(file_of)
        with placing(self._root) as writer:
            for count, path in enumerate(new, start=1):
                (writer.copy if self._copy else writer.link)(file_of[path], path)
                if count % STEP == 0 or count == len(new):
                    self._progress(count, len(new))
        self._taken(new)

    def take_archive(self, archive: Path, remarks: Remarks) -> None:
        """Extract the images of an archive."""
        members = list_members(archive, remarks, self._most_members)
        # The domain may be in the name of the archive only, as in clipart.zip.
        path = Path(os.path.abspath(archive))  # noqa: PTH100 - Path.resolve would lose a link's name
        top = f"{path.parent}/{path.name.partition('.')[0]}"
        files = ((f"{top}/{member.name}", member.number) for member in members)
        number_of = self._matcher.match(files, remarks)
        new = self._new(number_of)
        places: dict[int, list[str]] = {}
        for image in new:
            places.setdefault(number_of[image], []).append(image)
        with placing(self._root) as writer:
            unpack(archive, members, places, writer, self._most_members, self._progress)
        self._taken(new)

    def _new(self, matched: Mapping[str, object]) -> list[str]:
        self.has_matched |= bool(matched)
        return sorted(self.absent & matched.keys())

    def _taken(self, images: Collection[str]) -> None:
        self.absent.difference_update(images)
        self.count += len(images)


def _files(origin: Path, archives: list[Path], remarks: Remarks) -> Iterator[tuple[str, str]]:
    """The name and real path of each file below a folder; archives are added to a list."""
    for folder in walk(origin, remarks):
        for name, file in folder.files.items():
            if name.lower().endswith(SUFFIXES):
                archives.append(Path(folder.name, name))
            else:
                yield f"{folder.name}/{name}", file


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
