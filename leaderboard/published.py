"""The results that are published with this project: rows of runs and outcomes, no predictions.

Each file in ``leaderboard/published/`` has the runs of one suite, and says which command made them,
from which commit, on which machine. Rows of accepted submissions are beside them; see
``accepted.py``. Where two have a row of the same key, the suite's is used.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pyarrow as pa
import pyarrow.compute as pc

from benchmark.errors import DataError, UsageError
from benchmark.files import canonical_json
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite
from leaderboard import gamma_star
from leaderboard.accepted import STORED, Accepted, read_accepted
from leaderboard.board import MEAN, build_boards
from leaderboard.intervals import OutcomesOf
from leaderboard.outcomes import Outcomes
from leaderboard.results_file import read_table, write_table
from leaderboard.rows import SCHEMA, rows_of_table, with_status

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
    if earlier:
        published = published_rows(earlier)
        is_own = pc.is_in(published["key"], pa.array(sorted(own), pa.string()))
        results = pa.concat_tables([results, published.filter(pc.invert(is_own))])
    boards = [
        board
        for board in build_boards(suite, manifest, results)
        if (board.is_tuned if suite.tuned else board.is_main)
    ]
    means = boards[0].of_task(MEAN).values() if boards else ()
    complete = {cell["label"].partition("(")[0] for cell in means if cell["state"] != "partial"}
    absent = [method for method in suite.methods if method not in complete]
    if absent:
        raise UsageError(
            f"suite {suite.name} cannot be published: these methods do not have all of their runs: "
            f"{', '.join(absent)}; run the whole suite first"
        )
    methods = pa.array([*suite.methods, gamma_star.NAME])
    keys = set(results.filter(pc.is_in(results["method"], methods))["key"].to_pylist())
    keys &= boards[0].keys
    base_of = dict(zip(results["key"].to_pylist(), results["base"].to_pylist(), strict=True))
    waiting = list(keys)
    while waiting:  # a row is of the version of the runs that it starts from
        base = base_of.get(waiting.pop())
        if base in base_of and base not in keys:
            keys.add(base)
            waiting.append(base)
    rows = results.filter(pc.is_in(results["key"], pa.array(sorted(keys), pa.string())))
    rows = rows.sort_by("key")
    of_earlier = published_outcomes(earlier)
    of_own = outcomes or (lambda _: None)
    of_rows = _outcomes(rows, lambda row: (of_own if row["key"] in own else of_earlier)(row))
    column = pa.array([of_rows.get(key) for key in rows["key"].to_pylist()], pa.binary())
    taken = keys - own
    used = [entry for entry in earlier if not taken.isdisjoint(entry.results["key"].to_pylist())]
    # A workspace that adds no row made nothing of the file.
    facts = _joined_facts([*(entry.facts for entry in used), *([facts] if keys & own else [])])
    text = canonical_json(dict(facts)).decode()
    table = rows.append_column(STORED.field("outcomes"), column)
    write_table(folder / f"{suite.name}.parquet", table, text)
    return Published(suite.name, rows, facts, of_rows)


def _joined_facts(facts: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The facts of several results, each value once: ``{"commit": "abc; def", ...}``."""
    names = facts[-1]
    each = {name: [part for of in facts for part in of[name].split("; ")] for name in names}
    return {name: "; ".join(dict.fromkeys(parts)) for name, parts in each.items()}


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
        table, facts = read_table(path, STORED)
        if not facts:
            raise DataError(
                f"the published results {path} are damaged or of another version; restore the file "
                f"from the repository: git checkout {path.name}"
            )
        stored = zip(table["key"].to_pylist(), table["outcomes"].to_pylist(), strict=True)
        outcomes = {key: content for key, content in stored if content is not None}
        results = table.select(SCHEMA.names)
        entries.append(Published(path.stem, results, json.loads(facts), outcomes))
    return entries


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
    the same images, recipe, source model and seed, which were run by the same command. Tuned runs
    are left out, since their settings change their cost.

    The same on every machine with this version of the suite.
    """
    rows = with_status(rows_of_table(published_rows(read_published(folder))), "ok")
    seconds = {row["key"]: row["measured_adapt_seconds"] or 0.0 for row in rows}
    cells: dict[tuple[Hashable, ...], dict[str, float]] = {}
    for row in rows:
        if row["search"] is None:
            rest = max(0.0, seconds[row["key"]] - seconds.get(row["base"], 0.0))
            cells.setdefault(tuple(row[name] for name in _CELL), {})[row["method"]] = rest
    ratios: dict[str, list[float]] = {}
    for cell in cells.values():
        unit = cell.get(gamma_star.BASE, 0.0)
        for method, rest in cell.items() if unit > 0 else ():
            ratios.setdefault(method, []).append(rest / unit)
    return {method: median(values) for method, values in ratios.items()}
