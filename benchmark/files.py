"""Files that appear whole or not at all, and the digests that name them."""

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
from benchmark.failpoints import reach


def canonical_json(value: object) -> bytes:
    """JSON with sorted keys and no spaces: equal values have equal bytes. NaN is refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def digest_json(value: object) -> str:
    """SHA-256 (hex) of the canonical JSON of a value."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_file(path: Path, data: bytes) -> None:
    """Write a file by temporary file and rename: a reader sees the old bytes or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(name).chmod(0o644)  # mkstemp's 0600 is for secrets
        reach("file-written")
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def new_folder(final: Path, building_in: Path | None = None) -> Iterator[Path]:
    """A folder that appears under its final name when the block ends without an error.

    Args:
        final: its name; an older folder of that name is replaced.
        building_in: where the block's temporary folder is, on the same file system; default
            beside the final one.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=".building-", dir=building_in or final.parent))
    try:
        building.chmod(0o755)  # mkdtemp's 0700 is for secrets
        yield building
        if final.exists():  # moved away first: under its name a folder is whole or not there
            final.rename(building.with_name(f"{building.name}-old"))
            reach("old-folder-moved")
        building.rename(final)
        reach("folder-renamed")
    finally:
        shutil.rmtree(building, ignore_errors=True)
        shutil.rmtree(building.with_name(f"{building.name}-old"), ignore_errors=True)


def read_json(path: Path, limit: int, error: type[HTBenchError]) -> Any:
    """Read a JSON file of bounded size.

    Raises:
        error: the file is missing, too large or not JSON (NaN and infinities are not); the
            message names it.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as problem:
        raise error(f"cannot read {path}: {problem.strerror}") from None
    if len(data) > limit:
        raise error(f"{path} is larger than {limit} bytes")
    try:
        return json.loads(data.decode("utf-8"), parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as problem:
        raise error(f"{path} is not valid JSON: {problem}") from None


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a number that JSON can hold")
    return value
