"""The results ``results.parquet``: one row per run, scored from its stored predictions.

The file is derived entirely from the runs in the workspace. It is rebuilt under a lock and replaced
atomically. A run is read again only if the stamp of its folder has changed; scores are computed
again only if the predictions or the scoring code have changed. A run that cannot be read or scored
has no row and is reported.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import shlex
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from filelock import FileLock

from benchmark import pool
from benchmark.errors import HTBenchError
from benchmark.files import digest_file
from benchmark.manifest.manifest import Manifest
from benchmark.records import (
    DEVICE_MEMORY,
    NOT_APPLICABLE,
    RECORD_FILE,
    RunRecord,
    repeat_run,
    verified_predictions,
)
from benchmark.run_folders import run_folders, stamp
from leaderboard import gamma_star, rows
from leaderboard.outcome_files import store_outcomes
from leaderboard.picks import Picks
from leaderboard.predictions import score_run, scorer_digest
from leaderboard.results_file import read_table, write_table
from leaderboard.rows import (
    COUNTS,
    EXCLUDED,
    METRICS,
    SCHEMA,
    STEPS,
    Row,
    check_record,
    column_values,
    row_of_record,
    rows_of_table,
)

RESULTS_FILE = "results.parquet"
PART = 250  # runs that one process reads at a time
# How the cost of a base run is added to that of the run that starts from it.
_ADDED = (*STEPS, "measured_adapt_seconds")
_LARGEST = ("measured_peak_memory", f"measured_{DEVICE_MEMORY}")
_OWN = {name: f"own_{name}" for name in (*_ADDED, *_LARGEST)}  # the same, without the base run
# The file's columns: besides the rows', the key of the run behind the row, the stamp of its folder
# when it was read, and its own cost.
STORED = pa.schema(
    [
        *SCHEMA,
        ("run", pa.string()),
        ("stamp", pa.string()),
        *((own, SCHEMA.field(name).type) for name, own in _OWN.items()),
    ]
)
_UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)

Report = Callable[[str], None]


def update_results(
    workspace: Path, manifests: Iterable[Manifest], report: Report = warnings.warn
) -> pa.Table:
    """Update ``results.parquet`` of a workspace from its runs.

    Args:
        workspace: folder with ``runs/<key>/``. If it cannot be written to, nothing is written.
        manifests: the manifests whose runs to score. Runs of other manifests keep their previous
            scores, if they have any.
        report: called for each folder that has no row, because it is damaged, not a run's, or of a
            later version of the suite, with a sentence that says why and what to do.

    Returns:
        One row per run and per derived row (see ``gamma_star.py``), with the columns of
        ``SCHEMA``, sorted by key. The cost of a run that starts from another run includes that
        run's cost: steps and adaptation seconds are summed, and peak memory is the maximum. Work
        that all methods share is not counted; see ``RunRecord.cost``.
    """
    runs = workspace / "runs"
    if not runs.is_dir():
        return SCHEMA.empty_table()
    with _locked(workspace) as writable:
        stored, made_by = read_table(workspace / RESULTS_FILE, STORED)
        names = run_folders(runs)
        for name in sorted(names.foreign):
            report(
                f"{runs / name} is not the folder of a run, because its name is not a key; delete "
                f"it or move it elsewhere: rm -r {shlex.quote(str(runs / name))}"
            )
        stamps = {key: stamp(f"{runs}/{key}") for key in names.keys}
        by_digest = {manifest.digest: manifest for manifest in manifests}
        current = made_by == _code_digest()
        unchanged = _unchanged(stored, stamps, by_digest) if current else set()
        changed = sorted(stamps.keys() - unchanged)
        kept, previous = _split(stored, unchanged)
        new = _new_rows(runs, changed, stamps, previous, by_digest, report)
        if new.num_rows or kept.num_rows < stored.num_rows or not current:
            stored = pa.concat_tables([kept, new])
            stored = with_base_costs(stored.sort_by("key"))
            if writable:
                write_table(workspace / RESULTS_FILE, stored, _code_digest())
    return stored.select(SCHEMA.names)


def known_runs(workspace: Path) -> dict[str, str]:
    """Stamps of the runs that were read and verified and need not be repeated, by key."""
    columns = ("key", "run", "stamp", "status")
    stored, _ = read_table(workspace / RESULTS_FILE, STORED, columns)
    values = (column_values(stored[name]) for name in columns)
    return {
        run: seen
        for key, run, seen, status in zip(*values, strict=True)
        if key == run and status in ("ok", NOT_APPLICABLE)
    }


@contextlib.contextmanager
def _locked(workspace: Path) -> Iterator[bool]:
    """Keep other processes from updating the results; yields False if the folder is read-only."""
    lock = FileLock(workspace / f".{RESULTS_FILE}.lock")
    try:
        lock.acquire()
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _code_digest() -> str:
    """SHA-256 of the code that builds rows. Rows that were built by other code are built again."""
    files = (rows.__file__, gamma_star.__file__, __file__)
    return hashlib.sha256("".join(digest_file(Path(file)) for file in files).encode()).hexdigest()


def _unchanged(
    stored: pa.Table, stamps: Mapping[str, str | None], manifests: Mapping[str, Manifest]
) -> set[str]:
    """The keys of runs whose stored rows are those that would be built now."""
    scorer = scorer_digest()
    columns = ("run", "stamp", "status", "scorer_digest", "manifest_digest")
    return {
        run
        for run, seen, status, scored_by, manifest in zip(
            *(column_values(stored[name]) for name in columns), strict=True
        )
        if stamps.get(run) == seen
        and (
            scored_by == scorer
            or status != "ok"
            or (scored_by is None and manifest not in manifests)
        )
    }


def _split(stored: pa.Table, unchanged: set[str]) -> tuple[pa.Table, dict[str, Row]]:
    """The rows of runs that are unchanged, as a table, and the others by key."""
    keep = [run in unchanged for run in column_values(stored["run"])]
    if all(keep):
        return stored, {}
    others = stored.filter(pa.array([not kept for kept in keep]))
    return stored.filter(pa.array(keep)), {row["key"]: row for row in rows_of_table(others)}


class _Part(NamedTuple):
    """Some runs whose rows are built together.

    Attributes:
        number: position among the parts.
        runs: the folder of all runs.
        stamps: of the runs' folders, by key.
        previous: rows that the runs had, by key.
        manifests: by digest.
    """

    number: int
    runs: Path
    stamps: Mapping[str, str | None]
    previous: Mapping[str, Row]
    manifests: Mapping[str, Manifest]


def _new_rows(
    runs: Path,
    keys: Sequence[str],
    stamps: Mapping[str, str | None],
    previous: Mapping[str, Row],
    manifests: Mapping[str, Manifest],
    report: Report,
) -> pa.Table:
    """Build the rows of some runs, and those derived from them; many are built on all cores."""
    of_run: dict[str, dict[str, Row]] = {}
    for key, row in previous.items():
        of_run.setdefault(row["run"], {})[key] = row
    parts: list[_Part] = []
    for begin in range(0, len(keys), PART):
        some = keys[begin : begin + PART]
        rows = {key: row for run in some for key, row in of_run.get(run, {}).items()}
        parts.append(_Part(len(parts), runs, {k: stamps[k] for k in some}, rows, manifests))
    outcomes = sorted(pool.each(_rows_of_part, parts, len(keys)), key=lambda part: part[0])
    for _, _, problems in outcomes:
        for problem in problems:
            report(problem)
    return pa.concat_tables([STORED.empty_table(), *(rows for _, rows, _ in outcomes)])


_manifests: dict[str, Manifest] = {}  # of this process, by digest


def _rows_of_part(part: _Part) -> tuple[int, pa.Table, list[str]]:
    """The number of a part, its rows, and what is wrong with runs that have none."""
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    # What is known about the samples of a manifest is kept for the next part, see `predictions.py`.
    manifests = {
        key: _manifests.setdefault(key, manifest) for key, manifest in part.manifests.items()
    }
    part = part._replace(manifests=manifests)
    for key, seen in part.stamps.items():
        folder = part.runs / key
        try:
            record = RunRecord.read(folder, key)
            check_record(record, folder / RECORD_FILE)
            row = row_of_record(record)
            scores, picks = _scores(folder, record, row, part.previous.get(key), part.manifests)
            row |= scores
            of_run = [row, *_derived(row, part, {} if picks is None else {key: picks})]
        except HTBenchError as error:
            problems.append(str(error))
            continue
        except MemoryError:
            problems.append(
                f"{folder} cannot be read: its predictions take more memory than there is; "
                f"{repeat_run(folder)}"
            )
            continue
        rows += [stored_row(one, key, seen) for one in of_run]
    return part.number, pa.Table.from_pylist(rows, schema=STORED), problems


def _derived(row: Row, part: _Part, picks: Mapping[str, Picks]) -> Iterator[Row]:
    """The rows that are derived from the row of a run; outcomes are stored as for the run."""
    workspace = part.runs.parent
    for derived, outcomes in gamma_star.derive_rows(
        [row], workspace, part.previous, part.manifests, picks
    ):
        if outcomes is not None:
            store_outcomes(workspace, derived, outcomes)
        yield derived


def _scores(
    folder: Path,
    record: RunRecord,
    row: Row,
    previous: Row | None,
    manifests: Mapping[str, Manifest],
) -> tuple[dict[str, Any], Picks | None]:
    """The metrics of a run, from its previous row if nothing that they depend on has changed.

    The outcomes of its samples are stored, so that intervals need not read the predictions again.
    The second value is what was found in the predictions, if they were scored.
    """
    if record.status != "ok":
        return {}, None
    digest, scorer = record.predictions_sha256, scorer_digest()
    if (
        previous is not None
        and previous["predictions_sha256"] == digest
        and previous["scorer_digest"] == scorer
    ):
        verified_predictions(folder, digest)
        kept = ("scorer_digest", *METRICS, *COUNTS, EXCLUDED)
        return {name: previous[name] for name in kept}, None
    manifest = manifests.get(record.made_from["manifest"])
    if manifest is None:
        verified_predictions(folder, digest)
        return {}, None
    try:
        scored = score_run(folder, digest, manifest, record.task)
    except HTBenchError as error:
        remedy = repeat_run(folder)
        message = str(error).removesuffix(f"; {remedy}")  # that of a missing file has it
        raise type(error)(f"{message}; {remedy}") from None
    store_outcomes(folder.parents[1], row, scored.outcomes)
    return {"scorer_digest": scorer, **scored.scores.as_dict()}, scored.picks


def stored_row(row: Row, run: str, seen: str | None) -> dict[str, Any]:
    """A row with the columns of ``STORED``; its cost does not include the base run yet.

    Args:
        row: by the names of ``SCHEMA``.
        run: the key of the run behind it.
        seen: the stamp of the run's folder.
    """
    own = {column: row[name] for name, column in _OWN.items()}
    return {**row, **own, "run": run, "stamp": seen}


def with_base_costs(stored: pa.Table) -> pa.Table:
    """Add to each row the cost of the runs that it starts from, so that it counts everything."""
    keys, bases = column_values(stored["key"]), column_values(stored["base"])
    index = {key: i for i, key in enumerate(keys)}
    chains = {i: list(_chain(i, bases, index)) for i, base in enumerate(bases) if base in index}
    for name, own in _OWN.items():
        of_run = column_values(stored[own])
        total = list(of_run)
        for i, chain in chains.items():
            values = [of_run[j] for j in chain if of_run[j] is not None]
            total[i] = (max if name in _LARGEST else sum)(values) if values else None
        position = stored.schema.get_field_index(name)
        field = stored.schema.field(position)
        stored = stored.set_column(position, field, pa.array(total, field.type))
    return stored


def _chain(start: int, bases: list[str | None], index: Mapping[str | None, int]) -> Iterator[int]:
    """The positions of a row and of the rows that it starts from."""
    position: int | None = start
    while position is not None:
        yield position
        position = index.get(bases[position])
