"""The results store ``results.parquet``: one row per run, scored from its stored predictions.

The file is derived entirely from the runs in the workspace. It is rebuilt under a lock and replaced
atomically. Scores are reused from the previous file if neither the predictions nor the scoring code
has changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from benchmark.errors import RecordError
from benchmark.failpoints import reach
from benchmark.files import atomic_path
from benchmark.manifest.manifest import Manifest
from benchmark.records import DEVICE_MEMORY, RECORD_FILE, RunRecord
from leaderboard import gamma_star
from leaderboard.predictions import score_predictions, scorer_digest, verified_predictions
from leaderboard.rows import (
    COUNTS,
    EXCLUDED,
    METRICS,
    SCHEMA,
    STEPS,
    Row,
    check_record,
    row_of_record,
)

RESULTS_FILE = "results.parquet"
# How the cost of a base run is added to that of the run that starts from it.
_ADDED = (*STEPS, "measured_adapt_seconds")
_LARGEST = ("measured_peak_memory", f"measured_{DEVICE_MEMORY}")


def update_results(workspace: Path, manifests: Iterable[Manifest]) -> pa.Table:
    """Update ``results.parquet`` of a workspace from its runs.

    Args:
        workspace: folder with ``runs/<key>/``.
        manifests: the manifests whose runs to score. Runs of other manifests keep their previous
            scores, if they have any.

    Returns:
        One row per run and per derived row (see ``gamma_star.py``), with the columns of
        ``SCHEMA``, sorted by key. The cost of a run that starts from another run includes that
        run's cost: steps and adaptation seconds are summed, and peak memory is the maximum. Work
        that all methods share is not counted; see ``RunRecord.cost``.

    Raises:
        RecordError: a record or predictions file cannot be trusted.
        ScoringError: predictions cannot be scored.
    """
    if not (workspace / "runs").is_dir():
        return SCHEMA.empty_table()
    with FileLock(workspace / f".{RESULTS_FILE}.lock"):
        previous = _read_rows(workspace / RESULTS_FILE)
        by_digest = {manifest.digest: manifest for manifest in manifests}
        rows = [
            row_of_record(record) | _scores(folder, record, previous.get(record.key), by_digest)
            for folder, record in _read_records(workspace)
        ]
        rows += gamma_star.derive_rows(rows, workspace, previous, by_digest)
        rows.sort(key=lambda row: str(row["key"]))
        _add_base_costs(rows)
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        if rows != list(previous.values()):
            with atomic_path(workspace / RESULTS_FILE) as path:
                pq.write_table(table, path)
                reach("results-written")
            reach("results-replaced")
    return table


def _read_records(workspace: Path) -> Iterator[tuple[Path, RunRecord]]:
    """Folders and checked records of all runs, sorted by folder."""
    for path in sorted((workspace / "runs").glob(f"[0-9a-f]*/{RECORD_FILE}")):
        record = RunRecord.read(path.parent)
        if path.parent.name != record.key:
            raise RecordError(
                f"{path} has the key {record.key}, which does not match the name of its folder; "
                "delete the folder and run it again"
            )
        check_record(record, path)
        yield path.parent, record


def _scores(
    folder: Path, record: RunRecord, previous: Row | None, manifests: Mapping[str, Manifest]
) -> dict[str, Any]:
    """The metrics of a run, from its previous row if nothing that they depend on has changed."""
    if record.status != "ok":
        return {}
    scorer = scorer_digest()
    if (
        previous is not None
        and previous["predictions_sha256"] == record.predictions_sha256
        and previous["scorer_digest"] == scorer
    ):
        return {name: previous[name] for name in ("scorer_digest", *METRICS, *COUNTS, EXCLUDED)}
    path = verified_predictions(folder, record.predictions_sha256)
    manifest = manifests.get(record.made_from["manifest"])
    if manifest is None:
        return {}
    return {"scorer_digest": scorer, **score_predictions(path, manifest, record.task).as_dict()}


def _add_base_costs(rows: list[dict[str, Any]]) -> None:
    """Add to each row the cost of the runs that it starts from, so that it counts everything."""
    names = (*_ADDED, *_LARGEST)
    own = {row["key"]: {name: row[name] for name in names} for row in rows}
    bases = {row["key"]: row["base"] for row in rows}
    for row in rows:
        chain = [row["key"]]
        while bases[chain[-1]] in own:
            chain.append(bases[chain[-1]])
        for name in names:
            values = [own[key][name] for key in chain if own[key][name] is not None]
            row[name] = (max if name in _LARGEST else sum)(values) if values else None


def _read_rows(path: Path) -> dict[str, dict[str, Any]]:
    """The rows of a results file by key; none if it is missing, damaged or of another schema."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException):
        return {}
    if table.schema.names != SCHEMA.names:
        return {}
    return {row["key"]: row for row in table.to_pylist()}
