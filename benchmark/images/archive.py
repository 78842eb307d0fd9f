"""Archives of strangers: unpacked so that nothing leaves its folder or fills the disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from benchmark.errors import DataError

MAX_MEMBERS = 2_000_000
MAX_MEMBER_BYTES = 256 << 20  # of one image
MAX_RATIO = 200  # of inflated to packed bytes; images hardly shrink at all
RATIO_FROM = 1 << 20  # smaller members may shrink as they like
PIECE = 1 << 20

Progress = Callable[[int, int], None]
Place = Callable[[str], str | None]


@dataclass(frozen=True)
class _Member:
    """A regular file in an archive: its name, its sizes, and how to read it."""

    name: str
    size: int
    packed: int | None
    open: Callable[[], IO[bytes]]


def list_members(archive: Path) -> list[str]:
    """Names of the regular files of a zip or tar archive, whatever its own name.

    Raises:
        DataError: it is no such archive, is damaged, or has names that lead out of a folder.
    """
    with _opened(archive) as members:
        return [member.name for member in members]


def unpack(archive: Path, into: Path, place: Place, progress: Progress | None = None) -> int:
    """Write some of the files of an archive, each by temporary file and rename.

    Links and devices are never written. Sizes are counted while inflating, not believed.

    Args:
        archive: a zip or tar file.
        into: folder that they go below.
        place: relative path of a member by its name, or None to leave it out.
        progress: called with files written and their total.

    Returns:
        How many files were written.

    Raises:
        DataError: see :func:`list_members`; a member is encrypted, larger than it says or than an
            image can be, or the disk is too small.
    """
    with _opened(archive) as members:
        wanted = {m.name: path for m in members if (path := place(m.name)) is not None}
    with _opened(archive) as members:
        chosen = (member for member in members if member.name in wanted)
        sizes = 0
        listed = list(chosen) if _is_zip(archive) else None
        if listed is not None:
            sizes = sum(member.size for member in listed)
            _check_space(into, sizes)
        done = 0
        for member in listed if listed is not None else chosen:
            _check_member(archive, member)
            if listed is None:
                _check_space(into, member.size)
            _write(archive, member, into / _plain(wanted[member.name], archive))
            done += 1
            if progress is not None:
                progress(done, len(wanted))
    return done


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[Iterator[_Member]]:
    """The regular files of an archive; what goes wrong with it is a DataError."""
    try:
        with contextlib.ExitStack() as stack:
            if _is_zip(archive):
                yield _checked(archive, _zip_members(stack.enter_context(zipfile.ZipFile(archive))))
            else:
                # One pass from front to back: a compressed tar cannot be searched.
                opened = stack.enter_context(tarfile.open(archive, "r:*"))
                yield _checked(archive, _tar_members(opened))
    except tarfile.ReadError:
        raise DataError(f"{archive} is {_looks_like(archive)}, not a zip or tar archive") from None
    except (
        zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, RuntimeError,
        NotImplementedError,
    ) as error:  # fmt: skip
        raise DataError(f"{archive} cannot be unpacked: {error}; get it again") from None


def _is_zip(archive: Path) -> bool:
    try:
        return zipfile.is_zipfile(archive)
    except OSError as error:
        raise DataError(f"cannot read {archive}: {error.strerror}") from None


def _zip_members(opened: zipfile.ZipFile) -> Iterator[_Member]:
    for info in opened.infolist():
        mode = info.external_attr >> 16
        if info.is_dir() or (mode & 0o170000) not in (0, 0o100000):  # only regular files
            continue

        def read(info: zipfile.ZipInfo = info) -> IO[bytes]:
            return opened.open(info)

        yield _Member(info.filename, info.file_size, info.compress_size, read)


def _tar_members(opened: tarfile.TarFile) -> Iterator[_Member]:
    for info in opened:
        if not info.isreg():
            continue

        def read(info: tarfile.TarInfo = info) -> IO[bytes]:
            file = opened.extractfile(info)
            assert file is not None
            return file

        yield _Member(info.name, info.size, None, read)


def _checked(archive: Path, members: Iterator[_Member]) -> Iterator[_Member]:
    for number, member in enumerate(members):
        if number >= MAX_MEMBERS:
            raise DataError(f"{archive} has more than {MAX_MEMBERS} files")
        _plain(member.name, archive)
        yield member


def _plain(name: str, archive: Path) -> str:
    """A name that stays below the folder it is unpacked to."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or parts[0] == "/" or ".." in parts or ":" in parts[0] or "\0" in name:
        raise DataError(
            f"{archive} holds {name[:200]!r}, which leads out of a folder; not unpacked"
        )
    return name


def _check_member(archive: Path, member: _Member) -> None:
    if member.size > MAX_MEMBER_BYTES:
        raise DataError(
            f"{archive}: {member.name!r} has {member.size} bytes, too many for an image"
        )
    if (
        member.packed is not None
        and member.size > RATIO_FROM
        and member.size > MAX_RATIO * max(1, member.packed)
    ):
        raise DataError(f"{archive}: {member.name!r} inflates more than {MAX_RATIO} times")


def _check_space(into: Path, size: int) -> None:
    into.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(into).free
    if size > free:
        raise DataError(
            f"{into} has {free / 2**30:.2f} GiB free, and {size / 2**30:.2f} GiB are to be "
            "unpacked: make room, or set HTBENCH_DATA to a folder on a larger disk"
        )


def _write(archive: Path, member: _Member, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".unpacking-", dir=path.parent)
    try:
        written = 0
        with os.fdopen(handle, "wb") as out, member.open() as file:
            while piece := file.read(PIECE):
                written += len(piece)
                if written > member.size:
                    raise DataError(f"{archive}: {member.name!r} is larger than the archive says")
                out.write(piece)
        if written != member.size:
            raise DataError(f"{archive}: {member.name!r} is shorter than the archive says")
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _looks_like(archive: Path) -> str:
    try:
        with archive.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        return f"not readable ({error.strerror})"
    if not head:
        return "empty"
    if head.lstrip()[:1] == b"<":
        return "a web page, perhaps one that asks for a confirmation"
    return "something else, or cut off"
