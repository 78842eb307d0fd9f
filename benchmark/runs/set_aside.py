"""Moves what is damaged out of the way of a workspace's runs, without deleting it."""

from __future__ import annotations

import itertools
from pathlib import Path

from benchmark.files import make_folder
from benchmark.runs.workspace import Workspace

FOLDER = "set-aside"  # of a workspace


def set_aside(workspace: Workspace, name: str, file: str = "", *, why: str) -> Path:
    """Move an entry of ``runs``, or a file of a run, to the folder ``set-aside``.

    Args:
        workspace: entered by the caller, who has claimed the run.
        name: of the entry.
        file: relative to the entry; empty for the whole entry.
        why: for the journal.

    Returns:
        The new path.

    Raises:
        FileNotFoundError: there is no such entry.
    """
    for number in itertools.count():
        place = workspace.root / FOLDER / (f"{name}-{number}" if number else name) / file
        if not place.exists() and not place.is_symlink():
            break
    make_folder(place.parent)
    (workspace.runs / name / file).rename(place)
    workspace.note("set-aside", name, file, why=why)
    return place
