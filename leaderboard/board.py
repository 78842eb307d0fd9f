"""Builds the leaderboard: decides which rows share a table and averages them over tasks and seeds.

The rows of a table have the same manifest digest, protocol version, model and recipe, and one
source checkpoint for each source and source seed, because results from different source models are
not comparable. Rows that differ in any of these go into a separate, named table.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from benchmark.files import digest_json
from benchmark.manifest.catalogue import shown_reference
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.rates import rate_of
from benchmark.manifest.suite import Suite
from benchmark.networks.names import network_label
from benchmark.text import one_line, printable
from leaderboard import columns, remarks
from leaderboard.cells import cells_of, with_pooled
from leaderboard.checkpoints import SourceNames, split_by_checkpoint
from leaderboard.comparison import Comparison
from leaderboard.grid import with_columns
from leaderboard.intervals import OutcomesOf, Statistics, statistics_of
from leaderboard.replicate_files import ReplicateFiles
from leaderboard.row_columns import Rows
from leaderboard.rows import MEAN as MEAN
from leaderboard.rows import POOLED as POOLED
from leaderboard.rows import Row
from leaderboard.versions import CODE_DIGITS, Selection, select

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from leaderboard.accepted import Accepted

TUNED = (
    "chosen for each task on folds of seen training images; methods without (tuned) have no search "
    "space and are at their defaults; costs are without the searches, whose steps are in the notes"
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
        values: one row per method label and task (and ``MEAN``, ``POOLED``), with
            ``columns.CELL`` and, for each of ``columns.COLUMNS``, its mean over seeds and, with the
            suffix ``_std``, the sample standard deviation. ``runs`` counts all runs that exist, and
            ``other_runs`` those that are not shown. See :func:`leaderboard.cells.cell_states` for
            ``state``.
        versions: runs that are not shown, see :func:`leaderboard.versions.select`.
        problems: failed and missing runs.
        not_applicable: methods that do not apply to some tasks, with the reason.
        notes: notes that methods left on their runs, the settings that a search chose, and how
            many steps a method declared itself.
        is_main: whether it is the first table of the manifest's own network.
        is_tuned: whether searches have chosen the settings of its methods.
        source_seeds: how many source models there are for the same domains.
        declared: labels of methods that declared steps that the benchmark has not counted.
        comparisons: how the order of methods changes with the recipe and the seen classes; see
            ``conditions.with_comparisons``.
        workspace_option: the words that name the workspace in a recommended command.
        is_published: whether it has published results, and not those of a workspace.
        optional_columns: keys of the optional columns that its tables show.
        shows_pooled: whether a terminal shows its pooled values too, and LaTeX instead of the mean.
        statistics: how the values vary.
        rows: the rows that it shows, with the values of all columns.
        outcomes: the outcomes of a row's test samples; None if only scores are known.
        manifest: the suite's.
        submissions: the accepted submissions among its methods, by the method's name.
    """

    suite: Suite
    name: str
    context: dict[str, str]
    counts: tuple[tuple[str, int, int], ...]
    values: pd.DataFrame
    versions: tuple[str, ...]
    problems: tuple[str, ...]
    not_applicable: tuple[str, ...]
    notes: tuple[str, ...]
    is_main: bool = False
    is_tuned: bool = False
    source_seeds: int = 1
    declared: frozenset[str] = frozenset()
    comparisons: tuple[Comparison, ...] = ()
    workspace_option: tuple[str, ...] = ()
    is_published: bool = False
    optional_columns: tuple[str, ...] = ()
    shows_pooled: bool = False
    statistics: Statistics | None = None
    rows: Rows = field(default_factory=lambda: Rows.of(()))
    outcomes: OutcomesOf | None = None
    manifest: Manifest | None = None
    submissions: Mapping[str, Accepted] = field(default_factory=dict)

    @property
    def headline(self) -> tuple[str, ...]:
        """Keys of the columns that come first; the first of them orders and ranks the methods."""
        return columns.HEADLINES[self.manifest.headline if self.manifest else "micro"]

    @property
    def shown_columns(self) -> tuple[columns.Column, ...]:
        """The columns of its tables, in order."""
        return tuple(c for c in self._table_columns if c not in self.empty_columns)

    @cached_property
    def empty_columns(self) -> tuple[columns.Column, ...]:
        """The columns that its tables leave out, because no method has a value on any task.

        For example, no gap is known without runs of the oracle. Columns that come first or that
        were asked for are shown even so.
        """
        always = (*self.headline, *self.optional_columns)
        return tuple(
            column
            for column in self._table_columns
            if column.key not in always and self.values[column.key].isna().all()
        )

    @property
    def _table_columns(self) -> tuple[columns.Column, ...]:
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

    def shown_labels(self, task: str) -> list[str]:
        """The labels that its table of a task (or ``MEAN``) shows, in order.

        A method whose runs are missing is named below the table instead.
        """
        cells = self.of_task(task)
        return [
            label
            for label in self.labels_of(task)
            if cells[label]["state"] != "partial" or not math.isnan(cells[label]["overall"])
        ]

    @property
    def has_pooled(self) -> bool:
        """Whether it has values of the pooled test samples of its tasks, see ``pooled.py``."""
        return self.statistics is not None and POOLED in self.statistics.labels

    @property
    def keys(self) -> frozenset[str]:
        """The keys of the rows that it shows."""
        return self.rows.keys

    @cached_property
    def cells(self) -> pd.DataFrame:
        """``values`` with the ranks and intervals of all tasks.

        ``rank`` is 1 + the number of methods that are significantly better; NaN for oracles and
        incomplete cells. The suffix ``_half`` is half the width of the 95 % interval.
        """
        import pandas as pd

        tasks = self.values["task"].unique().tolist()
        statistics = {task: self._varying(task) for task in tasks}
        names = list(zip(self.values["task"], self.values["label"], strict=True))
        more = {
            name: [statistics[task][name].get(label, math.nan) for task, label in names]
            for name in ("rank", *(f"{column.key}_half" for column in columns.COLUMNS))
        }
        return pd.concat([self.values, pd.DataFrame(more, index=self.values.index)], axis=1)

    def of_task(self, task: str) -> dict[str, BoardCell]:
        """The cells of a task (or of ``MEAN``) by method label; not to be changed."""
        if task not in self._of_tasks:
            self._of_tasks[task] = self._cells_of(task)
        return self._of_tasks[task]

    @cached_property
    def _of_tasks(self) -> dict[str, dict[str, BoardCell]]:
        """By task, as far as they were asked for."""
        return {}

    def _cells_of(self, task: str) -> dict[str, BoardCell]:
        varying = self._varying(task)
        return {
            cell["label"]: {
                **cell,
                **{
                    name: of_labels.get(cell["label"], math.nan)
                    for name, of_labels in varying.items()
                },
            }
            for cell in self.values[self.values["task"] == task].to_dict("records")
        }

    def _varying(self, task: str) -> dict[str, Mapping[str, float]]:
        """The ranks and intervals of a task by their name in ``cells`` and by label."""
        known = self.statistics
        ranking = None if known is None else known.ranking(task)
        halves = {
            f"{column.key}_half": {} if known is None else known.halves(task, column.key)
            for column in columns.COLUMNS
        }
        return {"rank": {} if ranking is None else ranking[0], **halves}


