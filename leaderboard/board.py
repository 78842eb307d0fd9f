"""Builds the leaderboard: decides which rows share a table and averages them over tasks and seeds.

The rows of a table have the same manifest digest, protocol version, model and recipe, and one
source checkpoint for each source and source seed, because results from different source models are
not comparable. Rows that differ in any of these go into a separate, named table.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from benchmark.files import digest_json
from benchmark.manifest.catalogue import shown_reference
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite
from benchmark.networks.names import network_label
from benchmark.records import NOT_APPLICABLE
from benchmark.text import one_line, printable
from leaderboard import columns, gamma_star, remarks
from leaderboard.checkpoints import SourceNames, split_by_checkpoint
from leaderboard.comparison import Comparison
from leaderboard.grid import Grid, with_columns
from leaderboard.intervals import OutcomesOf, Statistics, statistics_of, with_intervals
from leaderboard.rows import FAILED, Row, group_rows, rows_of_table, with_status
from leaderboard.rows import MEAN as MEAN
from leaderboard.versions import CODE_DIGITS, Selection, select

if TYPE_CHECKING:
    import pandas as pd

TUNED = (
    "chosen for each task on folds of seen training images; methods without (tuned) have no search "
    "space and are at their defaults"
)
MAX_SETTINGS = 150  # characters of a label that name settings
BoardCell = dict[Hashable, Any]  # a row of ``Board.cells``


@dataclass(frozen=True)
class Board:
    """One table of a suite.

    Attributes:
        suite: the suite.
        name: which table of the suite this is, and the manifest if it was changed.
        context: the values that all rows share, shown in the caption.
        counts: (task, n_seen, n_missing).
        cells: one row per method label and task (and ``MEAN``), with ``columns.CELL`` and, for
            each of ``columns.COLUMNS``, its mean over seeds and, with the suffix ``_std``, the
            sample standard deviation, and with the suffix ``_half`` half the width of its 95 %
            interval. ``rank`` is 1 + the number of methods that are significantly better; NaN for
            oracles and incomplete cells. ``runs`` counts all runs that exist, and ``other_runs``
            those that are not shown. See :func:`cell_state` for ``state``.
        versions: runs that are not shown, see :func:`leaderboard.versions.select`.
        problems: failed and missing runs.
        not_applicable: methods that do not apply to some tasks, with the reason.
        notes: notes that methods left on their runs, the settings that a search chose, and how
            many steps a method declared itself.
        is_main: whether it is the first table of the manifest's own network.
        is_tuned: whether searches have chosen the settings of its methods.
        source_seeds: how many source models there are for the same domains.
        declared: labels of methods that declared steps that the suite has not counted.
        keys: the keys of the rows that it shows.
        comparisons: how the order of methods changes with the recipe and the seen classes; see
            ``conditions.with_comparisons``.
        workspace_option: the words that name the workspace in a recommended command.
        optional_columns: keys of the optional columns that its tables show.
        statistics: how the values vary.
        rows: the rows that it shows, with the values of all columns.
        outcomes: the outcomes of a row's test samples; None if only scores are known.
        manifest: the suite's.
    """

    suite: Suite
    name: str
    context: dict[str, str]
    counts: tuple[tuple[str, int, int], ...]
    cells: pd.DataFrame
    versions: tuple[str, ...]
    problems: tuple[str, ...]
    not_applicable: tuple[str, ...]
    notes: tuple[str, ...]
    is_main: bool = False
    is_tuned: bool = False
    source_seeds: int = 1
    declared: frozenset[str] = frozenset()
    keys: frozenset[str] = frozenset()
    comparisons: tuple[Comparison, ...] = ()
    workspace_option: tuple[str, ...] = ()
    optional_columns: tuple[str, ...] = ()
    statistics: Statistics | None = None
    rows: tuple[Row, ...] = ()
    outcomes: OutcomesOf | None = None
    manifest: Manifest | None = None

    @property
    def headline(self) -> tuple[str, ...]:
        """Keys of the columns that come first; the first of them orders and ranks the methods."""
        return columns.HEADLINES[self.manifest.headline if self.manifest else "micro"]

    @property
    def shown_columns(self) -> tuple[columns.Column, ...]:
        """The columns of its tables, in order."""
        return columns.table_columns(self.optional_columns, self.headline)

    @property
    def labels(self) -> list[str]:
        """The method labels in leaderboard order: by the mean of the first column, then by name."""
        return self.labels_of(MEAN)

    def labels_of(self, task: str) -> list[str]:
        """The labels by their first column on a task (or ``MEAN``), then by name.

        Methods without all of their runs come after the others, and oracles last.
        """
        keys = {}
        for cell in self.of_task(task).values():
            value = cell[self.headline[0]]
            rank = math.inf if math.isnan(value) else -value
            no_value = math.isinf(rank)
            is_partial = cell["state"] == "partial" and not no_value
            is_oracle = cell["track"] == "oracle"
            keys[cell["label"]] = (is_oracle, no_value, is_partial, rank, cell["label"])
        return sorted(keys, key=keys.__getitem__)

    def of_task(self, task: str) -> dict[str, BoardCell]:
        """The cells of a task (or of ``MEAN``) by method label."""
        cells = self.cells[self.cells["task"] == task].to_dict("records")
        return {cell["label"]: cell for cell in cells}


def build_boards(
    suite: Suite,
    manifest: Manifest,
    results: pa.Table,
    asked: Collection[str] = (),
    outcomes: OutcomesOf | None = None,
) -> list[Board]:
    """Return the tables of a suite.

    Tables of the manifest's own network come first; within each network, those with runs that were
    asked for come first, then the newest.

    Args:
        suite: the suite, whose tasks and seeds form the grid; the methods are those that have rows.
        manifest: the suite's manifest with its recipe; rows of other manifests, and of the
            manifest's other recipes, are ignored.
        results: the output of ``results.update_results``.
        asked: keys of the runs that the user has just asked for: their versions are shown, even if
            others are newer. See :func:`leaderboard.versions.select`.
        outcomes: of the rows, for intervals; without it they only contain the variance over seeds.
    """
    every = {row["key"]: row for row in rows_of_table(_of_suite(results, suite, manifest))}
    recipe = digest_json(manifest.recipe)
    labels = {label: _shown_label(label) for label in {row["label"] for row in every.values()}}
    rows = [
        row if labels[row["label"]] == row["label"] else {**row, "label": labels[row["label"]]}
        for row in every.values()
        # Runs that tuned ones start from have tuned rates too, and are no rows of their own.
        if row["recipe_digest"] == recipe or row["search"] is not None
    ]
    groups = _with_tuned(rows, keep_default=not suite.tuned)

    def order(rows: Sequence[Row]) -> tuple[bool, float, str]:
        newest = -max(map(_finished, rows))
        return not any(row["key"] in asked for row in rows), newest, min(r["key"] for r in rows)

    ordered = sorted(groups, key=order)
    ordered.sort(key=lambda group: (not _has_own_network(group[0], manifest), _is_tuned(group)))
    sources = SourceNames(manifest)
    shown = shown_reference(manifest.reference, manifest.digest)
    changed = "" if shown == manifest.reference else f", {shown}"
    boards: list[Board] = []
    count: Counter[str] = Counter()
    for group in ordered:
        own = _has_own_network(group[0], manifest)
        network = "" if own else f", {_network(group[0])}"
        network += ", tuned" if _is_tuned(group) and not suite.tuned else ""
        for table in split_by_checkpoint(group, sources, order):
            count[network] += 1
            number = f", table {count[network]}" if count[network] > 1 else ""
            name = f"{suite.name}{network}{number}{changed}"
            selection = select(suite, table, every, asked)
            boards.append(_build_board(suite, name, manifest, sources, selection, outcomes))
    if boards and _has_own_network(ordered[0][0], manifest) and not boards[0].is_tuned:
        boards[0] = replace(boards[0], is_main=True)
    return boards


def _of_suite(results: pa.Table, suite: Suite, manifest: Manifest) -> pa.Table:
    """The rows of a suite, of all recipes. A run and the one it starts from have the same cell."""
    import pyarrow.compute as pc

    keep = pc.equal(results["manifest_digest"], manifest.digest)
    for name, values in (("task", suite.tasks), ("seed", suite.seeds)):
        wanted = pa.array(values, results.schema.field(name).type)
        keep = pc.and_(keep, pc.is_in(results[name], wanted))
    return results.filter(keep)


def _with_tuned(rows: Sequence[Row], *, keep_default: bool) -> list[list[Row]]:
    """Split rows into groups of one protocol and model, tuned rows apart from the others.

    Tuned rows may have their own learning rates. Methods that no search has tuned are shown beside
    them at their defaults.
    """
    default = group_rows(
        (row for row in rows if row["search"] is None),
        lambda row: (row["protocol"], row["model"]),
    )
    tuned = group_rows(
        (row for row in rows if row["search"] is not None),
        lambda row: (row["protocol"], row["model"]),
    )
    groups = list(default.values()) if keep_default else []
    for key, group in tuned.items():
        methods = {row["method"] for row in group}
        others = [row for row in default.get(key, []) if row["method"] not in methods]
        groups.append([*group, *others])
    return groups


def _is_tuned(rows: Iterable[Row]) -> bool:
    """Whether a search has chosen settings of some rows."""
    return any(row["search"] is not None for row in rows)


def _shown_label(label: str) -> str:
    """A label that can be printed; long settings are cut and end with their digest."""
    method, bracket, settings = label.partition("(")
    if len(settings) > MAX_SETTINGS:
        settings = f"{settings[:MAX_SETTINGS]}… {digest_json(settings)[:CODE_DIGITS]})"
    return printable(f"{method[:MAX_SETTINGS]}{bracket}{settings}")


def _has_own_network(row: Row, manifest: Manifest) -> bool:
    """Whether the row's network is the one that its manifest names."""
    return bool(json.loads(row["model"]) == manifest.document["model"])


