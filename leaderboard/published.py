"""The results that are published with this project: rows of runs and outcomes, no predictions.

Each file in ``leaderboard/published/`` has the runs of one suite, and says which command made them,
from which commit, on which machine. Rows of accepted submissions are beside them; see
``accepted.py``. Where two have a row of the same key, the suite's is used.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pyarrow as pa
import pyarrow.compute as pc

from benchmark.commands import restore_it
from benchmark.errors import DataError, UsageError
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite
from leaderboard import gamma_star
from leaderboard.accepted import FOLDER as SUBMISSIONS
from leaderboard.accepted import Accepted, read_accepted
from leaderboard.board import MEAN, Board, build_boards
from leaderboard.intervals import OutcomesOf
from leaderboard.outcomes import Outcomes
from leaderboard.rows import SCHEMA, rows_of_table, with_status
from leaderboard.rows_file import read_rows, with_outcomes, write_rows

FOLDER = Path(__file__).parent / "published"
# The columns whose values the runs of different methods share if their seconds can be compared.
_CELL = ("manifest_digest", "recipe_digest", "source_digest", "device", "task", "seed")


@dataclass(frozen=True)
class Published:
    """The runs of one suite.

    Attributes:
        suite: its name.
        results: their rows, with the columns of ``SCHEMA``.
        facts: ``command``, ``commit`` and ``machine``.
        outcomes: of the rows' test samples, by key; empty if they are not published.
    """

    suite: str
    results: pa.Table
    facts: Mapping[str, str]
    outcomes: Mapping[str, bytes]


def publish(
    suite: Suite,
    manifest: Manifest,
    results: pa.Table,
    facts: Mapping[str, str],
    folder: Path = FOLDER,
    outcomes: OutcomesOf | None = None,
    earlier: Collection[Published] = (),
) -> Published:
    """Write the rows of a suite's main table, or of its tuned one, to ``SUITE.parquet``.

    A suite that takes many hours may be run in parts, in workspaces that do not have each other's
    runs: rows that are already published then complete those of this workspace.

    Args:
        suite: the suite; all of its methods must have all of their runs.
        manifest: the suite's.
        results: the output of ``results.update_results``.
        facts: see :class:`Published`.
        folder: where to write it.
        outcomes: of the rows, so that boards of the published rows have intervals over samples.
        earlier: published results, whose rows are used for runs that ``results`` does not have.
            The facts then also say what made these.

    Raises:
        UsageError: runs are missing.
    """
    own = set(results["key"].to_pylist())
    completed = _completed(results, own, earlier)
    board, absent = _board_and_absent(suite, manifest, completed)
    if board is None or absent:
        raise UsageError(
            f"suite {suite.name} cannot be published: these methods do not have all of their runs: "
            f"{', '.join(absent)}; {_other_sources(results, earlier)}run the whole suite first"
        )
    rows = _rows_of(board, suite, completed)
    of_earlier = published_outcomes(earlier)
    of_own = outcomes or (lambda _: None)
    of_rows = _outcomes(rows, lambda row: (of_own if row["key"] in own else of_earlier)(row))
    keys = set(rows["key"].to_pylist())
    used = _sources_of(keys - own, earlier)
    # A workspace that adds no row made nothing of the file.
    facts = _joined_facts([*(entry.facts for entry in used), *([facts] if keys & own else [])])
    write_rows(folder / f"{suite.name}.parquet", with_outcomes(rows, of_rows), facts)
    return Published(suite.name, rows, facts, of_rows)


def _completed(results: pa.Table, own: Set[str], earlier: Collection[Published]) -> pa.Table:
    """The rows of a workspace, and published ones of runs that it does not have.

    Args:
        results: the workspace's.
        own: their keys.
        earlier: the published results.
    """
    if not earlier:
        return results
    published = published_rows(earlier)
    is_own = pc.is_in(published["key"], pa.array(sorted(own), pa.string()))
    return pa.concat_tables([results, published.filter(pc.invert(is_own))])


def _board_and_absent(
    suite: Suite, manifest: Manifest, results: pa.Table
) -> tuple[Board | None, list[str]]:
    """The board to publish, and the methods of the suite that do not have all of their runs."""
    boards = build_boards(suite, manifest, results)
    board = next((b for b in boards if (b.is_tuned if suite.tuned else b.is_main)), None)
    means = board.of_task(MEAN).values() if board is not None else ()
    complete = {cell["label"].partition("(")[0] for cell in means if cell["state"] != "partial"}
    return board, [method for method in suite.methods if method not in complete]


def _rows_of(board: Board, suite: Suite, results: pa.Table) -> pa.Table:
    """The rows of the suite's methods that a board shows, with their bases, sorted by key."""
    methods = pa.array([*suite.methods, gamma_star.NAME])
    keys = set(results.filter(pc.is_in(results["method"], methods))["key"].to_pylist())
    keys = _with_bases(keys & board.keys, results)
    wanted = pa.array(sorted(keys), pa.string())
    return results.filter(pc.is_in(results["key"], wanted)).sort_by("key")


def _with_bases(keys: Set[str], results: pa.Table) -> set[str]:
    """The keys of rows and of the rows that they start from, whose version is part of theirs."""
    base_of: dict[str, str | None]
    base_of = dict(zip(results["key"].to_pylist(), results["base"].to_pylist(), strict=True))
    reached, waiting = set(keys), list(keys)
    while waiting:
        base = base_of.get(waiting.pop())
        if base is not None and base in base_of and base not in reached:
            reached.add(base)
            waiting.append(base)
    return reached


