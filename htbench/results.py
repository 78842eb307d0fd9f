"""Access a workspace's results from Python: rows, leaderboards and single runs."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.commands import command
from benchmark.errors import MAX_ITEM, MAX_MESSAGE, HTBenchError, ManifestError, UsageError, first
from benchmark.files import open_regular
from benchmark.isolation.conversation import OUTPUT_FILE
from benchmark.manifest.catalogue import load_manifest, published_manifests, shown_reference
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite, load_suite, manifest_of
from benchmark.methods.files import is_kept
from benchmark.networks.names import network_label
from benchmark.records import RECORD_FILE, RunRecord
from benchmark.run_folders import run_folders
from benchmark.runs.verify import code_files
from benchmark.runs.workspace import Workspace
from benchmark.text import one_line, plural, time_of
from leaderboard import gamma_star
from leaderboard.board import Board, build_boards
from leaderboard.conditions import with_comparisons
from leaderboard.filters import check_known, is_method
from leaderboard.outcome_files import WorkspaceOutcomes
from leaderboard.per_class import per_class
from leaderboard.predictions import read_run as read_predictions
from leaderboard.predictions import score_predictions, score_run
from leaderboard.replicate_files import ReplicateFiles
from leaderboard.results import Report, known_runs, update_results
from leaderboard.rows import Row, check_record, rows_of_table

if TYPE_CHECKING:
    import pandas as pd

    from leaderboard.render.figures.request import LogOf

MAX_PROBLEMS = 10  # folders that are named; the others are counted
KEY_DIGITS = 64  # of a run's key, which is a SHA-256 in hex
OUTPUT_BYTES = 64 << 10  # of what a run printed, from the end


def load_results(
    workspace: str | Path = "workspace", manifest: str | Path | Manifest | None = None
) -> pd.DataFrame:
    """Score all unscored runs of a workspace and return its rows.

    Args:
        workspace: its folder.
        manifest: also score runs of this manifest (a reference, a folder or a loaded one).
            Runs of published manifests are always scored.

    Returns:
        One row per run, whatever the version of its method's code, plus a gamma-star row per scored
        run of ``finetune``. The columns are those of ``results.parquet``: ``key``, ``task``,
        ``method``, ``method_code`` (a digest), ``label``, ``seed``, ``status``, ``overall``,
        ``seen`` and ``missing`` (accuracies in per cent), costs, and the run's inputs.

    Warns:
        UserWarning: runs have no row because their folders are damaged, foreign or of a later
            version, or no scores because a manifest that was added cannot be used; the warning
            names them and what to do.

    Raises:
        ManifestError: the manifest does not exist or breaks a rule.
        UsageError: there is no such folder.

    Example:
        >>> rows = load_results("workspace")
        >>> rows.groupby(["label", "method_code"])[["seen", "missing"]].mean()
    """
    root = Workspace(Path(workspace)).root
    if not root.is_dir():  # an empty frame would hide a typo
        raise UsageError(
            f"there is no folder {root}, so there are no results to load; give the workspace that "
            "your runs are in"
        )
    manifests: list[Manifest] = []
    problems: list[str] = []
    for reference in published_manifests():
        try:
            manifests.append(load_manifest(reference))
        except ManifestError as error:  # of one that the user added; other runs do not need it
            problems.append(f"new runs of {reference} are not scored: {error}")
    if manifest is not None:
        manifests.append(load_manifest(manifest))
    table = update_results(root, manifests, problems.append)
    if problems:
        warnings.warn("\n".join(shown_problems(problems)), stacklevel=2)
    frame: pd.DataFrame = table.to_pandas()
    both = list(zip(frame["manifest"], frame["manifest_digest"], strict=True))
    shown = {pair: shown_reference(*pair) for pair in set(both)}
    frame["manifest"] = [shown[pair] for pair in both]
    return frame


def shown_problems(problems: Sequence[str]) -> list[str]:
    """The sentences about folders without a row that are shown: the first ones, cut if too long.

    Each is shown once, however often the folder was read.
    """
    different = list(dict.fromkeys(problems))
    shown = [one_line(problem, MAX_MESSAGE) for problem in different[:MAX_PROBLEMS]]
    if more := len(different) - len(shown):
        shown.append(f"{plural(more, 'more folder')} in the workspace cannot be used")
    return shown


def log_reader(workspace: Workspace) -> LogOf:
    """Reads the training logs of a workspace's runs, for figures."""

    def log_of(row: Row) -> Sequence[Mapping[str, float]]:
        if row["method"] == gamma_star.NAME:  # not a run
            return ()
        return RunRecord.read(workspace.folder(row["key"]), row["key"]).log

    return log_of


def open_workspace(root: Path) -> Workspace:
    """The workspace in a folder; its runs that have a row are known to be undamaged."""
    workspace = Workspace(root, lambda: known_runs(workspace.root))
    return workspace