def _network(row: Row) -> str:
    """The network of a row, as `--model` writes it."""
    return one_line(network_label(json.loads(row["model"])), MAX_SETTINGS)


def _finished(row: Row) -> float:
    return float(row["measured_finished"] or 0)


def _build_board(
    suite: Suite,
    name: str,
    manifest: Manifest,
    sources: SourceNames,
    selection: Selection,
    outcomes: OutcomesOf | None,
) -> Board:
    import pandas as pd

    rows = with_columns(selection.rows, suite.tasks, suite.seeds)
    ok = with_status(rows, "ok")
    varying = statistics_of(suite.tasks, suite.seeds, ok, manifest, outcomes)
    context = {
        "manifest": f"{shown_reference(manifest.reference, manifest.digest)} "
        f"({manifest.digest[:12]})",
        "protocol": one_line(rows[0]["protocol"], MAX_SETTINGS),
        "network": _network(rows[0]),
        "recipe": manifest.recipe_name,
        "source models": sources.describe(rows),
    }
    if _is_tuned(rows):
        context["settings"] = TUNED
    return Board(
        suite=suite,
        name=name,
        context=context,
        counts=_counts(suite, rows),
        cells=pd.DataFrame(
            with_intervals(_cells(suite, rows, selection.runs, varying.grid), varying)
        ),
        versions=selection.remarks,
        problems=remarks.problems(suite, rows),
        not_applicable=remarks.not_applicable(suite, rows),
        notes=remarks.notes(suite, rows),
        is_tuned=_is_tuned(rows),
        source_seeds=manifest.source_seeds,
        declared=frozenset(row["label"] for row in rows if row["declared_steps"]),
        keys=frozenset(row["key"] for row in rows),
        statistics=varying,
        rows=tuple(rows),
        outcomes=outcomes,
        manifest=manifest,
    )


