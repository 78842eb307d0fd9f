"""What is in a workspace, what is wrong with it, and the repair of what can be repaired."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmark.errors import HTBenchError, ManifestError, RecordError, UsageError
from benchmark.files import discard
from benchmark.manifest.catalogue import load_manifest, published_manifests
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import load_suite, manifest_of
from benchmark.progress import Progress
from benchmark.records import NewerRecordError
from benchmark.run_folders import run_folders
from benchmark.runs.drivers import driver_folders, driver_of, may_be_swept
from benchmark.runs.remove import size_of
from benchmark.runs.set_aside import FOLDER as SET_ASIDE
from benchmark.runs.set_aside import set_aside
from benchmark.runs.verify import verify_run
from benchmark.runs.workspace import TUNING_FOLDER, Workspace
from benchmark.text import plural
from leaderboard.outcome_files import useless_outcomes
from leaderboard.replicate_files import useless_replicates
from leaderboard.results import RESULTS_FILE, update_results
from leaderboard.results_file import is_damaged
from leaderboard.rows import check_record

Steps = Callable[[str], Progress]


@dataclass(frozen=True)
class Damage:
    """Something in the folder of runs that cannot be used.

    Attributes:
        name: of the entry in ``runs``.
        file: relative to it; empty if the whole entry cannot be used.
        reason: why not.
    """

    name: str
    file: str
    reason: str


@dataclass
class RunsState:
    """The runs of a workspace, or those with which ``htbench tune`` compares settings.

    Attributes:
        statuses: how many undamaged runs have each status.
        size: bytes of all entries.
        damaged: entries and files that are damaged, or not a run's.
        newer: keys of runs that a later version wrote.
        keys: of all runs, damaged or not.
        dead: folders of drivers of this machine that were killed.
        running: number of drivers of this machine that are running.
        elsewhere: folders of drivers of other machines, dead or alive.
    """

    statuses: dict[str, int] = field(default_factory=dict)
    size: int = 0
    damaged: list[Damage] = field(default_factory=list)
    newer: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)
    running: int = 0
    elsewhere: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class WorkspaceState:
    """Everything in a workspace.

    Attributes:
        folder: its path.
        runs: its runs; ``tuning``: those of ``htbench tune``.
        results: of ``results.parquet``: ``present``, ``missing`` (it is derived) or ``damaged``.
        outcomes, intervals: number of files of outcomes, and of what intervals are computed from.
        useless: files of either that are damaged, or whose run is gone.
        set_aside: entries that a repair or a merge has set aside.
    """

    folder: str
    runs: RunsState
    tuning: RunsState
    results: str
    outcomes: int
    intervals: int
    useless: list[str]
    set_aside: int

    @property
    def repairable(self) -> int:
        """How many things a repair would change."""
        parts = (self.runs, self.tuning)
        return (
            sum(len(part.damaged) + len(part.dead) for part in parts)
            + len(self.useless)
            + (self.results == "damaged")
        )

    @property
    def is_well(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.repairable or self.runs.newer or self.tuning.newer)

    def as_dict(self) -> dict[str, Any]:
        """The state as plain values."""
        return {**asdict(self), "well": self.is_well}


def workspace_state(root: Path, steps: Steps) -> WorkspaceState:
    """Read everything in a workspace, and change nothing.

    Args:
        root: its folder.
        steps: gives a function to report the progress to.

    Raises:
        UsageError: there is no workspace.
    """
    workspace = Workspace(root)
    if not any((workspace.root / name).is_dir() for name in ("runs", "locks")):
        raise UsageError(
            f"{workspace.root} is not a workspace, because it has neither a folder runs nor locks; "
            "choose another with --workspace"
        )
    runs = _runs_state(workspace, steps)
    outcomes, of_outcomes = useless_outcomes(workspace.root, runs.keys)
    intervals, of_intervals = useless_replicates(workspace.root)
    results = workspace.root / RESULTS_FILE
    aside = workspace.root / SET_ASIDE
    return WorkspaceState(
        folder=str(workspace.root),
        runs=runs,
        tuning=_runs_state(Workspace(workspace.root / TUNING_FOLDER), steps),
        results="damaged" if is_damaged(results) else "present" if results.exists() else "missing",
        outcomes=len(outcomes),
        intervals=len(intervals),
        useless=[str(path.relative_to(workspace.root)) for path in (*of_outcomes, *of_intervals)],
        set_aside=sum(1 for _ in aside.iterdir()) if aside.is_dir() else 0,
    )


def _runs_state(workspace: Workspace, steps: Steps) -> RunsState:
    names = run_folders(workspace.runs)
    state = RunsState(keys=sorted(names.keys))
    state.damaged += [
        Damage(name, "", "its name is not the key of a run") for name in sorted(names.foreign)
    ]
    progress = steps(f"checking {workspace.runs}")
    for done, key in enumerate(state.keys, start=1):
        try:
            status, damaged = _examine(workspace, key)
        except NewerRecordError:
            state.newer.append(key)
        else:
            if status is not None:
                state.statuses[status] = state.statuses.get(status, 0) + 1
            state.damaged += damaged
        progress(done, len(state.keys))
    state.size = size_of(workspace.runs)
    for folder in driver_folders(workspace.root / "tmp"):
        driver = driver_of(folder)
        if driver is not None and not driver.is_here:
            state.elsewhere.append(folder.name)
        elif may_be_swept(folder):
            state.dead.append(folder.name)
        else:
            state.running += 1
    return state


def _examine(workspace: Workspace, key: str) -> tuple[str | None, list[Damage]]:
    """The status of a run, None if it cannot be used, and what is damaged."""
    try:
        run = verify_run(workspace.folder(key), key, check_record)
    except NewerRecordError:
        raise
    except RecordError as error:
        return None, [Damage(key, "", str(error).partition("; ")[0])]
    return run.record.status, [Damage(key, name, why) for name, why in run.damaged.items()]


def repair(root: Path, steps: Steps) -> list[str]:
    """Repair what can be repaired in a workspace; no file of a finished run is deleted.

    Damaged runs and files are moved to the folder ``set-aside``. Files of dead drivers and derived
    files that are damaged are removed, and ``results.parquet`` is written again.

    Args:
        root: its folder.
        steps: gives a function to report the progress to.

    Returns:
        One sentence for each thing that was done, or could not be.

    Raises:
        UsageError: there is no workspace.
    """
    state = workspace_state(root, steps)
    workspace = Workspace(root)
    sentences: list[str] = []
    for place, runs in (
        (workspace, state.runs),
        (Workspace(workspace.root / TUNING_FOLDER), state.tuning),
    ):
        if runs.damaged or runs.dead:
            sentences += _repair_runs(place, runs)
    _, outcomes = useless_outcomes(workspace.root, run_folders(workspace.runs).keys)
    _, intervals = useless_replicates(workspace.root)
    for path in (*outcomes, *intervals):
        discard(path)
    if outcomes:
        files = plural(len(outcomes), "file")
        sentences.append(f"removed {files} of outcomes that were damaged or of runs that are gone")
    if intervals:
        files = plural(len(intervals), "damaged file")
        sentences.append(f"removed {files} of intervals; a board that needs them makes them again")
    if state.results == "damaged":
        discard(workspace.root / RESULTS_FILE)
        update_results(workspace.root, _manifests(workspace), sentences.append)
        sentences.append(f"made {RESULTS_FILE} again")
    return sentences


def _repair_runs(workspace: Workspace, state: RunsState) -> list[str]:
    sentences = []
    with workspace:  # which sweeps what dead drivers left
        left = {path.name for path in driver_folders(workspace.root / "tmp")}
        if swept := set(state.dead) - left:
            sentences.append(f"removed what {plural(len(swept), 'killed command')} left in tmp")
        for name in dict.fromkeys(damage.name for damage in state.damaged):
            if name not in state.keys:
                damaged = [damage for damage in state.damaged if damage.name == name]
                sentences += _set_aside(workspace, damaged)
                continue
            with workspace.claim(name) as claimed:
                if claimed:  # another command may have repeated or removed the run meanwhile
                    exists = os.path.lexists(workspace.folder(name))
                    sentences += _set_aside(workspace, _examine(workspace, name)[1] * exists)
                else:
                    sentences.append(f"left {name} as it is: another process is carrying it out")
    return sentences


def _set_aside(workspace: Workspace, damaged: Sequence[Damage]) -> Iterator[str]:
    """Move what is damaged out of the way; yields a sentence for each."""
    for damage in damaged:
        place = set_aside(workspace, damage.name, damage.file, why=damage.reason)
        name = f"{damage.name}/{damage.file}" if damage.file else damage.name
        yield f"moved {name} to {place}: {damage.reason}"


def _manifests(workspace: Workspace) -> list[Manifest]:
    """The manifests of the runs, as far as they are known; other runs are scored when needed."""
    names = {record.manifest for record in workspace.records()}
    manifests = []
    for name in published_manifests():
        if name in names:
            with contextlib.suppress(ManifestError):  # the user broke it after the runs
                manifests.append(load_manifest(name))
    suite = workspace.newest_suite()
    try:
        return [*manifests, manifest_of(load_suite(suite))] if suite else manifests
    except HTBenchError:  # the suite's file is gone
        return manifests
