"""Atomic and durable writes of files and folders, and digests of their content.

A file or folder gets its name only when its data is on the disk (``fsync``), so that after a power
cut a name leads to the old content or to the new, and never to a part of it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import itertools
import json
import math
import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmark.errors import HTBenchError, UsageError
from benchmark.failpoints import reach
from benchmark.renames import check_rename

FILE_MODE = 0o644
BUILDING = ".building-"  # the prefix of a folder that is still being written
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # errors of a write that does not fit
SETTLED_SECONDS = 2  # this long after a change, a file's times show every later change
# Kept, because a new one for each value takes as long as encoding a short one.
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)
SEAL = "sha256"  # the entry of a sealed record with the digest of all its other entries


def canonical_json(value: object) -> bytes:
    """Encode as JSON with sorted keys and no spaces: equal values have equal bytes.

    Raises:
        ValueError: the value contains NaN or infinity.
    """
    return _ENCODER.encode(value).encode()


def digest_json(value: object) -> str:
    """SHA-256 (hex) of the canonical JSON of a value."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def seal(record: Mapping[str, Any]) -> bytes:
    """The content of a JSON file that carries its own digest; see :func:`read_sealed`."""
    return canonical_json({**record, SEAL: digest_json(record)})


def open_regular(path: Path) -> io.BufferedReader:
    """Open a regular file, or a link to one, for reading.

    Never waits, unlike ``open`` on a FIFO.

    Raises:
        OSError: it cannot be opened or is something else, such as a folder, a FIFO or a device.
    """
    return open(_open_regular(path)[0], "rb")  # noqa: PTH123 - the caller closes it


def _open_regular(path: Path) -> tuple[int, os.stat_result]:
    """As :func:`open_regular`, but returns the descriptor and the file's status."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return descriptor, status


def read_bounded(path: Path, limit: int) -> bytes:
    """The content of a regular file, or its first ``limit + 1`` bytes if it is larger than that.

    Unlike ``read(limit + 1)``, it does not take that much memory for a small file.

    Raises:
        OSError: see :func:`open_regular`.
    """
    descriptor, status = _open_regular(path)
    try:
        parts = [os.read(descriptor, min(limit, status.st_size) + 1)]
        # Until there is nothing left: a system reads 2 GiB at most, and the file may have grown.
        while parts[-1] and (left := limit + 1 - sum(map(len, parts))):
            parts.append(os.read(descriptor, min(left, 1 << 20)))
    finally:
        os.close(descriptor)
    return b"".join(filter(None, parts))  # one part is not copied


def open_inside(folder: Path, name: str) -> io.BufferedReader:
    """Open a regular file in a folder that others may have written; never leads out of it.

    Args:
        folder: the folder.
        name: of the file, relative to the folder, with ``/`` between its parts.

    Raises:
        FileNotFoundError: there is none of that name.
        OSError: the folder or a part of the name is a link, the file is not a regular file, or the
            name leads out of the folder.
    """
    parts = name.split("/")
    if not all(parts) or {".", ".."} & set(parts) or "\0" in name:
        raise OSError(errno.EINVAL, "it is not a name in this folder", name)
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    handles: list[int] = []
    try:
        handles.append(os.open(folder, flags | os.O_DIRECTORY))
        for part in parts[:-1]:
            handles.append(os.open(part, flags | os.O_DIRECTORY, dir_fd=handles[-1]))
        file = os.open(parts[-1], flags, dir_fd=handles[-1])
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO):  # ENXIO: a socket
            error.strerror = "it is a link or not a regular file"
        raise
    finally:
        for handle in handles:
            os.close(handle)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "it is not a regular file", name)
    return open(file, "rb")  # noqa: PTH123 - the caller closes it


def digest_file(path: Path) -> str:
    """SHA-256 (hex) of a regular file's bytes."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_digests: dict[tuple[int, ...], str] = {}


def matches_digest(path: Path, sha256: object) -> bool:
    """Whether a regular file exists and has this SHA-256 (hex).

    Each file is read once per process, as long as its inode, size and times stay the same.
    """
    try:
        with open_regular(path) as file:
            now = os.fstat(file.fileno())
            stamp = now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns
            digest = _digests.get(stamp) or hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return False
    if time.time() - now.st_ctime > SETTLED_SECONDS:
        _digests[stamp] = digest
    return digest == sha256


