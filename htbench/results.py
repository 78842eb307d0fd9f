"""Access a workspace's results from Python: rows, leaderboards and single runs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.errors import UsageError, first
from benchmark.isolation.conversation import OUTPUT_FILE
from benchmark.manifest.catalogue import load_manifest, published_manifests
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite, load_suite
from benchmark.methods.files import is_kept
from benchmark.networks.names import network_label
from benchmark.records import PREDICTIONS_FILE, RECORD_FILE, RunRecord
from benchmark.runs.workspace import Workspace
from leaderboard import gamma_star
from leaderboard.board import Board, build_boards
from leaderboard.per_class import per_class
from leaderboard.predictions import read_logits_and_labels, score_predictions
from leaderboard.results import update_results

if TYPE_CHECKING:
    import pandas as pd


def load_results(
    workspace: str | Path = "workspace", manifest: str | Path | Manifest | None = None
) -> pd.DataFrame:
    """Score all unscored runs of a workspace and return its rows.

    Args:
        workspace: its folder.
        manifest: also score runs of this manifest (a reference, a folder or a loaded one).
            Runs of published manifests are always scored.

    Returns:
        One row per run, plus a gamma-star row per scored run of ``finetune``. The columns are those
        of ``results.parquet``: ``key``, ``task``, ``method``, ``seed``, ``status``, ``overall``,
        ``seen`` and ``missing`` (accuracies in per cent), costs, and the run's inputs.

    Raises:
        RecordError: a record or a predictions file is damaged.
        ManifestError: the manifest does not exist or breaks a rule.

    Example:
        >>> rows = load_results("workspace")
        >>> rows.groupby("method")[["seen", "missing"]].mean()
    """
    manifests = [load_manifest(reference) for reference in published_manifests()]
    if manifest is not None:
        manifests.append(manifest if isinstance(manifest, Manifest) else load_manifest(manifest))
    table = update_results(Workspace(Path(workspace)).root, manifests)
    frame: pd.DataFrame = table.to_pandas()
    return frame


def suite_boards(suite: Suite, workspace: Workspace) -> list[Board]:
    """Score new runs and return the leaderboards of a suite; empty if no run has finished."""
    manifest = load_manifest(suite.manifest)
    return build_boards(suite, manifest, update_results(workspace.root, [manifest]))


def run_rows(suite: Suite, workspace: Workspace) -> list[dict[str, Any]]:
    """Return a workspace's runs of a suite: their names, status, accuracies and seconds."""
    manifest = load_manifest(suite.manifest)
    columns = ("key", "task", "label", "seed", "status", "overall", "seen", "missing")
    rows = [
        {
            **{name: row[name] for name in columns},
            "network": network_label(json.loads(row["model"])),
            "seconds": row["measured_wall_seconds"],
        }
        for row in update_results(workspace.root, [manifest]).to_pylist()
        if row["manifest_digest"] == manifest.digest
    ]
    order = ("network", "task", "label", "seed", "key")
    return sorted(rows, key=lambda row: tuple(row[name] for name in order))


def find_run(name: str, root: Path) -> Path:
    """The folder of a run.

    Args:
        name: its folder, its key, or the beginning of its key.
        root: the workspace.

    Raises:
        UsageError: no run or several runs match.
    """
    if (Path(name) / RECORD_FILE).is_file():
        return Path(name)
    if not name or not set(name) <= set("0123456789abcdef"):
        raise UsageError(
            f"{name!r} is not a predictions file, a run's folder, or the beginning of a run's key"
        )
    workspace = Workspace(root)
    matches = [path.parent for path in sorted(workspace.runs.glob(f"{name}*/{RECORD_FILE}"))]
    if len(matches) > 1:
        keys = first(folder.name[:12] for folder in matches)
        raise UsageError(
            f"{name!r} matches {len(matches)} runs: {keys}; give more characters of the key"
        )
    if not matches:
        gamma_star.refuse_key(name, workspace.runs)
        raise UsageError(
            f"no run in {workspace.runs} has a key that begins with {name!r}; check "
            "the key with `htbench list runs`, or choose another workspace with "
            "--workspace"
        )
    return matches[0]