def build_boards(
    suite: Suite,
    manifest: Manifest,
    results: pa.Table,
    asked: Collection[str] = (),
    outcomes: OutcomesOf | None = None,
    files: ReplicateFiles | None = None,
) -> list[Board]:
    """Return the tables of a suite.

    Tables of the manifest's own network come first; within each network, those with runs that were
    asked for come first, then the newest.

    Args:
        suite: the suite, whose tasks and seeds form the grid; the methods are those that have rows.
        manifest: the suite's manifest with its recipe; rows of other manifests, and of the
            manifest's other recipes, are ignored, also those of tuned methods.
        results: the output of ``results.update_results``.
        asked: keys of the runs that the user has just asked for: their versions are shown, even if
            others are newer. See :func:`leaderboard.versions.select`.
        outcomes: of the rows, for intervals; without it they only contain the variance over seeds.
        files: where values are kept that are computed from the outcomes.
    """
    every = _with_shown_labels(_of_suite(results, suite, manifest))
    groups = _with_tuned(every.where(_has_recipe(every, manifest)), keep_default=not suite.tuned)

    def order(rows: Rows) -> tuple[bool, float, str]:
        newest = -np.nan_to_num(rows.numbers("measured_finished")).max()
        return not (asked and rows.is_in("key", asked).any()), newest, min(rows.texts("key"))

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
            if _is_tuned(group) and not _is_tuned(table):  # untuned rows of other source models
                continue
            count[network] += 1
            number = f", table {count[network]}" if count[network] > 1 else ""
            name = f"{suite.name}{network}{number}{changed}"
            selection = select(suite, table, every, asked)
            boards.append(_build_board(suite, name, manifest, sources, selection, outcomes, files))
    if boards and _has_own_network(ordered[0][0], manifest) and not boards[0].is_tuned:
        boards[0] = replace(boards[0], is_main=True)
    return boards