def suite_boards(
    suite: Suite,
    workspace: Workspace,
    report: Report = warnings.warn,
    asked: Collection[str] = (),
    *,
    manifest: Manifest | None = None,
    comparisons: bool = True,
) -> list[Board]:
    """Score new runs and return the leaderboards of a suite; empty if no run has finished.

    Args:
        suite: the suite.
        workspace: where runs are kept.
        report: called for each run's folder that cannot be used; see ``update_results``.
        asked: keys of runs whose versions are shown; see :func:`leaderboard.board.build_boards`.
        manifest: the suite's, if it was read before.
        comparisons: whether the main board has its comparisons of recipes, draws and shares.
    """
    manifest = manifest or manifest_of(suite)
    results = update_results(workspace.root, [manifest], report)
    outcomes = WorkspaceOutcomes(workspace.root, manifest)
    boards = build_boards(suite, manifest, results, asked, outcomes, ReplicateFiles(workspace.root))
    if comparisons:
        boards = with_comparisons(boards, suite, manifest, results)
    return [dataclasses.replace(b, workspace_option=workspace.option) for b in boards]


def run_rows(
    suite: Suite,
    workspace: Workspace,
    report: Report = warnings.warn,
    *,
    task: Collection[str] = (),
    method: Collection[str] = (),
    seed: Collection[int] = (),
    status: Collection[str] = (),
) -> list[dict[str, Any]]:
    """Return a workspace's runs of a suite: names, status, code, accuracies, seconds and time.

    Args:
        suite: the suite; other tasks and recipes of its manifest are listed, too.
        workspace: where runs are kept.
        report: called for each run's folder that cannot be used; see ``update_results``.
        task, method, seed, status: return only runs with one of these; all if empty. A method is
            a name or a label.

    Raises:
        UsageError: the manifest has no such task, or the workspace no runs of the method.
    """
    manifest = manifest_of(suite)
    for name in task:
        manifest.task(name)
    columns = (
        *("key", "task", "label", "seed", "status", "method_code"),
        *("overall", "seen", "missing"),
    )
    shown = shown_reference(manifest.reference, manifest.digest)
    every = [
        row
        for row in rows_of_table(update_results(workspace.root, [manifest], report))
        if row["manifest_digest"] == manifest.digest
    ]
    for name in method:
        check_known(name, sorted({row["label"] for row in every}))
    rows = [
        {
            **{name: row[name] for name in columns},
            "manifest": shown,
            "network": network_label(json.loads(row["model"])),
            "seconds": row["measured_wall_seconds"],
            "finished": _iso_time(row["measured_finished"]),
        }
        for row in every
        if is_method(row["label"], method)
        and (not task or row["task"] in task)
        and (not seed or row["seed"] in seed)
        and (not status or row["status"] in status)
    ]
    order = ("network", "task", "label", "seed", "key")
    return sorted(rows, key=lambda row: tuple(row[name] for name in order))


def _iso_time(seconds: float | None) -> str | None:
    """A time in seconds since 1970 as ISO 8601 in UTC; None for a derived row, or a time that
    no calendar has."""
    time = None if seconds is None else time_of(seconds)
    return None if time is None else f"{time:%FT%TZ}"


def find_run(name: str, root: Path, suite: str) -> Path:
    """The folder of a run.

    Args:
        name: its folder, its key, or the beginning of its key.
        root: the workspace.
        suite: the suite that the user named, for messages.

    Raises:
        UsageError: no run or several runs match.
    """
    if _exists(Path(name) / RECORD_FILE):
        return Path(name)
    workspace = Workspace(root)
    options = ("--suite", suite, *workspace.option)
    runs = f"`{command('list', 'runs', *options)}`"
    if not 0 < len(name) <= KEY_DIGITS or not set(name) <= set("0123456789abcdef"):
        raise UsageError(
            f"{one_line(repr(name), MAX_ITEM)} is neither an existing file or run's folder nor the "
            f"beginning of a run's key; {runs} shows the keys"
        )
    matches = sorted(key for key in run_folders(workspace.runs).keys if key.startswith(name))
    if len(matches) > 1:
        keys = first(key[:12] for key in matches)
        raise UsageError(
            f"{name!r} matches {len(matches)} runs: {keys}; give more characters of the key"
        )
    if not matches:
        gamma_star.refuse_key(name, workspace.runs, options)
        raise UsageError(
            f"no run in {workspace.runs} has a key that begins with {name!r}; check the key with "
            f"{runs}, or choose another workspace with --workspace"
        )
    return workspace.folder(matches[0])


def read_run(folder: Path) -> RunRecord:
    """Read and check a run's record; its folder may have any name.

    Raises:
        RecordError: it cannot be used; the message says what to do.
    """
    record = RunRecord.read(folder)
    check_record(record, folder / RECORD_FILE)
    return record


