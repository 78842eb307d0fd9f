"""Unpack untrusted archives: no file outside the target folder, no decompression bomb."""

from __future__ import annotations

import contextlib
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from benchmark.errors import DataError
from benchmark.files import atomic_path
from benchmark.progress import Progress

MAX_MEMBERS = 2_000_000
MAX_MEMBER_BYTES = 256 << 20  # more than any image has
MAX_RATIO = 200  # of uncompressed to compressed bytes; images hardly compress at all
RATIO_FROM = 1 << 20  # smaller members may have any ratio
PIECE = 1 << 20

Place = Callable[[str], str | None]


@dataclass(frozen=True)
class _Member:
    """A regular file in an archive: its name, its sizes in bytes, and a function that opens it."""

    name: str
    size: int
    compressed: int | None
    open: Callable[[], IO[bytes]]


def list_members(archive: Path) -> list[str]:
    """List the regular files of a zip or tar archive, whatever its suffix.

    Raises:
        DataError: the file is not such an archive, is damaged, or contains unsafe paths.
    """
    with _open(archive) as members:
        return [member.name for member in members]


def unpack(archive: Path, into: Path, place: Place, progress: Progress | None = None) -> int:
    """Extract some of the files of an archive, each atomically.

    Links and devices are never extracted. Sizes in the archive are not trusted: bytes are counted
    during extraction.

    Args:
        archive: a zip or tar file.
        into: the target folder.
        place: maps the name of a member to its relative path, or to None to skip it.
        progress: called with the number of extracted files and their total.

    Returns:
        The number of extracted files.

    Raises:
        DataError: see :func:`list_members`; or a member is encrypted, has another size than the
            archive states, is too large for an image, or does not fit on the disk.
    """
    paths: dict[str, str] = {}
    total_bytes = 0
    with _open(archive) as members:
        for member in members:
            if (path := place(member.name)) is not None:
                _check_member(archive, member)
                paths[member.name] = _check_relative(path, archive)
                total_bytes += member.size
    _check_space(into, total_bytes)
    count = 0
    with _open(archive) as members:
        for member in members:
            if member.name not in paths:
                continue
            _extract(archive, member, into / paths[member.name])
            count += 1
            if progress is not None:
                progress(count, len(paths))
    return count


@contextlib.contextmanager
def _open(archive: Path) -> Iterator[Iterator[_Member]]:
    """Open an archive and give its regular files; turn every error of it into a DataError."""
    try:
        with contextlib.ExitStack() as stack:
            if _is_zip(archive):
                file = stack.enter_context(zipfile.ZipFile(archive))
                yield _check_members(archive, _zip_members(file))
            else:
                # Read front to back in one pass: a compressed tar does not support seeking.
                tar = stack.enter_context(tarfile.open(archive, "r:*"))
                yield _check_members(archive, _tar_members(tar))
    except tarfile.ReadError:
        raise DataError(
            f"{archive} is not a zip or tar archive: it is {_describe(archive)}; download it again"
        ) from None
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        EOFError,
        OSError,
        RuntimeError,
        NotImplementedError,
    ) as error:
        raise DataError(f"{archive} cannot be unpacked: {error}; download it again") from None


def _is_zip(archive: Path) -> bool:
    try:
        return zipfile.is_zipfile(archive)
    except OSError as error:
        raise DataError(f"cannot read {archive}: {error.strerror}") from None


def _zip_members(file: zipfile.ZipFile) -> Iterator[_Member]:
    for info in file.infolist():
        mode = info.external_attr >> 16
        if info.is_dir() or (mode & 0o170000) not in (0, 0o100000):  # only regular files
            continue

        def read(info: zipfile.ZipInfo = info) -> IO[bytes]:
            return file.open(info)

        yield _Member(info.filename, info.file_size, info.compress_size, read)


def _tar_members(tar: tarfile.TarFile) -> Iterator[_Member]:
    for info in tar:
        if not info.isreg():
            continue

        def read(info: tarfile.TarInfo = info) -> IO[bytes]:
            file = tar.extractfile(info)
            assert file is not None
            return file

        yield _Member(info.name, info.size, None, read)


def _check_members(archive: Path, members: Iterator[_Member]) -> Iterator[_Member]:
    for number, member in enumerate(members):
        if number >= MAX_MEMBERS:
            raise DataError(
                f"{archive} contains more than {MAX_MEMBERS} files; import only the data set's own "
                "archive"
            )
        _check_relative(member.name, archive)
        yield member


def _check_relative(name: str, archive: Path) -> str:
    """Return a path unchanged if it stays below the target folder."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or parts[0] == "/" or ".." in parts or ":" in parts[0] or "\0" in name:
        raise DataError(f"{archive}: refusing to extract the unsafe path {name[:200]!r}")
    return name


def _check_member(archive: Path, member: _Member) -> None:
    if member.size > MAX_MEMBER_BYTES:
        raise DataError(
            f"{archive}: {member.name!r} has {member.size} bytes, too large for an image"
        )
    if (
        member.compressed is not None
        and member.size > RATIO_FROM
        and member.size > MAX_RATIO * max(1, member.compressed)
    ):
        raise DataError(
            f"{archive}: refusing to extract {member.name!r}, which expands to more than "
            f"{MAX_RATIO} times its compressed size"
        )


def _check_space(into: Path, size: int) -> None:
    into.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(into).free
    if size > free:
        raise DataError(
            f"{into} has {free / 2**30:.2f} GiB free, but the images need {size / 2**30:.2f} GiB: "
            "free some space, or set HTBENCH_DATA to a folder on a larger disk"
        )


def _extract(archive: Path, member: _Member, path: Path) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as out, member.open() as file:
        size = 0
        while piece := file.read(PIECE):
            size += len(piece)
            if size > member.size:
                raise DataError(
                    f"{archive} is damaged: {member.name!r} is larger than its header says; "
                    "download it again"
                )
            out.write(piece)
        if size != member.size:
            raise DataError(
                f"{archive} is damaged: {member.name!r} is smaller than its header says; "
                "download it again"
            )


def _describe(archive: Path) -> str:
    """Say what a file that is not an archive looks like."""
    try:
        with archive.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        return f"not readable ({error.strerror})"
    if not head:
        return "empty"
    if head.lstrip()[:1] == b"<":
        return "a web page, perhaps a download confirmation page"
    return "another kind of file, or truncated"