def _other_sources(of_workspace: pa.Table, earlier: Collection[Published]) -> str:
    """Why published rows do not complete those of a workspace, if their source models differ."""
    cell = [name for name in _CELL if name != "source_digest"]

    def by_cell(table: pa.Table) -> dict[tuple[object, ...], str]:
        rows = rows_of_table(table, [*cell, "source_digest"])
        return {tuple(row[name] for name in cell): row["source_digest"] for row in rows}

    own, published = by_cell(of_workspace), by_cell(published_rows(earlier))
    for place, digest in own.items():
        if place in published and published[place] != digest:
            task, seed = place[-2:]
            return (
                f"the published runs of {task} with seed {seed} adapt the source model "
                f"{published[place][:12]} and these {digest[:12]}, as training gives other weights "
                "on another kind of processor, so they do not complete each other; "
            )
    return ""


def _joined_facts(facts: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The facts of several results, each value once: ``{"commit": "abc; def", ...}``."""
    names = facts[-1]
    each = {name: [part for entry in facts for part in entry[name].split("; ")] for name in names}
    return {name: "; ".join(dict.fromkeys(parts)) for name, parts in each.items()}


def _sources_of(keys: Set[str], entries: Iterable[Published]) -> list[Published]:
    """The published results that rows are from: of a run that several share, the first."""
    rest, used = set(keys), []
    for entry in entries:
        of_entry = rest.intersection(entry.results["key"].to_pylist())
        if of_entry:
            used.append(entry)
            rest -= of_entry
    return used


def _outcomes(rows: pa.Table, outcomes: OutcomesOf) -> dict[str, bytes]:
    """The outcomes of rows by key, without those that are not known."""
    of_rows = ((row["key"], outcomes(row)) for row in rows_of_table(rows))
    return {key: known.to_bytes() for key, known in of_rows if known is not None}


def read_published(folder: Path = FOLDER) -> list[Published]:
    """Read all published results, by the suite's name.

    Raises:
        DataError: a file is damaged, or of another version.
    """
    entries = []
    for path in sorted(folder.glob("*.parquet")):
        stored = read_rows(path)
        if stored is None:
            raise DataError(
                f"the published results {path} are damaged or of another version; "
                f"{restore_it(path)}"
            )
        entries.append(Published(path.stem, stored.results, stored.facts, stored.outcomes))
    return entries


def results_folder(folder: Path | None) -> Path:
    """The folder of published results that ``--published`` names; None: that of this installation.

    An empty folder, or one with submissions only, is that of a new board.

    Raises:
        UsageError: it is not a folder, or what it has are other files, so that a submission would
            be compared with nothing.
    """
    if folder is None:
        return FOLDER
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder")
    names = {path.name for path in folder.iterdir()} - {SUBMISSIONS}
    if names and not any(name.endswith(".parquet") for name in names):
        raise UsageError(
            f"{folder} has files but no published results; name the folder leaderboard/published "
            "of a checkout, or an empty one"
        )
    return folder


def read_all(folder: Path = FOLDER) -> list[Published | Accepted]:
    """Read the published results of suites, then those of accepted submissions."""
    return [*read_published(folder), *read_accepted(folder)]


def published_outcomes(entries: Iterable[Published | Accepted]) -> OutcomesOf:
    """The outcomes of published results; of rows with the same key, those of the first."""
    known: dict[str, bytes] = {}
    for entry in entries:
        for key, content in entry.outcomes.items():
            known.setdefault(key, content)
    return lambda row: Outcomes.from_bytes(known[row["key"]]) if row["key"] in known else None


def published_rows(entries: Iterable[Published | Accepted]) -> pa.Table:
    """The rows of published results; a run that several entries share is there once."""
    tables = [entry.results for entry in entries]
    table = pa.concat_tables(tables) if tables else SCHEMA.empty_table()
    rows = table.append_column("row", pa.array(range(table.num_rows), pa.int64()))
    return table.take(rows.group_by("key").aggregate([("row", "min")])["row_min"])


def relative_costs(folder: Path = FOLDER) -> dict[str, float]:
    """How long each published method adapts, without its base, relative to ``finetune``.

    The median over the runs of a method of the ratio to the run of ``finetune`` in the same cell:
    the same images, recipe, source model and seed, on the same kind of processor with the same
    versions. Tuned runs are left out, since their settings change their cost.

    The same on every machine with this version of the benchmark.
    """
    rows = with_status(rows_of_table(published_rows(read_published(folder))), "ok")
    seconds = {row["key"]: row["measured_adapt_seconds"] or 0.0 for row in rows}
    cells: dict[tuple[Hashable, ...], dict[str, float]] = {}
    for row in rows:
        if row["search"] is None:
            rest = max(0.0, seconds[row["key"]] - seconds.get(row["base"], 0.0))
            place = tuple(row[name] for name in (*_CELL, "environment"))
            cells.setdefault(place, {})[row["method"]] = rest
    ratios: dict[str, list[float]] = {}
    for cell in cells.values():
        unit = cell.get(gamma_star.BASE, 0.0)
        for method, rest in cell.items() if unit > 0 else ():
            ratios.setdefault(method, []).append(rest / unit)
    return {method: median(values) for method, values in ratios.items()}