def _counts(suite: Suite, rows: Iterable[Row]) -> tuple[tuple[str, int, int], ...]:
    counts = {
        row["task"]: (row["task"], row["n_seen"], row["n_missing"])
        for row in with_status(rows, "ok")
    }
    return tuple(counts[task] for task in suite.tasks if task in counts)


# --- cells -------------------------------------------------------------------------------------


def _cells(
    suite: Suite, rows: Sequence[Row], runs: Mapping[tuple[str, str], int], grid: Grid
) -> list[dict[str, Any]]:
    """The cells of a table: every label on every task, then every label's mean.

    Args:
        suite: the suite.
        rows: those that the table shows.
        runs: how many exist of a label and task, shown or not.
        grid: the values of the rows with scores.
    """
    shown = Counter((row["label"], row["task"]) for row in rows)
    rows = [*rows, *gamma_star.unscored_rows(rows)]
    by_cell = group_rows(rows, lambda row: (row["label"], row["task"]))
    by_label = group_rows(rows, lambda row: row["label"])

    def head(label: str, tasks: Sequence[str]) -> dict[str, Any]:
        row = by_label[label][0]
        exist, here = (sum(count[label, task] for task in tasks) for count in (runs, shown))
        names = ("label", "track", "provenance", "method_code")
        return {**{name: row[name] for name in names}, "runs": exist, "other_runs": exist - here}

    labels = sorted(by_label)
    complete = _complete_cells(grid)
    cells = [
        *(
            {
                **head(label, [task]),
                **_task_cell(
                    task, by_cell.get((label, task), []), suite, complete.get((label, task))
                ),
            }
            for label in labels
            for task in suite.tasks
        ),
        *(
            {**head(label, suite.tasks), **_mean_cell(label, by_label[label], suite, grid)}
            for label in labels
        ),
    ]
    return [{**{name: cell[name] for name in columns.CELL}, **cell} for cell in cells]


