"""The results store: one row per run, computed from stored predictions, in ``results.parquet``.

Beside the row of every scored run of ``finetune`` stands one of ``gamma-star``, which is no run:
the same predictions, with the constant on the missing-class logits that the test labels say is
best.

The file is a function of the runs in the workspace. It is rebuilt under a lock and replaced by
rename; rows whose predictions and scorer have not changed are taken over from the file before.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmark.errors import RecordError, ScoringError, first
from benchmark.failpoints import reach
from benchmark.manifest import Manifest
from benchmark.records import (
    DEVICE_MEMORY,
    GAMMA_STAR,
    PREDICTIONS_FILE,
    RECORD_FILE,
    RunRecord,
    read_predictions,
)
from leaderboard import scoring
from leaderboard.scoring import Scores, match_samples, score, score_at_best_gamma

if TYPE_CHECKING:
    from numpy.typing import NDArray

RESULTS_FILE = "results.parquet"
COUNTS = ("n_seen", "n_missing")
EXCLUDED = "n_excluded"  # test samples that are in neither group of the task
METRICS = tuple(f.name for f in fields(Scores) if f.name not in COUNTS)
# Seconds and bytes differ between two runs of one key; they stand apart from what is reproducible.
MEASURED = ("adapt_seconds", "predict_seconds", "wall_seconds", "peak_memory", DEVICE_MEMORY,
            "finished")  # fmt: skip
STEPS = ("total_steps", "sequential_steps")
_SUMMED = (*STEPS, "measured_adapt_seconds")
_LARGEST = ("measured_peak_memory", f"measured_{DEVICE_MEMORY}")
CALIBRATED = "finetune"  # whose predictions gamma-star is made of
STAR_TRACK = "oracle"  # it looks at test labels
STAR_SUMMARY = "Fine-tuning plus the gamma on the missing classes that the test labels say is best."

_TEXT = ("key", "provenance", "status", "manifest", "manifest_digest", "protocol", "model",
         "recipe_digest", "source_digest", "device", "task", "method", "label", "config", "search",
         "track", "base", "predictions_sha256", "scorer_digest", "error_kind", "error_message",
         "error_traceback", "notes", "environment", "isolation")  # fmt: skip
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in _TEXT),
        ("seed", pa.int64()),
        *((name, pa.float64()) for name in METRICS),
        *((name, pa.int64()) for name in (*COUNTS, EXCLUDED)),
        *((name, pa.int64()) for name in STEPS),
        *((f"measured_{name}", pa.float64()) for name in MEASURED),
    ]
)


# What of a record's ``made_from`` the table is built on.
_MADE_FROM: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("manifest", "protocol", "source", "device", "task"), str),
    **dict.fromkeys(("model", "recipe", "config", "method"), dict),
    "seed": int,
    "base": (str, type(None)),
    "search": (dict, type(None)),
}
# What the board says of a search that chose the settings.
_SEARCH: dict[str, type] = {"by": str, "folds": int, "steps": int, "chosen": dict, "tried": list}


def update_results(workspace: Path, manifests: Iterable[Manifest]) -> pa.Table:
    """Bring ``results.parquet`` of a workspace up to date with its runs.

    Args:
        workspace: folder with ``runs/<key>/``.
        manifests: those at hand. A run of another one keeps the scores it had, or has none.

    Returns:
        One row per run, and one of ``gamma-star`` per scored run of ``finetune``, with the columns
        of ``SCHEMA``, in the order of the keys. The cost of a run that starts from another includes
        the other's: steps and seconds of adapting are added, peak memory is the largest. What all
        methods share is not counted: see ``RunRecord.cost``.

    Raises:
        RecordError: a record or predictions file cannot be trusted.
        ScoringError: predictions cannot be scored.
    """
    from filelock import FileLock

    if not (workspace / "runs").is_dir():
        return SCHEMA.empty_table()
    with FileLock(workspace / f".{RESULTS_FILE}.lock"):
        before = _read_rows(workspace / RESULTS_FILE)
        known = {manifest.digest: manifest for manifest in manifests}
        rows = [
            _row(folder, record, before.get(record.key), known)
            for folder, record in _runs(workspace)
        ]
        rows += _stars(rows, workspace, before, known)
        rows.sort(key=lambda row: str(row["key"]))
        _add_cost_of_bases(rows)
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        if rows != list(before.values()):
            _replace(workspace / RESULTS_FILE, table)
    return table


@dataclass(frozen=True)
class TaskScores(Scores):
    """The scores of a run on a task, some of whose test samples may not count."""

    n_excluded: int  # test samples of classes in neither group, left out of all metrics


def score_predictions(path: Path, manifest: Manifest, task_id: str) -> TaskScores:
    """Score a predictions file against the labels of a task.

    The file holds every test sample of the target. Those of classes that the task has in neither
    group (see :class:`benchmark.manifest.Task`) are left out of all metrics and counted in
    ``n_excluded``; their columns stay, so that a prediction can still be wrong with them.

    Raises:
        RecordError: the file cannot be read as predictions.
        ScoringError: unknown, duplicate or missing sample ids, wrong width, bad logits.
    """
    task = manifest.task(task_id)
    logits, labels = read_scored(path, manifest, task_id)
    try:
        scores = score(logits, labels, manifest.seen_mask(task))
    except ScoringError as error:
        raise ScoringError(f"{path}: {error}") from None
    return _of_task(scores, manifest, task_id)


def star_of_predictions(path: Path, manifest: Manifest, task_id: str) -> tuple[float, TaskScores]:
    """Gamma* of a predictions file, and its scores there: see ``scoring.score_at_best_gamma``.

    Args and errors are those of :func:`score_predictions`.
    """
    logits, labels = read_scored(path, manifest, task_id)
    mask = manifest.seen_mask(manifest.task(task_id))
    gamma, scores = score_at_best_gamma(logits, labels, mask)
    return gamma, _of_task(scores, manifest, task_id)


def _of_task(scores: Scores, manifest: Manifest, task_id: str) -> TaskScores:
    n_test = len(manifest.samples(manifest.task(task_id).target, "test").ids)
    return TaskScores(**vars(scores), n_excluded=n_test - scores.n_seen - scores.n_missing)


def read_scored(
    path: Path, manifest: Manifest, task_id: str
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Read the predictions of a task for the test samples that count.

    Returns:
        Logits (N, C) and labels (N,) of the samples of seen and missing classes, in the order of
        the manifest.

    Raises:
        RecordError: the file cannot be read as predictions.
        ScoringError: unknown, duplicate or missing sample ids; samples that do not count have
            NaN or infinite logits.
    """
    task = manifest.task(task_id)
    test = manifest.samples(task.target, "test")
    ids, logits = read_predictions(path)
    try:
        order = match_samples(ids, test.ids)
    except ScoringError as error:
        raise ScoringError(f"{path}: {error}") from None
    counts = (manifest.seen_mask(task) | manifest.missing_mask(task))[test.labels]
    rest = order[~counts]
    if (bad := np.flatnonzero(~np.isfinite(logits[rest]).all(axis=1))).size:
        names = [ids[row] for row in rest[bad]]
        raise ScoringError(f"{path}: NaN or infinite logits of {first(names)}; fix the model")
    return logits[order[counts]], test.labels[counts]


