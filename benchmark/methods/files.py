"""A method's own files: read with care, compared after a run, and kept with it.

Loads no torch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from benchmark.errors import MethodError
from benchmark.files import read_bounded
from benchmark.folders import ROOT

MAX_CODE_BYTES = 64 << 20  # of all of a method's own files
MAX_KEPT_FILE = 1 << 20
MAX_KEPT = 8 << 20  # of all kept files of a run
CODE_FOLDER = "code"  # in the folder of a run: the method's files


@dataclass(frozen=True)
class OwnFile:
    """One of a method's own files.

    Attributes:
        name: relative to the folder that it was found in, such as ``helpers/loss.py``.
        path: where it is.
        sha256: of its bytes, in hex.
    """

    name: str
    path: Path
    sha256: str


def read_own_file(path: Path, limit: int = MAX_CODE_BYTES) -> bytes:
    """The bytes of a regular file, at most ``limit``; never waits for a device or a pipe.

    Raises:
        OSError: it is not a regular file, is larger, or cannot be read.
    """
    data = read_bounded(path, limit)
    if len(data) > limit:
        raise OSError(f"it is larger than {limit >> 20} MiB")
    return data


def unchanged_contents(files: Iterable[OwnFile]) -> dict[str, bytes]:
    """Check that no file of a method has changed; return the content of those to keep, by name.

    Kept are files of at most ``MAX_KEPT_FILE`` bytes and ``MAX_KEPT`` in all, without the suite's.

    Raises:
        MethodError: a file is not what it was when the method was described.
    """
    kept: dict[str, bytes] = {}
    room = MAX_KEPT
    for file in files:
        try:
            data = read_own_file(file.path)
        except (OSError, ValueError):
            data = b""
        if sha256(data).hexdigest() != file.sha256:
            raise MethodError(
                f"{file.name} is not among the files recorded in the run's key. It was edited "
                "after the command started: run the command again"
            )
        is_ours = file.path.is_relative_to(ROOT / "baselines")
        if not is_ours and len(data) <= min(room, MAX_KEPT_FILE):
            kept[file.name] = data
            room -= len(data)
    return kept


def keep_code(contents: Mapping[str, bytes], folder: Path) -> None:
    """Write the content of a method's files into a folder of a run."""
    for name, data in contents.items():
        path = folder / CODE_FOLDER / name
        with contextlib.suppress(FileExistsError, NotADirectoryError):  # two files of one name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def is_kept(folder: Path, name: str, digest: str) -> bool:
    """Whether the folder of a run has a file of the method, with the recorded digest."""
    code = (folder / CODE_FOLDER).resolve()
    try:
        path = (code / name).resolve()  # the name comes from a record
        data = read_own_file(path, MAX_KEPT_FILE) if path.is_relative_to(code) else b""
    except (OSError, ValueError, RuntimeError):
        return False
    return sha256(data).hexdigest() == digest