def _complete_cells(grid: Grid) -> dict[tuple[str, str], dict[str, float]]:
    """The values of all cells that have all of their runs, by label and task."""
    keys = [column.key for column in columns.COLUMNS]
    names = [f"{key}{suffix}" for key in keys for suffix in ("", "_std")]
    parts = []
    for key in keys:
        values = grid.values(key)[grid.complete]  # (cells, seeds)
        several = values.shape[1] > 1
        unknown = np.full(len(values), math.nan)
        parts += [values.mean(axis=1), values.std(axis=1, ddof=1) if several else unknown]
    which = zip(*np.nonzero(grid.complete), strict=True)
    rows = np.stack(parts, axis=1).tolist()
    return {
        (grid.labels[i], grid.tasks[t]): dict(zip(names, row, strict=True))
        for (t, i), row in zip(which, rows, strict=True)
    }


def _task_cell(
    task: str, rows: list[Row], suite: Suite, complete: Mapping[str, float] | None
) -> dict[str, Any]:
    """The cell of a task, whose values are known if it has all of its runs."""
    ok = with_status(rows, "ok")
    state = cell_state(rows, len(suite.seeds))
    # Never an average over the runs that are left when one has failed.
    shown = () if state in (FAILED, NOT_APPLICABLE) else ok
    cell = {"task": task, "tasks": int(bool(shown)), "seeds": len(ok), "state": state}
    if state == "ok" and complete is not None:
        return {**cell, **complete}
    values = [{column.key: row[column.key] for column in columns.COLUMNS} for row in shown]
    return {**cell, **_over_seeds(values)}


def _mean_cell(label: str, rows: list[Row], suite: Suite, grid: Grid) -> dict[str, Any]:
    """Mean over the suite's tasks, seed by seed; without values unless all runs succeeded."""
    state = cell_state(rows, len(suite.tasks) * len(suite.seeds))
    values = []
    if state == "ok":
        i = grid.labels.index(label)
        by_seed = {c.key: grid.values(c.key)[:, i].T.tolist() for c in columns.COLUMNS}
        values = [
            {key: statistics.fmean(of_key[k]) for key, of_key in by_seed.items()}
            for k in range(len(suite.seeds))
        ]
    tasks = len(suite.tasks) if values else 0
    return {
        "task": MEAN,
        "tasks": tasks,
        "seeds": len(values),
        "state": state,
        **_over_seeds(values),
    }


def cell_state(rows: Sequence[Row], expected: int) -> str:
    """The state of a cell.

    Args:
        rows: the rows of the cell's runs.
        expected: the number of runs that the suite has for this cell.

    Returns:
        ``failed`` or ``not-applicable`` if one of the runs is, ``ok`` if all expected runs
        succeeded, else ``partial``.
    """
    statuses = {row["status"] for row in rows}
    for status in (FAILED, NOT_APPLICABLE):
        if status in statuses:
            return status
    return "ok" if len(with_status(rows, "ok")) == expected else "partial"


def _over_seeds(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean and sample standard deviation of each column; NaN if a seed has no value."""
    cell = {}
    for column in columns.COLUMNS:
        of_column = np.array([of_seed[column.key] for of_seed in values])
        cell[column.key] = float(of_column.mean()) if len(values) else math.nan
        cell[f"{column.key}_std"] = float(of_column.std(ddof=1)) if len(values) > 1 else math.nan
    return cell