def scorer_digest() -> str:
    """SHA-256 of the code that computes the metrics: another scorer, another row."""
    return hashlib.sha256(Path(scoring.__file__).read_bytes()).hexdigest()


def _runs(workspace: Path) -> Iterator[tuple[Path, RunRecord]]:
    for path in sorted((workspace / "runs").glob(f"[0-9a-f]*/{RECORD_FILE}")):
        record = RunRecord.read(path.parent)
        if path.parent.name != record.key:
            raise RecordError(f"{path} has key {record.key}, which is not its folder's name")
        _check_made_from(record, path)
        yield path.parent, record


def _check_made_from(record: RunRecord, path: Path) -> None:
    """The key covers ``made_from`` only: what the table shows must agree with it."""
    made = record.made_from
    for name, kind in _MADE_FROM.items():
        if not isinstance(made.get(name), kind):
            raise RecordError(f"{path}: made_from has no {name}")
    for name, kind in _SEARCH.items() if made.get("search") else ():
        if not isinstance(made["search"].get(name), kind):
            raise RecordError(f"{path}: the search that chose the settings has no {name}")
    for entry in (made.get("search") or {}).get("tried", ()):
        if not (isinstance(entry, dict) and isinstance(entry.get("settings"), dict)):
            raise RecordError(f"{path}: the search that chose the settings tried {entry!r:.100}")
    shown = (record.task, record.seed, record.config, record.method, record.label.split("(")[0])
    name = made["method"].get("name")
    if shown != (made["task"], made["seed"], made["config"], name, name):
        raise RecordError(
            f"{path}: task, seed, method, label or config are not what the run was made from; "
            "the file was changed: delete the run's folder and run it again"
        )


def _row(
    folder: Path,
    record: RunRecord,
    before: dict[str, Any] | None,
    known: Mapping[str, Manifest],
) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(SCHEMA.names)
    made = record.made_from
    error = record.error or {}
    row |= {
        "key": record.key,
        "provenance": "local",
        "status": record.status,
        "manifest": record.manifest,
        "manifest_digest": made["manifest"],
        "protocol": made["protocol"],
        "model": _json(made["model"]),
        "recipe_digest": hashlib.sha256(_json(made["recipe"]).encode()).hexdigest(),
        "source_digest": made["source"],
        "device": made["device"],
        "task": record.task,
        "method": record.method,
        "label": record.label,
        "config": _json(record.config),
        "search": _json(made["search"]) if "search" in made else None,
        "track": record.track,
        "base": made["base"],
        "seed": record.seed,
        "predictions_sha256": record.predictions_sha256,
        "error_kind": error.get("kind"),
        "error_message": error.get("message"),
        "error_traceback": error.get("traceback"),
        "environment": _json(record.environment),
        "isolation": _json(list(record.isolation)),
        "notes": _json(list(record.notes)),
        **{name: record.cost.get(name) for name in STEPS},
        **{f"measured_{name}": record.cost.get(name) for name in MEASURED},
    }
    if record.status == "ok":
        row |= _scored(folder, record, before, known)
    # Half a surrogate pair (a file name in an error message) has no UTF-8.
    return {k: v.encode(errors="replace").decode() if isinstance(v, str) else v
            for k, v in row.items()}  # fmt: skip