def manifest_of_run(record: RunRecord, suite: str) -> Manifest:
    """Find the manifest of a run by its digest, among the suite's and the published manifests.

    Raises:
        UsageError: neither has that digest.
    """
    references = [load_suite(suite).manifest]
    references += [r for r in published_manifests() if r == record.manifest]
    for reference in references:
        manifest = load_manifest(reference)
        if manifest.digest == record.made_from["manifest"]:
            return manifest
    raise UsageError(
        f"run {record.key[:12]} used {record.manifest} with digest "
        f"{record.made_from['manifest'][:12]}, and no manifest with that digest was "
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
    if path.is_file():
        if task is None:
            raise UsageError(f"{run} is a predictions file; give its task with --task")
        manifest = load_manifest(load_suite(suite).manifest)
        facts = {"predictions": run, "manifest": manifest.reference, "task": task}
        return facts, score_predictions(path, manifest, task).as_dict()
    folder = find_run(run, workspace)
    record = RunRecord.read(folder)
    key = record.key[:12]
    if record.status != "ok":
        message = (record.error or {}).get("message", "")
        state = "failed" if record.status == "failed" else "is not applicable"
        raise UsageError(f"run {key} {state} and has no predictions: {message}")
    if task not in (None, record.task):
        raise UsageError(f"run {key} belongs to task {record.task}, not {task}; remove --task")
    manifest = manifest_of_run(record, suite)
    facts = {
        "run": record.key,
        "manifest": record.manifest,
        "task": record.task,
        "method": record.label,
        "seed": str(record.seed),
    }
    return facts, score_predictions(folder / PREDICTIONS_FILE, manifest, record.task).as_dict()


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
    """

    folder: Path
    record: RunRecord
    scores: dict[str, Any]
    gamma_star: dict[str, Any]
    classes: list[dict[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        """The record's fields, ``scores``, ``gamma_star`` and ``classes``."""
        return {
            **dataclasses.asdict(self.record),
            "scores": self.scores,
            "gamma_star": self.gamma_star,
            "classes": self.classes,
        }

    def code(self) -> list[tuple[str, bool]]:
        """The method's files in the run's key: name, and whether the run's folder keeps the file.

        A kept file whose digest is not the recorded one does not count.
        """
        match self.record.made_from:
            case {"method": {"code": {"files": [*files]}}}:
                pairs = [entry for entry in files if isinstance(entry, list) and len(entry) == 2]
                return [(str(name), is_kept(self.folder, str(name), sha)) for name, sha in pairs]
        return []

    def last_output(self, count: int) -> list[str]:
        """The last lines that the run printed, which are untrusted text; empty if none."""
        file = self.folder / OUTPUT_FILE
        if not file.is_file():
            return []
        return file.read_text("utf-8", errors="replace").splitlines()[-count:]


def run_details(run: str, suite: str, workspace: Path) -> RunDetails:
    """Read and score one run; see :func:`find_run` and :func:`manifest_of_run`."""
    folder = find_run(run, workspace)
    record = RunRecord.read(folder)
    if record.status != "ok":
        return RunDetails(folder, record, {}, {}, [])
    manifest = manifest_of_run(record, suite)
    task = manifest.task(record.task)
    path = folder / PREDICTIONS_FILE
    scores = score_predictions(path, manifest, record.task).as_dict()
    derived = gamma_star.scores_to_show(record, path, manifest)
    logits, labels = read_logits_and_labels(path, manifest, record.task)
    rows = per_class(logits, labels, manifest.seen_mask(task), manifest.classes)
    return RunDetails(folder, record, scores, derived, [dataclasses.asdict(row) for row in rows])
