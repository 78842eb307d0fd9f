"""Remove folders, however deeply others are nested in them."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

LEVELS = 10  # of folders that are removed at once; with names of 255 bytes a path holds 16


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
