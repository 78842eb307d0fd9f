"""Atomic writes, canonical JSON and SHA-256 digests."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmark.errors import HTBenchError


def canonical_json(value: object) -> bytes:
    """Return JSON with sorted keys and no spaces, so that equal values have equal bytes.

    Raises:
        ValueError: the value contains NaN or infinity.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def digest_json(value: object) -> str:
    """Return the SHA-256, in hex, of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def digest_file(path: Path) -> str:
    """Return the SHA-256, in hex, of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_file(path: Path, data: bytes) -> None:
    """Write a file atomically, by temporary file and rename. Missing folders are created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(name).chmod(0o644)  # mkstemp creates private files (0600)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def new_folder(final: Path, building_in: Path | None = None) -> Iterator[Path]:
    """Create a folder atomically: yield a temporary one and rename it when the block succeeds.

    Args:
        final: path of the new folder; an existing folder is replaced.
        building_in: parent of the temporary folder, on the same file system; default: the parent
            of ``final``.

    Yields:
        The temporary folder, to be filled by the block. If the block raises, it is deleted.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=".building-", dir=building_in or final.parent))
    try:
        building.chmod(0o755)  # mkdtemp creates private folders (0700)
        yield building
        if final.exists():  # rename, not delete: a folder under its final name is always complete
            final.rename(building.with_name(f"{building.name}-old"))
        building.rename(final)
    finally:
        shutil.rmtree(building, ignore_errors=True)
        shutil.rmtree(building.with_name(f"{building.name}-old"), ignore_errors=True)


def read_json(path: Path, limit: int, error: type[HTBenchError]) -> Any:
    """Read a JSON file of limited size.

    Args:
        path: the file.
        limit: the maximum size in bytes.
        error: the exception to raise.

    Raises:
        error: the file is missing, too large or not valid JSON (NaN and infinity are not valid);
            the message names the file.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as cause:
        raise error(f"cannot read {path}: {cause.strerror}") from None
    if len(data) > limit:
        raise error(f"{path} is larger than {limit} bytes")
    try:
        return json.loads(data.decode("utf-8"), parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as cause:
        raise error(f"{path} is not valid JSON: {cause}") from None


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a valid number in JSON")
    return value
