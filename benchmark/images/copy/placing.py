"""Write the images of a local copy, so that a file under an image's path is always whole.

Nothing is flushed to the disk for each image: that would take most of the time of an import.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmark.errors import StorageError
from benchmark.files import FILE_MODE
from benchmark.folders import check_space, write_whole

TEMPORARY_NAME = ".htbench-importing"  # in a folder on another disk


@contextlib.contextmanager
def placing(root: Path) -> Iterator[Placing]:
    """Write images below a folder; one process at a time does so.

    Files are written in a folder beside it and then moved; in one inside it if it is on another
    file system than its parent, and in the image's own folder if that is on a third one. An
    interrupted import leaves whole images only, and the next one removes what else it left.

    Raises:
        StorageError: a file cannot be written, or that of a link cannot be read.
    """
    from filelock import FileLock

    try:
        root.mkdir(parents=True, exist_ok=True)
        aside = _aside(root)
        with FileLock(root.with_name(f".{root.name}.lock")):
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            writer = Placing(root, aside / "image")
            try:
                yield writer
            finally:
                writer.clean_up()
                shutil.rmtree(aside, ignore_errors=True)
                if writer.has_written:
                    os.sync()  # one flush for all of them
    except OSError as error:
        path = error.filename2 or error.filename or root
        raise StorageError(
            f"the import stopped at {path}: {error.strerror or error}; fix this, then run the "
            "same command again to continue"
        ) from None


def _aside(root: Path) -> Path:
    """Where files are written before they are moved; a move cannot lead to another file system.

    The folder may be a mount, or a link to a larger disk.
    """
    is_mount = root.stat().st_dev != root.parent.stat().st_dev
    return (root if is_mount else root.parent) / f".{root.name}.importing"


class Placing:
    """Writes images below a folder.

    Attributes:
        root: the folder.
        has_written: whether it wrote files, and not only links.
    """

    def __init__(self, root: Path, temporary: Path) -> None:
        self.root, self.has_written = root, False
        self._temporary = temporary
        self._device = temporary.parent.stat().st_dev
        self._folders: dict[str, Path] = {}  # where an image for a folder is written

    def link(self, file: str, path: str) -> None:
        """Make the image at a relative path a link to a file, by its absolute path."""
        target = self._target(path)
        try:
            Path(target).symlink_to(file)
        except FileExistsError:  # a broken link or an empty file
            Path(target).unlink()
            Path(target).symlink_to(file)

    def copy(self, file: str | Path, path: str) -> None:
        """Copy a file to the image at a relative path."""
        target = self._target(path)
        shutil.copyfile(file, self._temporary_of(target))
        self._move(target)

    def write(self, pieces: Iterable[bytes], path: str) -> None:
        """Write bytes to the image at a relative path."""
        target = self._target(path)
        with self._temporary_of(target).open("wb", buffering=0) as file:
            for piece in pieces:
                write_whole(file, piece)
        self._move(target)

    def check_space(self, size: int) -> None:
        """Check that that many bytes fit on the disk.

        Raises:
            StorageError: they do not.
        """
        check_space(self.root, size, "the images need")

    def _target(self, path: str) -> str:
        """The absolute path of an image, in a folder that exists; text is faster than ``Path``."""
        target = f"{self.root}/{path}"
        folder = target.rpartition("/")[0]
        if folder not in self._folders:
            Path(folder).mkdir(parents=True, exist_ok=True)
            # A folder in the copy may be a link to another disk, or a mount, too.
            is_here = Path(folder).stat().st_dev == self._device
            self._folders[folder] = self._temporary if is_here else Path(folder, TEMPORARY_NAME)
        return target

    def _temporary_of(self, target: str) -> Path:
        """Where an image is written before it is moved to its place."""
        return self._folders[target.rpartition("/")[0]]

    def _move(self, target: str) -> None:
        temporary = self._temporary_of(target)
        temporary.chmod(FILE_MODE)  # whatever the umask
        temporary.replace(target)
        self.has_written = True

    def clean_up(self) -> None:
        """Remove what an interruption left in folders on other disks."""
        for temporary in self._folders.values():
            if temporary != self._temporary:
                temporary.unlink(missing_ok=True)