def is_file(path: str | Path) -> bool:
    """Whether a path leads to a regular file; a text that no path can be leads to none.

    ``Path.is_file`` raises an error for one that is too long.
    """
    return os.path.isfile(path)  # noqa: PTH113


def is_safetensors(beginning: bytes) -> bool:
    """Whether a file with these first nine bytes is safetensors: a length, then JSON."""
    return beginning[8:9] == b"{"


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Write a file so that readers see the old content or the new, never a part.

    The block writes to the temporary path that it gets, in the same folder. If the block succeeds,
    the temporary file replaces ``path``; if it fails, the temporary file is deleted.

    Args:
        path: the final path; missing parent folders are created.

    Yields:
        The path of an empty file with a random name. The block may replace it, also by a link.
    """
    make_folder(path.parent)
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    with named_as(path):
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, FILE_MODE))
    try:
        with adding_path(path):
            yield temporary
        mode = temporary.lstat().st_mode
        if stat.S_ISREG(mode) and stat.S_IMODE(mode) != FILE_MODE:  # a strict umask
            with contextlib.suppress(PermissionError):  # a sandboxed process cannot change modes
                temporary.chmod(FILE_MODE)
        if stat.S_ISREG(mode):
            _sync(temporary)
        reach("file-written")
        with named_as(path):
            temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):  # of the two errors, the first one matters
            temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)


@contextlib.contextmanager
def named_as(path: Path) -> Iterator[None]:
    """Give an error of a temporary file the path that people know."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None


