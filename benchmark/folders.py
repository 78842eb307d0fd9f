"""Folders of our own code and data, and of the user's data, and the space on their disks.

The benchmark writes only to the data folder and the workspace.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from io import FileIO
from pathlib import Path

import platformdirs

import benchmark
from benchmark.errors import StorageError

PACKAGE = Path(benchmark.__file__).resolve().parent
ROOT = PACKAGE.parent  # of all our packages: a checkout, or a site-packages folder

# Packages that hold labels or score predictions: closed to every run.
PRIVATE_PACKAGES = ("data_manifests", "leaderboard")


def harness_packages() -> tuple[Path, ...]:
    """The folders of our packages that every run may read; keys cover the part that computes."""
    return tuple(path for path in (PACKAGE, ROOT / "htbench") if path.is_dir())


def private_packages() -> frozenset[Path]:
    """The folders of our packages that no run may read."""
    return frozenset(ROOT / name for name in PRIVATE_PACKAGES)


def installed_folders() -> tuple[Path, ...]:
    """Folders of installed packages, in all layers of the environment, and of Python itself."""
    paths = sysconfig.get_paths()
    folders = [paths[name] for name in ("purelib", "platlib", "stdlib", "platstdlib")]
    folders += [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    return tuple(dict.fromkeys(Path(folder).resolve() for folder in folders))


def expanded(path: str | Path) -> Path:
    """A path in which ~ or ~USER is the home folder, as a shell has it.

    Not every shell expands it in ``--workspace=~/runs``, and nobody wants a folder named ~. An
    unknown user's stays as it is, where ``Path.expanduser`` raises an error.
    """
    return Path(os.path.expanduser(path))  # noqa: PTH111


def data_folder() -> Path:
    """Return the folder of image stores, source models and expanded manifests.

    It is ``$HTBENCH_DATA``; default: the platform's cache folder, such as ``~/.cache/htbench``.
    """
    if folder := os.environ.get("HTBENCH_DATA"):
        return expanded(folder).resolve()
    return Path(platformdirs.user_cache_dir("htbench", appauthor=False))


def packaged_manifests() -> Path:
    """Return the folder ``data_manifests`` that ships with the benchmark, without importing it.

    Raises:
        FileNotFoundError: the installation is incomplete.
    """
    folder = ROOT / "data_manifests"
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} does not exist; reinstall holistic-transfer-bench")
    return folder


def check_space(folder: Path, size: int, need: str) -> None:
    """Check that a number of bytes fits on the disk of a folder.

    Args:
        folder: a folder that exists.
        size: bytes.
        need: the beginning of the message's second half, such as ``the images need``.

    Raises:
        StorageError: they do not fit.
    """
    free = shutil.disk_usage(folder).free
    if size > free:
        raise StorageError(
            f"{folder} has {free / 2**30:.2f} GiB free, but {need} {size / 2**30:.2f} GiB: free "
            "some space, or set HTBENCH_DATA to a folder on a larger disk"
        )


def write_whole(file: FileIO, data: bytes) -> None:
    """Write all bytes to an unbuffered file; a full disk may take a part of them without an error.

    Raises:
        OSError: the rest cannot be written.
    """
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]