def star_key(key: str) -> str:
    """The key of the row of ``gamma-star`` that is made of a run's predictions."""
    return hashlib.sha256(_json({"base": key, "method": GAMMA_STAR}).encode()).hexdigest()


def _stars(
    rows: Iterable[Mapping[str, Any]],
    workspace: Path,
    before: Mapping[str, dict[str, Any]],
    known: Mapping[str, Manifest],
) -> Iterator[dict[str, Any]]:
    """A row of ``gamma-star`` for every scored run of ``finetune``; of its own it costs nothing."""
    for row in rows:
        if row["method"] != CALIBRATED or row["overall"] is None:
            continue
        key = star_key(row["key"])
        if scored := _star_scores(row, workspace, before.get(key), known):
            yield {
                **row,
                **dict.fromkeys((*STEPS, *(f"measured_{name}" for name in MEASURED))),
                "key": key,
                "method": GAMMA_STAR,
                "label": star_label(row["label"]),
                "track": STAR_TRACK,
                "base": row["key"],
                "notes": _json([]),
                "measured_finished": row["measured_finished"],
                **scored,
            }


def star_label(label: str) -> str:
    """The label of the row beside a run of ``finetune``: the same settings, if there are any."""
    return GAMMA_STAR + label.removeprefix(CALIBRATED)


def _star_scores(
    base: Mapping[str, Any],
    workspace: Path,
    before: Mapping[str, Any] | None,
    known: Mapping[str, Manifest],
) -> dict[str, Any]:
    """Gamma* and the metrics there; from the row before if nothing they depend on has changed."""
    kept = ("predictions_sha256", "scorer_digest")
    if before is not None and all(before[name] == base[name] for name in kept):
        return {name: before[name] for name in ("config", *METRICS)}
    manifest = known.get(base["manifest_digest"])
    if manifest is None:
        return {}
    path = _predictions(workspace / "runs" / base["key"], base["predictions_sha256"])
    gamma, scores = star_of_predictions(path, manifest, base["task"])
    return {**scores.as_dict(), "config": _json({"gamma": gamma})}


def _add_cost_of_bases(rows: list[dict[str, Any]]) -> None:
    """What a method costs is all that it takes from the source model on."""
    names = (*_SUMMED, *_LARGEST)
    own = {row["key"]: {name: row[name] for name in names} for row in rows}
    bases = {row["key"]: row["base"] for row in rows}
    for row in rows:
        chain = [row["key"]]
        while bases[chain[-1]] in own:
            chain.append(bases[chain[-1]])
        for name in names:
            values = [own[key][name] for key in chain if own[key][name] is not None]
            row[name] = (max if name in _LARGEST else sum)(values) if values else None


def _scored(
    folder: Path,
    record: RunRecord,
    before: dict[str, Any] | None,
    known: Mapping[str, Manifest],
) -> dict[str, Any]:
    """The metrics of a run: from the row before if nothing they depend on has changed."""
    scorer = scorer_digest()
    if (
        before is not None
        and before["predictions_sha256"] == record.predictions_sha256
        and before["scorer_digest"] == scorer
    ):
        return {name: before[name] for name in ("scorer_digest", *METRICS, *COUNTS, EXCLUDED)}
    path = _predictions(folder, record.predictions_sha256)
    manifest = known.get(record.made_from["manifest"])
    if manifest is None:
        return {}
    return {"scorer_digest": scorer, **score_predictions(path, manifest, record.task).as_dict()}


def _predictions(folder: Path, sha256: str | None) -> Path:
    """The predictions file of a run, which is as the run wrote it.

    Raises:
        RecordError: it is not, or it is gone.
    """
    path = folder / PREDICTIONS_FILE
    if not path.is_file() or _sha256(path) != sha256:
        raise RecordError(
            f"{path} is not the file that the run wrote (its SHA-256 differs); "
            "delete the run's folder and run it again"
        )
    return path


def _read_rows(path: Path) -> dict[str, dict[str, Any]]:
    """The rows of a results file by key; none if it is absent, damaged or of another schema."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException):
        return {}
    if table.schema.names != SCHEMA.names:
        return {}
    return {row["key"]: row for row in table.to_pylist()}


def _replace(path: Path, table: pa.Table) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    os.close(handle)
    try:
        pq.write_table(table, name)
        Path(name).chmod(0o644)
        reach("results-written")
        Path(name).replace(path)
        reach("results-replaced")
    finally:
        Path(name).unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
