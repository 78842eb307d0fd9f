"""Walk a user's folder of images; follow linked folders, and count what cannot be used."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmark.errors import UsageError
from benchmark.images.copy.remarks import Kind, Remarks

MAX_ENTRIES = 5_000_000
BROKEN_LINK = Kind("broken link")
SPECIAL_FILE = Kind("special file", "(device, FIFO or socket)")


@dataclass(frozen=True)
class Folder:
    """A folder of files.

    Attributes:
        name: its path as the user sees it, through links; it begins with :func:`top_of`.
        below: the same relative to the folder that is walked; empty for that itself.
        real: its absolute path without links.
        files: the name of each regular file in it to the file's absolute path without links.
    """

    name: str
    below: str
    real: str
    files: dict[str, str]


def top_of(origin: Path) -> str:
    """The absolute path of a file or folder through links, without the ``..`` that the user wrote.

    The system takes ``link/..`` for the folder above the link's target, so a link right before a
    ``..`` is resolved. The names of other links stay: one may be a domain's.
    """
    path = Path("/")
    for part in origin.absolute().parts[1:]:
        if part != "..":
            path /= part
        else:
            path = (path.resolve() if path.is_symlink() else path).parent
    return str(path)


def walk(origin: Path, remarks: Remarks) -> Iterator[Folder]:
    """Yield a folder and those below it, in the order of their names.

    Args:
        origin: the folder.
        remarks: counts broken links, special files, unreadable folders and links that lead back to
            a folder that contains them.

    Raises:
        UsageError: there are too many files.
    """
    top = top_of(origin)
    waiting: list[tuple[str, str, frozenset[tuple[int, int]]]] = [
        (top, os.path.realpath(top), frozenset())
    ]
    count = 0
    while waiting:
        name, real, parents = waiting.pop()
        try:
            status = Path(real).stat()
            identity = (status.st_dev, status.st_ino)
            if identity in parents:
                remarks.add(Kind("link", "to a folder further up"), name)
                continue
            with os.scandir(real) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            remarks.add(Kind("folder", f"that cannot be read ({error.strerror})"), name)
            continue
        count += len(entries)
        if count > MAX_ENTRIES:
            raise UsageError(
                f"{origin} contains more than {MAX_ENTRIES} files; give the data set's own folder"
            )
        files, folders = {}, []
        for entry in entries:
            path = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
            if _is(entry, "dir"):
                folders.append((f"{name}/{entry.name}", path, parents | {identity}))
            elif _is(entry, "file"):
                files[entry.name] = path
            else:
                kind = BROKEN_LINK if entry.is_symlink() else SPECIAL_FILE
                remarks.add(kind, f"{name}/{entry.name}")
        yield Folder(name, name.removeprefix(top).lstrip("/"), real, files)
        waiting.extend(reversed(folders))


def _is(entry: os.DirEntry[str], kind: str) -> bool:
    """Whether an entry is a folder (``dir``) or regular file (``file``), through links."""
    try:
        return entry.is_dir() if kind == "dir" else entry.is_file()
    except OSError:  # a loop of links, or a link into a closed folder
        return False
