"""Removes runs from a workspace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.records import RunRecord
from benchmark.runs.workspace import Workspace


@dataclass(frozen=True)
class Removal:
    """Runs that can be removed.

    Attributes:
        runs: their records.
        kept: runs that were chosen, but that runs which were not chosen start from.
        dependents: the runs that start from these.
    """

    runs: Sequence[RunRecord]
    kept: Sequence[RunRecord]
    dependents: Sequence[RunRecord]


def plan_removal(records: Sequence[RunRecord], chosen: Callable[[RunRecord], bool]) -> Removal:
    """Choose runs to remove; a run that others start from stays unless these are chosen, too.

    Args:
        records: of all runs of a workspace.
        chosen: whether a run is to be removed.
    """
    remove = {record.key for record in records if chosen(record)}
    first = set(remove)
    while needed := remove & {_base(record) for record in records if record.key not in remove}:
        remove -= needed
    kept = [record for record in records if record.key in first - remove]
    keys = {record.key for record in kept}
    return Removal(
        [record for record in records if record.key in remove],
        kept,
        [r for r in records if r.key not in remove | keys and _base(r) in keys],
    )


def _base(record: RunRecord) -> str | None:
    """The key of the run that a run starts from."""
    base = record.made_from.get("base")
    return base if isinstance(base, str) else None


def size_of(folder: Path) -> int:
    """Bytes of the files in a run's folder; what disappears meanwhile does not count."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size
        except OSError:
            continue
    return total


def remove_runs(workspace: Workspace, keys: Sequence[str]) -> list[str]:
    """Remove the folders of runs; each disappears whole.

    Args:
        workspace: where they are; it is entered here.
        keys: of the runs.

    Returns:
        The keys of the runs that another driver is carrying out, which are left as they are.
    """
    busy = []
    with workspace:
        for key in keys:
            with workspace.claim(key) as claimed, workspace.temporary() as folder:
                if not claimed:
                    busy.append(key)
                    continue
                try:
                    workspace.folder(key).rename(folder / key)
                except FileNotFoundError:  # another command has removed it
                    continue
                workspace.note("removed", key, "")
    return busy