def _of_suite(results: pa.Table, suite: Suite, manifest: Manifest) -> Rows:
    """The rows of a suite, of all recipes. A run and the one it starts from have the same cell."""
    rows = Rows(results)
    keep = rows.equal("manifest_digest", manifest.digest)
    return rows.where(keep & rows.is_in("task", suite.tasks) & rows.is_in("seed", suite.seeds))


def _has_recipe(rows: Rows, manifest: Manifest) -> NDArray[np.bool_]:
    """Whether the rows have the manifest's recipe, times the factor that their search chose.

    Runs that tuned ones start from have such rates too, and are no rows of their own.
    """
    digests, searches = rows.codes("recipe_digest"), rows.codes("search")
    position = {digest: i for i, digest in enumerate(digests.names)}
    wanted = [position.get(_recipe_digest(manifest, search), -1) for search in searches.names]
    return np.asarray(digests.numbers == np.array(wanted, dtype=np.intp)[searches.numbers])


def _recipe_digest(manifest: Manifest, search: str | None) -> str:
    """The digest of the manifest's recipe with the learning rates that a search chose."""
    chosen = json.loads(search)["chosen"] if search else {}
    try:
        return digest_json(manifest.with_rate(rate_of(chosen)).recipe)
    except (ValueError, ArithmeticError, TypeError):  # no factor: nobody has run this
        return ""


def _with_shown_labels(rows: Rows) -> Rows:
    """The rows with labels that can be printed."""
    codes = rows.codes("label")
    shown = [_shown_label(label) for label in codes.names]
    return rows if shown == codes.names else rows.with_text("label", codes._replace(names=shown))


def _with_tuned(rows: Rows, *, keep_default: bool) -> list[Rows]:
    """Split rows into groups of one protocol and model, tuned rows apart from the others.

    Tuned rows may have their own learning rates. Methods that no search has tuned are shown beside
    them at their defaults.
    """
    is_tuned = rows.is_known("search")
    default, tuned = (
        {(g[0]["protocol"], g[0]["model"]): g for g in part.groups("protocol", "model")}
        for part in (rows.where(~is_tuned), rows.where(is_tuned))
    )
    groups = list(default.values()) if keep_default else []
    for key, group in tuned.items():
        if key in default:
            others = default[key]
            group = group.joined(others.where(~others.is_in("method", group.codes("method").names)))
        groups.append(group)
    return groups


def _is_tuned(rows: Rows) -> bool:
    """Whether a search has chosen settings of some rows."""
    return bool(rows.is_known("search").any())


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


def _build_board(
    suite: Suite,
    name: str,
    manifest: Manifest,
    sources: SourceNames,
    selection: Selection,
    outcomes: OutcomesOf | None,
    files: ReplicateFiles | None,
) -> Board:
    rows = with_columns(selection.rows, suite.tasks, suite.seeds)
    ok = rows.where(rows.equal("status", "ok"))
    varying = statistics_of(suite.tasks, suite.seeds, ok, manifest, outcomes, files)
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
    has_declared = np.nan_to_num(rows.numbers("declared_steps")) != 0
    return Board(
        suite=suite,
        name=name,
        context=context,
        counts=_counts(suite, ok),
        values=with_pooled(cells_of(suite, rows, selection.runs, varying.grid), varying),
        versions=selection.remarks,
        problems=remarks.problems(suite, rows),
        not_applicable=remarks.not_applicable(suite, rows),
        notes=(*remarks.notes(suite, rows), *remarks.undefined_gaps(suite, rows)),
        is_tuned=_is_tuned(rows),
        source_seeds=manifest.source_seeds,
        declared=frozenset(rows.where(has_declared).codes("label").names),
        statistics=varying,
        rows=rows,
        outcomes=outcomes,
        manifest=manifest,
    )


def _counts(suite: Suite, ok: Rows) -> tuple[tuple[str, int, int], ...]:
    tasks = ok.codes("task")
    last = np.zeros(len(tasks.names), dtype=np.intp)
    last[tasks.numbers] = np.arange(len(ok))
    of_tasks = ok.take(last)
    counts = {row["task"]: (row["task"], row["n_seen"], row["n_missing"]) for row in of_tasks}
    return tuple(counts[task] for task in suite.tasks if task in counts)