def _exists(path: Path) -> bool:
    """Whether there is anything at a path; a text that is too long for a path is not one."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise
    return True


def manifest_of_run(record: RunRecord, suite: str) -> Manifest:
    """Find the manifest of a run by its digest, among the suite's and the published manifests.

    Raises:
        UsageError: neither has that digest.
    """
    references = [load_suite(suite).manifest]
    references += [r for r in published_manifests() if r == record.manifest]
    for reference in references:
        manifest = load_manifest(reference)
        if manifest.digest == record.made_from.get("manifest"):
            return manifest
    digest = one_line(record.made_from.get("manifest"), 12)
    raise UsageError(
        f"run {record.key[:12]} used {one_line(record.manifest, MAX_ITEM)} with digest "
        f"{digest}, and no manifest with that digest was "
        "found; give the run's suite with --suite"
    )


def score_of(
    run: str, suite: str, workspace: Path, task: str | None = None
) -> tuple[dict[str, str], dict[str, Any]]:
    """Score a run or a predictions file; return a description of it and its metrics.

    Args:
        run: a run (see :func:`find_run`) or a predictions file.
        suite: the suite of its manifest.
        workspace: the folder that contains the runs.
        task: the task of a predictions file.

    Returns:
        Facts that say what was scored, by name, and the metrics, by name.

    Raises:
        UsageError: the run does not exist or has no predictions, or the task is wrong.
    """
    path = Path(run)
    if _exists(path) and not path.is_dir():
        if task is None:
            raise UsageError(f"{run} is a predictions file; give its task with --task")
        manifest = manifest_of(load_suite(suite))
        shown = shown_reference(manifest.reference, manifest.digest)
        facts = {"predictions": run, "manifest": shown, "task": task}
        return facts, score_predictions(path, manifest, task).as_dict()
    folder = find_run(run, workspace, suite)
    record = read_run(folder)
    key = record.key[:12]
    if record.status != "ok":
        message = one_line((record.error or {}).get("message", ""), MAX_MESSAGE)
        state = "failed" if record.status == "failed" else "is not applicable"
        raise UsageError(f"run {key} {state} and has no predictions: {message}")
    if task not in (None, record.task):
        raise UsageError(f"run {key} belongs to task {record.task}, not {task}; remove --task")
    manifest = manifest_of_run(record, suite)
    facts = {
        "run": record.key,
        "manifest": shown_reference(record.manifest, manifest.digest),
        "task": record.task,
        "method": record.label,
        "seed": str(record.seed),
    }
    digest = record.predictions_sha256
    return facts, score_run(folder, digest, manifest, record.task).scores.as_dict()


@dataclasses.dataclass(frozen=True)
class RunDetails:
    """Everything about one run.

    Attributes:
        folder: its folder.
        record: its record.
        scores: metrics by name; empty if it has no predictions.
        gamma_star: the metrics of the gamma-star row derived from the run, and its ``gamma``; empty
            if there is none.
        classes: accuracy and the most frequent confusion of each class.
        problem: why a run that succeeded could not be scored; None if it was.
    """

    folder: Path
    record: RunRecord
    scores: dict[str, Any]
    gamma_star: dict[str, Any]
    classes: list[dict[str, Any]]
    problem: HTBenchError | None = None

    @property
    def manifest(self) -> str:
        """The manifest's name and version, and whether it was changed."""
        digest = str(self.record.made_from.get("manifest"))
        return shown_reference(self.record.manifest, digest)

    def as_dict(self) -> dict[str, Any]:
        """The record's fields, ``scores``, ``gamma_star`` and ``classes``."""
        return {
            **vars(self.record),
            "manifest": self.manifest,
            "scores": self.scores,
            "gamma_star": self.gamma_star,
            "classes": self.classes,
        }

    def code(self) -> list[tuple[str, bool]]:
        """The method's files in the run's key: name, and whether the run's folder keeps the file.

        A kept file whose digest is not the recorded one does not count.
        """
        files = code_files(self.record)
        return [(name, is_kept(self.folder, name, digest)) for name, digest in files]

    def last_output(self, count: int) -> list[str]:
        """The last lines that the run printed; see :func:`last_output`."""
        return last_output(self.folder, count)


def last_output(folder: Path, count: int) -> list[str]:
    """The last lines that a run printed, which are untrusted text; empty if none."""
    try:
        with open_regular(folder / OUTPUT_FILE) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - OUTPUT_BYTES))
            return file.read(OUTPUT_BYTES).decode(errors="replace").splitlines()[-count:]
    except OSError:
        return []


def run_details(run: str, suite: str, workspace: Path) -> RunDetails:
    """Read and score one run; see :func:`find_run` and :func:`manifest_of_run`."""
    folder = find_run(run, workspace, suite)
    record = RunRecord.read(folder)
    if record.status != "ok":
        return RunDetails(folder, record, {}, {}, [])
    try:
        return _scored_details(folder, record, suite)
    except HTBenchError as problem:
        return RunDetails(folder, record, {}, {}, [], problem)


def _scored_details(folder: Path, record: RunRecord, suite: str) -> RunDetails:
    manifest = manifest_of_run(record, suite)
    task = manifest.task(record.task)
    digest = record.predictions_sha256
    scores = score_run(folder, digest, manifest, record.task).scores.as_dict()
    derived = gamma_star.scores_to_show(record, folder, manifest)
    logits, labels = read_predictions(folder, digest, manifest, record.task)
    rows = per_class(logits, labels, manifest.seen_mask(task), manifest.classes)
    return RunDetails(folder, record, scores, derived, [dataclasses.asdict(row) for row in rows])