@contextlib.contextmanager
def adding_path(path: Path) -> Iterator[None]:
    """Give an error that names no path, such as that of a write to a full disk, this one."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in FULL:
            error.filename = os.fspath(path)
        raise


def write_file(path: Path, data: bytes) -> None:
    """Write a file atomically, see :func:`atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def new_folder(final: Path, building_in: Path | None = None) -> Iterator[Path]:
    """Create a folder that appears under its final name only if the block succeeds.

    Several processes may create the same folder at the same time: the last one stays, whole.

    Args:
        final: the final path; what exists there is replaced.
        building_in: where to create the temporary folder that the block fills, on the same file
            system; default: the parent of the final path.

    Yields:
        The path of the temporary folder.
    """
    make_folder(final.parent)
    with named_as(building_in or final):
        building = Path(tempfile.mkdtemp(prefix=BUILDING, dir=building_in or final.parent))
    replaced: list[Path] = []
    try:
        building.chmod(0o755)  # mkdtemp creates it for its owner only
        with adding_path(final):
            yield building
        _sync_tree(building)
        check_rename()
        while not _rename_folder(building, final):
            # Moved away first: a folder under its final name is always complete.
            replaced.append(building.with_name(f"{building.name}-old{len(replaced)}"))
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                final.rename(replaced[-1])
                reach("old-folder-moved")
        reach("folder-renamed")
        _sync(final.parent)
    finally:
        for path in (building, *replaced):
            discard(path)


def discard(path: Path) -> None:
    """Remove whatever is at a path, if anything; ``rmtree`` would wait for the writer of a FIFO."""
    with contextlib.suppress(OSError):
        if stat.S_ISDIR(path.lstat().st_mode):
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def _rename_folder(folder: Path, final: Path) -> bool:
    """Rename a folder; False if something other than an empty folder has the final name."""
    try:
        folder.rename(final)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        if error.errno == errno.ENOTDIR and final.parent.is_dir():  # a file, or a link
            return False
        raise
    return True


def make_folder(folder: Path) -> None:
    """Create a folder and its missing parents, durably."""
    absent = list(itertools.takewhile(lambda path: not path.exists(), (folder, *folder.parents)))
    folder.mkdir(parents=True, exist_ok=True)
    for path in absent:
        _sync(path.parent)


def _sync_tree(folder: Path) -> None:
    """Write the files of a folder and its subfolders to the disk; links need no writing."""
    for root, _, names in os.walk(folder, topdown=False):
        for name in names:
            path = Path(root, name)
            if stat.S_ISREG(path.lstat().st_mode):
                _sync(path)
        _sync(Path(root))


def _sync(path: Path) -> None:
    """Write a file's data, or a folder's list of names, to the disk."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # a folder that may be written but not listed, or a strict umask
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # not offered by the file system
            raise
    finally:
        os.close(descriptor)


def check_output(path: Path, *, folder: bool = False) -> None:
    """Check that a user's output path is free, or a regular file (or a folder) to replace.

    Writing through a symbolic link would change a file that the user did not name, and a rename
    onto a device, as root, would replace it.

    Args:
        path: the path.
        folder: whether a folder will be written, not a file.

    Raises:
        UsageError: it is a link, a device, a FIFO, a socket, or a file where a folder will be
            written (or the reverse).
    """
    remedy = f"give the path of a new {'folder' if folder else 'file'}"
    if path.name == "-":
        raise UsageError(f"'-' does not mean standard output here; {remedy}")
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISLNK(mode):
        raise UsageError(
            f"{path} is a symbolic link to {path.readlink()}, which will not be written through; "
            f"{remedy}, or delete the link"
        )
    if (stat.S_ISDIR if folder else stat.S_ISREG)(mode):
        return
    kind = next((kind for test, kind in _KINDS.items() if test(mode)), "not a regular file")
    raise UsageError(f"{path} is {kind}; {remedy}")


_KINDS = {
    stat.S_ISREG: "a file",
    stat.S_ISDIR: "a folder",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
    stat.S_ISFIFO: "a named pipe (FIFO)",
    stat.S_ISSOCK: "a socket",
}


def read_json(path: Path, limit: int, error: type[HTBenchError]) -> Any:
    """Read a JSON file of bounded size.

    Raises:
        error: the file cannot be read, is larger than ``limit`` bytes, or is not JSON (NaN and
            infinity are not JSON either).
    """
    return _parse(_read_limited(path, limit, error), path, error)


def _read_limited(path: Path, limit: int, error: type[HTBenchError]) -> bytes:
    try:
        data = read_bounded(path, limit)
    except OSError as problem:
        raise error(f"cannot read {path}: {problem.strerror}") from None
    if len(data) > limit:
        raise error(f"{path} is larger than {limit} bytes")
    return data


def _parse(data: bytes, path: Path, error: type[HTBenchError]) -> Any:
    try:
        return json.loads(data.decode("utf-8"), parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as problem:
        raise error(f"{path} is not valid JSON: {problem}") from None


def read_sealed(
    path: Path,
    limit: int,
    error: type[HTBenchError],
    check: Callable[[Any], None] = lambda _: None,
) -> dict[str, Any]:
    """Read a JSON file that :func:`seal` wrote; returns its entries without the digest.

    Args:
        path: the file.
        limit: bytes that it may have.
        error: what is raised.
        check: receives what the file contains, before the digest is compared.

    Raises:
        error: as for :func:`read_json`; or the file has no digest, or an entry was changed, added
            or removed.
    """
    content = _read_limited(path, limit, error)
    record = _parse(content, path, error)
    check(record)
    if not isinstance(record, dict) or SEAL not in record:
        raise error(f"{path} has no checksum, so it is damaged or of another version")
    entries = {name: value for name, value in record.items() if name != SEAL}
    if _is_sealed(content, record[SEAL]):
        return entries
    try:
        matches = digest_json(entries) == record[SEAL]
    except (ValueError, RecursionError):  # read, but too deep or too large to be written
        matches = False
    if not matches:
        raise error(f"{path} does not match its checksum, so it was damaged or modified")
    return entries


def _is_sealed(content: bytes, digest: object) -> bool:
    """Whether a digest is that of all of a file but the entry with the digest.

    It is if :func:`seal` wrote the whole file; its entries then need not be encoded again.
    """
    if not (isinstance(digest, str) and len(digest) == 64 and digest.isascii()):
        return False
    before, entry, after = content.removesuffix(b"\n").rpartition(f'"{SEAL}":"{digest}",'.encode())
    return bool(entry) and hashlib.sha256(before + after).hexdigest() == digest


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a JSON number")
    return value
