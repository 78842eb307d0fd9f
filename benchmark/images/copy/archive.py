"""List and unpack untrusted archives, with bounds on memory, time and disk space.

Names in an archive never become paths: the caller maps members to images, and these have paths.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from benchmark.errors import DataError, HTBenchError, UsageError
from benchmark.images.copy.placing import Placing
from benchmark.images.copy.remarks import Kind, Remarks, shown
from benchmark.images.decode import MAX_FILE_BYTES
from benchmark.images.kinds import HEAD_BYTES, describe
from benchmark.progress import Progress

MAX_RATIO = 200  # of uncompressed to compressed bytes of a member; images hardly compress at all
MAX_TAR_RATIO = 50  # the same of a whole tar
RATIO_FROM = 1 << 20  # smaller members may have any ratio
MAX_NAME = 4096  # characters
MAX_ENTRY_BYTES = 512  # of a zip's directory, for each member that it may have
MAX_HEADER_BYTES = 1 << 20  # of one member of a tar, with its extended headers
MAX_HEADER_RATIO = 8  # of all headers of a tar to its compressed bytes, of which images need most
HEADER_SLACK = 16 << 20  # bytes of headers that any tar may have
MAX_GLOBALS = 100  # values of a tar's global headers
TAR_SLACK = 256 << 20  # bytes that any compressed tar may have
PIECE = 1 << 20
SYMBOLIC_LINK = Kind("symbolic link")
SPECIAL_MEMBER = Kind("special member", "(device, FIFO, socket or unknown)")

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_DECOMPRESSORS: dict[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
    b"]\0\0": lzma.LZMAFile,
}
_ZIP_UTF8 = 0x800  # a flag of a member: its name is UTF-8
_ZIP_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}


class Member(NamedTuple):
    """A file in an archive.

    Attributes:
        number: the place of its data in the archive; hard links to one file share it.
        name: its path, with slashes; not safe to use as a path.
        size: bytes, as the archive says.
        stored: bytes of it in the archive, or None if these are not known.
        problem: why it cannot be extracted, or None.
    """

    number: int
    name: str
    size: int
    stored: int | None
    problem: str | None = None


def list_members(archive: Path, remarks: Remarks, limit: int) -> list[Member]:
    """List the regular files of a zip or tar archive, whatever its suffix.

    Args:
        archive: the archive.
        remarks: counts links, devices and other members that cannot be used.
        limit: the number of members that the archive may have.

    Raises:
        DataError: the file is not such an archive, is damaged, or exceeds a limit.
        UsageError: it is not a regular file.
    """
    with _opened(archive) as (file, size):
        reader = _reader(archive, file, size, limit)
        members = []
        for member in reader.members(remarks):
            if (reason := _bad_name(member.name)) is not None:
                remarks.add(reason, member.name)
            else:
                members.append(member)
        return members


def unpack(
    archive: Path,
    members: Sequence[Member],
    places: Mapping[int, Sequence[str]],
    placing: Placing,
    limit: int,
    progress: Progress | None = None,
) -> int:
    """Extract some of the files of an archive.

    Sizes in the archive are not trusted: bytes are counted during extraction.

    Args:
        archive: a zip or tar file.
        members: what :func:`list_members` returned.
        places: the number of a member to the paths of its images.
        placing: writes the images.
        limit: the number of members that the archive may have.
        progress: called with the number of extracted images and their total.

    Returns:
        The number of extracted images.

    Raises:
        DataError: a member is encrypted, has another size than the archive states, or is too large
            for an image; or the archive is damaged.
        StorageError: the images do not fit on the disk.
    """
    selection = {member.number: member for member in members if member.number in places}
    for member in selection.values():
        _check_member(archive, member)
    total = sum(len(paths) for paths in places.values())
    placing.check_space(sum(m.size * len(places[m.number]) for m in selection.values()))
    count = 0
    with _opened(archive) as (file, size):
        for number, stream in _reader(archive, file, size, limit).open_each(selection):
            first, *others = places[number]
            placing.write(_pieces(archive, selection[number], stream), first)
            for path in others:
                placing.copy(placing.root / first, path)
            count += len(places[number])
            if progress is not None:
                progress(count, total)
    return count


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[tuple[IO[bytes], int]]:
    """Open a regular file; give it and its size in bytes."""
    try:
        # A FIFO or a device must neither block nor be read.
        descriptor = os.open(archive, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise DataError(f"cannot read {archive}: {error.strerror or error}") from None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{archive} is neither a folder nor a regular file; give one of them")
        yield file, status.st_size


@contextlib.contextmanager
def _reading(archive: Path) -> Iterator[None]:
    """Turn every error of reading an archive into a DataError."""
    try:
        yield
    except HTBenchError:
        raise
    except Exception as error:  # the libraries raise many kinds for damaged files
        reason = str(error)[:200] or type(error).__name__
        raise DataError(
            f"{archive} cannot be unpacked: {reason}; it is damaged or truncated, so get it again"
        ) from None


def _reader(archive: Path, file: IO[bytes], size: int, limit: int) -> _Zip | _Tar:
    head = file.read(HEAD_BYTES)
    file.seek(0)
    try:
        # A tar can end in a zip: the beginning decides before the end is searched.
        if head[257:262] != b"ustar" and not head.startswith(tuple(_DECOMPRESSORS)):
            with contextlib.suppress(zipfile.BadZipFile):
                return _Zip(archive, file, size, limit)
            file.seek(0)
        return _Tar(archive, file, size, limit)
    except HTBenchError:
        raise
    except Exception:  # the libraries raise many kinds for other files
        raise DataError(
            f"{archive} is not a zip or tar archive: it is {describe(head)}; give a folder or an "
            "archive of one of these kinds, or get it again if it should be one"
        ) from None


def _too_many(archive: Path, limit: int) -> DataError:
    return DataError(
        f"{archive} contains more than {limit} files; import the data set's own archive, or unpack "
        "this one and import the folder"
    )


class _Zip:
    """Reads a zip archive."""

    def __init__(self, archive: Path, file: IO[bytes], size: int, limit: int) -> None:
        self._archive, self._size = archive, size
        self._zip = zipfile.ZipFile(_Directory(archive, file, limit))
        if len(self._zip.infolist()) > limit:
            raise _too_many(archive, limit)

    def members(self, remarks: Remarks) -> Iterator[Member]:
        for number, info in enumerate(self._zip.infolist()):
            name = _name(info).replace("\\", "/")
            kind = stat.S_IFMT(info.external_attr >> 16) if info.create_system == 3 else 0
            if stat.S_ISLNK(kind):
                remarks.add(SYMBOLIC_LINK, name)
            elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                remarks.add(SPECIAL_MEMBER, name)
            elif not name.endswith("/"):
                yield Member(number, name, info.file_size, info.compress_size, _problem(info))

    def open_each(self, selection: Mapping[int, Member]) -> Iterator[tuple[int, IO[bytes]]]:
        infos = self._zip.infolist()
        if sum(infos[number].compress_size for number in selection) > self._size:
            raise DataError(f"{self._archive}: refusing to extract it, because its members overlap")
        for number in sorted(selection):
            with _reading(self._archive):
                stream = self._zip.open(infos[number])
            with stream:
                yield number, stream


class _Directory:
    """A zip file that refuses to give its whole directory at once if that is too large.

    ``zipfile`` reads the directory into memory with one call and makes an object of every entry.
    """

    def __init__(self, archive: Path, file: IO[bytes], limit: int) -> None:
        self._archive, self._file, self._limit = archive, file, limit
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        if size > max(PIECE, self._limit * MAX_ENTRY_BYTES):
            raise _too_many(self._archive, self._limit)
        data = self._file.read(size)
        if len(data) > PIECE and data.count(b"PK\x01\x02") > self._limit:
            raise _too_many(self._archive, self._limit)
        return data


def _name(info: zipfile.ZipInfo) -> str:
    """The name of a member. `zip` on Linux and the Finder write UTF-8 without marking it as such.

    Text of the code page that ``zipfile`` assumes is hardly ever valid UTF-8.
    """
    if not info.flag_bits & _ZIP_UTF8:
        with contextlib.suppress(UnicodeError):
            return info.filename.encode("cp437").decode("utf-8")
    return info.filename


def _problem(info: zipfile.ZipInfo) -> str | None:
    if info.flag_bits & 1:
        return "is encrypted; decrypt it, and import the folder"
    if info.compress_type not in _ZIP_METHODS:
        method = f"compression method {info.compress_type}"
        return f"uses {method}, which Python cannot read; unpack it, and import the folder"
    return None


class _Tar:
    """Reads a tar archive front to back: a compressed one does not support seeking."""

    def __init__(self, archive: Path, file: IO[bytes], size: int, limit: int) -> None:
        self._archive, self._file, self._limit = archive, file, limit
        head = file.read(6)
        file.seek(0)
        end, stream = size, file
        for magic, decompressor in _DECOMPRESSORS.items():
            if head.startswith(magic):
                end, stream = MAX_TAR_RATIO * size + TAR_SLACK, decompressor(file)
        self._stream = _Stream(archive, stream, end)
        self._tar = tarfile.TarFile(fileobj=self._stream)  # type: ignore[arg-type]

    def members(self, remarks: Remarks) -> Iterator[Member]:
        numbers: dict[str, int] = {}
        members: dict[int, Member] = {}
        for number, info in self._infos():
            name = info.name.replace("\\", "/")
            if info.isreg():
                stored = (
                    sum(size for _, size in _sparse_map(info)) if info.issparse() else info.size
                )
                numbers[info.name] = number
                member = Member(number, name, info.size, stored)
                members[number] = member
                yield member
            elif info.islnk() and info.linkname in numbers:
                yield members[numbers[info.linkname]]._replace(name=name)
            elif info.islnk():
                remarks.add(Kind("hard link", "to a later or absent file"), name)
            elif info.issym():
                remarks.add(SYMBOLIC_LINK, name)
            elif not info.isdir():
                remarks.add(SPECIAL_MEMBER, name)
        self._check_end(remarks)

    def open_each(self, selection: Mapping[int, Member]) -> Iterator[tuple[int, IO[bytes]]]:
        last = max(selection, default=-1)
        for number, info in self._infos():
            if number in selection:
                with _reading(self._archive):
                    self._stream.allowance = info.size + PIECE
                    stream = self._tar.extractfile(info)
                assert stream is not None
                yield number, stream
            if number >= last:
                break

    def _infos(self) -> Iterator[tuple[int, tarfile.TarInfo]]:
        number = headers = 0
        while True:
            with _reading(self._archive):
                self._stream.allowance = MAX_HEADER_BYTES
                info = self._tar.next()
                headers += MAX_HEADER_BYTES - self._stream.allowance
                if len(self._tar.pax_headers) > MAX_GLOBALS:
                    raise DataError(f"{self._archive} has more than {MAX_GLOBALS} global headers")
            if info is None:
                return
            if number >= self._limit:
                raise _too_many(self._archive, self._limit)
            if headers > HEADER_SLACK + MAX_HEADER_RATIO * self._file.tell():
                raise DataError(
                    f"{self._archive}: refusing to read it, because its headers expand to more "
                    f"than {MAX_HEADER_RATIO} times its size; import the data set's own archive, "
                    "or unpack this one and import the folder"
                )
            yield number, info
            number += 1
            self._tar.members.clear()  # type: ignore[attr-defined]  # the library keeps every header

    def _check_end(self, remarks: Remarks) -> None:
        """Say if an archive does not end as it should: the library just stops there."""
        block = self._stream.last
        if block == b"":
            about = "without an end marker, so that files at the end may be missing"
            remarks.add(Kind("archive", about), self._archive.name)
        elif block.strip(b"\0"):
            raise DataError(f"{self._archive} is damaged in the middle; get it again")
        with _reading(self._archive):
            self._stream.allowance = tarfile.RECORDSIZE + PIECE
            if self._stream.read(tarfile.RECORDSIZE).strip(b"\0"):
                about = "followed by another that is not read; unpack both, and import the folder"
                remarks.add(Kind("archive", about), self._archive.name)


class _Stream:
    """The content of a tar archive, which refuses to become larger than the limits.

    Attributes:
        allowance: the number of bytes that may still be read.
        last: the bytes of the last read.
    """

    def __init__(self, archive: Path, file: IO[bytes], limit: int) -> None:
        self._archive, self._file, self._limit = archive, file, limit
        self.allowance, self.last = MAX_HEADER_BYTES, b""
        self.tell = file.tell

    def read(self, size: int) -> bytes:
        self.allowance -= size
        if self.allowance < 0:
            raise DataError(f"{self._archive} has a header of more than {MAX_HEADER_BYTES} bytes")
        self._check(self._file.tell() + size)
        self.last = self._file.read(size)
        return self.last

    def seek(self, place: int) -> int:
        self._check(place)
        return self._file.seek(place)

    def _check(self, place: int) -> None:
        if place > self._limit + tarfile.RECORDSIZE:
            raise DataError(
                f"{self._archive} is truncated, or expands to more than {MAX_TAR_RATIO} times its "
                "size"
            )


def _sparse_map(info: tarfile.TarInfo) -> list[tuple[int, int]]:
    """Offset and size of the stored parts of a sparse member."""
    parts: Any = info.sparse
    return list(parts)


def _bad_name(name: str) -> Kind | None:
    if len(name) > MAX_NAME:
        return Kind("member", f"whose name has more than {MAX_NAME} characters")
    if ".." in name.split("/") or "\0" in name:
        return Kind("member", "with an unsafe path")
    return None


def _check_member(archive: Path, member: Member) -> None:
    name = shown(member.name)
    if member.problem is not None:
        raise DataError(f"{archive}: {name} {member.problem}")
    if member.size > MAX_FILE_BYTES:
        raise DataError(f"{archive}: {name} has {member.size} bytes, too large for an image")
    if (
        member.stored is not None
        and member.size > RATIO_FROM
        and member.size > MAX_RATIO * max(1, member.stored)
    ):
        raise DataError(
            f"{archive}: refusing to extract {name}, which expands to more than {MAX_RATIO} times "
            "its compressed size"
        )


def _pieces(archive: Path, member: Member, stream: IO[bytes]) -> Iterator[bytes]:
    size = 0
    while True:
        with _reading(archive):
            piece = stream.read(PIECE)
        size += len(piece)
        if size > member.size or (not piece and size < member.size):
            relation = "larger" if size > member.size else "smaller"
            raise DataError(
                f"{archive} is damaged: {shown(member.name)} is {relation} than its header says; "
                "get it again"
            )
        if not piece:
            return
        yield piece
