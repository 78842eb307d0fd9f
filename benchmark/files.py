"""Atomic writes of files and folders, and digests of their content."""

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
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmark.errors import HTBenchError
from benchmark.failpoints import reach

FILE_MODE = 0o644
LEVELS = 10  # of folders that are removed at once; with names of 255 bytes a path holds 16
SEAL = "sha256"  # the entry of a sealed record with the digest of all its other entries


def canonical_json(value: object) -> bytes:
    """Encode as JSON with sorted keys and no spaces: equal values have equal bytes.

    Raises:
        ValueError: the value contains NaN or infinity.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def digest_json(value: object) -> str:
    """SHA-256 (hex) of the canonical JSON of a value."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def seal(record: Mapping[str, Any]) -> bytes:
    """The content of a JSON file that carries its own digest; see :func:`read_sealed`."""
    return canonical_json({**record, SEAL: digest_json(record)}) + b"\n"


def open_regular(path: Path) -> io.BufferedReader:
    """Open a regular file, or a link to one, for reading.

    Never waits, unlike ``open`` on a FIFO.

    Raises:
        OSError: it cannot be opened or is something else, such as a folder, a FIFO or a device.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return open(descriptor, "rb")  # noqa: PTH123 - the caller closes it


def digest_file(path: Path) -> str:
    """SHA-256 (hex) of a regular file's bytes."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, FILE_MODE))
    try:
        yield temporary
        mode = temporary.lstat().st_mode
        if stat.S_ISREG(mode) and stat.S_IMODE(mode) != FILE_MODE:  # a strict umask
            with contextlib.suppress(PermissionError):  # a sandboxed process cannot change modes
                temporary.chmod(FILE_MODE)
        reach("file-written")
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_file(path: Path, data: bytes) -> None:
    """Write a file atomically, see :func:`atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def new_folder(final: Path, building_in: Path | None = None) -> Iterator[Path]:
    """Create a folder that appears under its final name only if the block succeeds.

    Args:
        final: the final path; an existing folder is replaced.
        building_in: where to create the temporary folder that the block fills, on the same file
            system; default: the parent of the final path.

    Yields:
        The path of the temporary folder.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=".building-", dir=building_in or final.parent))
    replaced = building.with_name(f"{building.name}-old")
    try:
        building.chmod(0o755)  # mkdtemp creates it for its owner only
        yield building
        if final.exists():  # moved away first: a folder under its final name is always complete
            final.rename(replaced)
            reach("old-folder-moved")
        building.rename(final)
        reach("folder-renamed")
    finally:
        shutil.rmtree(building, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def read_json(path: Path, limit: int, error: type[HTBenchError]) -> Any:
    """Read a JSON file of bounded size.

    Raises:
        error: the file cannot be read, is larger than ``limit`` bytes, or is not JSON (NaN and
            infinity are not JSON either).
    """
    try:
        with open_regular(path) as file:
            data = file.read(limit + 1)
    except OSError as problem:
        raise error(f"cannot read {path}: {problem.strerror}") from None
    if len(data) > limit:
        raise error(f"{path} is larger than {limit} bytes")
    try:
        return json.loads(data.decode("utf-8"), parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as problem:
        raise error(f"{path} is not valid JSON: {problem}") from None


def read_sealed(path: Path, limit: int, error: type[HTBenchError]) -> dict[str, Any]:
    """Read a JSON file that :func:`seal` wrote; returns its entries without the digest.

    Raises:
        error: as for :func:`read_json` and :func:`unseal`.
    """
    return unseal(read_json(path, limit, error), path, error)


def unseal(record: object, path: Path, error: type[HTBenchError]) -> dict[str, Any]:
    """Check the digest of a parsed record; returns its entries without it.

    Args:
        record: the content of a JSON file; ``path``: the file, for messages.

    Raises:
        error: it has no digest, or an entry was changed, added or removed.
    """
    if not isinstance(record, dict) or SEAL not in record:
        raise error(f"{path} has no checksum, so it is damaged or of another version")
    entries = {name: value for name, value in record.items() if name != SEAL}
    try:
        matches = digest_json(entries) == record[SEAL]
    except (ValueError, RecursionError):  # read, but too deep or too large to be written
        matches = False
    if not matches:
        raise error(f"{path} does not match its checksum, so it was damaged or modified")
    return entries


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a JSON number")
    return value


@contextlib.contextmanager
def temporary_folder(parent: Path | None = None) -> Iterator[Path]:
    """A new folder that is removed afterwards, however deeply a child has nested folders in it.

    Args:
        parent: where to create it; default: the system's temporary folder.
    """
    folder = Path(tempfile.mkdtemp(prefix="htbench-", dir=parent))
    try:
        yield folder
    finally:
        remove_tree(folder)


def remove_tree(folder: Path) -> None:
    """Remove a folder as far as possible.

    A child may nest folders in its scratch deeper than a path can be long, or than
    ``shutil.rmtree`` recurses: deep folders are moved up before those above them are removed.
    """
    numbers = itertools.count()
    with contextlib.suppress(OSError):
        while entries := list(folder.iterdir()):
            for entry in entries:
                for deep in _folders_below(entry, LEVELS):
                    deep.rename(folder / f".moved-{next(numbers)}")
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()
        folder.rmdir()


def _folders_below(path: Path, levels: int) -> Iterator[Path]:
    """Folders that many levels below a folder; afterwards all down to there can be emptied."""
    if path.is_symlink() or not path.is_dir():
        return
    path.chmod(0o700)
    if levels == 0:
        yield path
        return
    for inner in list(path.iterdir()):
        yield from _folders_below(inner, levels - 1)
