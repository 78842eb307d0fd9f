"""From results to the table everyone sees: which rows belong together, means, what is missing.

A table holds rows of one manifest digest, protocol version, model and recipe, and of one source
checkpoint per source domain: numbers of another source model are not comparable. Such rows form
another, named table.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from benchmark.manifest import Manifest, Suite, network_label
from benchmark.records import NOT_APPLICABLE
from benchmark.text import printable
from leaderboard.results import CALIBRATED, star_label


@dataclass(frozen=True)
class Column:
    """A column of the board.

    Attributes:
        name: its name in data; ``title``: its heading.
        digits: decimal places; ``higher_is_better``: None where neither is.
        spread: whether the standard deviation over seeds is shown.
    """

    name: str
    title: str
    digits: int
    higher_is_better: bool | None
    spread: bool = False


COLUMNS = (
    Column("overall", "overall", 1, True, spread=True),
    Column("seen", "seen", 1, True, spread=True),
    Column("missing", "missing", 1, True, spread=True),
    Column("disruption", "disruption", 1, False),
    Column("harmonic", "H", 1, True),
    Column("ausuc", "AUSUC", 3, True),
    Column("gap_closed", "gap %", 0, True),
    Column("total_steps", "steps", 0, None),
    Column("sequential_steps", "depth", 0, None),
    Column("measured_adapt_seconds", "adapt s", 1, None),
    Column("peak_mib", "peak MiB", 0, None),
)
MAX_TRIED = 200  # characters of what a search tried
MEAN = "mean"  # the pseudo-task that averages over the suite's tasks
FAILED = "failed"
SOURCE, ORACLE = "source", "oracle-finetune"  # what disruption and the gap are measured from

Row = Mapping[str, Any]  # of the results, with the columns of ``results.SCHEMA``


@dataclass(frozen=True)
class Board:
    """One table of a suite.

    Attributes:
        suite: the suite; ``name``: which table of it this is.
        context: what all its rows share, for the caption.
        counts: (task, n_seen, n_missing).
        cells: one row per method label and task (and ``MEAN``): ``label, track, task, seeds,
            state`` and for each of ``COLUMNS`` its mean over seeds and, with suffix ``_std``, the
            sample standard deviation. State is ``ok``, ``partial`` (seeds lack), ``failed`` or
            ``not-applicable``.
        problems: failed and missing cells by name.
        not_applicable: methods that cannot work on some tasks, with the reason.
        notes: what methods said of their own runs, and which settings a search chose.
    """

    suite: Suite
    name: str
    context: dict[str, str]
    counts: tuple[tuple[str, int, int], ...]
    cells: pd.DataFrame
    problems: tuple[str, ...]
    not_applicable: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def labels(self) -> list[str]:
        """Methods in the order of the board: by mean overall accuracy, then by name."""
        keys = {}
        for cell in self.of_task(MEAN).values():
            overall = cell["overall"]
            unranked = math.inf if math.isnan(overall) else -overall
            keys[cell["label"]] = (cell["track"] == "oracle", unranked, cell["label"])
        return sorted(keys, key=keys.__getitem__)

    def of_task(self, task: str) -> dict[str, dict[Hashable, Any]]:
        """The cells of a task (or of ``MEAN``) by method label."""
        cells = self.cells[self.cells["task"] == task].to_dict("records")
        return {cell["label"]: cell for cell in cells}


def build_boards(suite: Suite, manifest: Manifest, results: pa.Table) -> list[Board]:
    """The tables of a suite: those of the manifest's own network, then others; the newest first.

    Args:
        suite: its tasks and seeds are the grid; methods are those that have rows.
        manifest: the suite's; rows of other manifests are left out.
        results: rows as ``results.update_results`` gives them.
    """
    rows = [
        {**row, "label": printable(row["label"])}
        for row in results.to_pylist()
        if row["manifest_digest"] == manifest.digest
        and row["task"] in suite.tasks
        and row["seed"] in suite.seeds
    ]
    kinds = _grouped(rows, lambda row: (row["protocol"], row["model"], row["recipe_digest"]))
    newest_first = sorted(kinds.values(), key=lambda of_kind: -max(map(_finished, of_kind)))
    newest_first.sort(key=lambda of_kind: not _is_own(of_kind[0], manifest))
    sources = {task: "+".join(sorted(manifest.task(task).sources)) for task in suite.tasks}
    boards: list[Board] = []
    count: Counter[str] = Counter()
    for of_kind in newest_first:
        network = "" if _is_own(of_kind[0], manifest) else f", {_network(of_kind[0])}"
        for part in _by_source(of_kind, sources):
            count[network] += 1
            number = f", table {count[network]}" if count[network] > 1 else ""
            name = f"{suite.name}{network}{number}"
            boards.append(_board(suite, name, manifest, sources, part))
    return boards


def _is_own(row: Row, manifest: Manifest) -> bool:
    """Whether a row is of the network that its manifest has."""
    return bool(json.loads(row["model"]) == manifest.document["model"])


def _network(row: Row) -> str:
    """The network of a row, as `--model` writes it."""
    return printable(network_label(json.loads(row["model"])))


def _grouped(rows: Iterable[Row], key: Callable[[Row], Hashable]) -> dict[Any, list[Row]]:
    """Rows by key, in the order in which the keys appear."""
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def _finished(row: Row) -> float:
    return float(row["measured_finished"] or 0)


def _by_source(rows: Iterable[Row], sources: Mapping[str, str]) -> list[list[Row]]:
    """Split rows so that each part has one checkpoint per source, those with the newest first."""
    parts: dict[int, list[Row]] = {}
    for of_source in _grouped(rows, lambda row: sources[row["task"]]).values():
        checkpoints = _grouped(of_source, lambda row: row["source_digest"]).values()
        newest_first = sorted(checkpoints, key=lambda part: -max(map(_finished, part)))
        for rank, part in enumerate(newest_first):
            parts.setdefault(rank, []).extend(part)
    return [part for _, part in sorted(parts.items())]


def _board(
    suite: Suite, name: str, manifest: Manifest, sources: Mapping[str, str], part: list[Row]
) -> Board:
    rows = _newest(part)
    of = {(row["label"], row["task"], row["seed"]): row for row in rows if row["status"] == "ok"}
    rows = [
        {
            **row,
            "disruption": _disruption(row, of),
            "gap_closed": _gap_closed(row, of),
            "peak_mib": _number(row["measured_peak_memory"]) / 2**20,
        }
        for row in rows
    ]
    judged = [*rows, *_failures_of_stars(rows)]
    by_cell = _grouped(judged, lambda row: (row["label"], row["task"]))
    by_label = _grouped(judged, lambda row: row["label"])
    cells = [
        _cell(label, task, by_label[label][0]["track"], by_cell.get((label, task), []), suite)
        for label in sorted(by_label)
        for task in suite.tasks
    ]
    cells += [_mean_cell(label, by_label[label], suite) for label in sorted(by_label)]
    checkpoints = {sources[row["task"]]: row["source_digest"] for row in rows}
    context = {
        "manifest": f"{manifest.reference} ({manifest.digest[:12]})",
        "protocol": printable(rows[0]["protocol"]),
        "network": _network(rows[0]),
        "source models": ", ".join(
            f"{source} {checkpoints[source][:12]}"
            for source in dict.fromkeys(sources.values())
            if source in checkpoints
        ),
    }
    return Board(
        suite,
        name,
        context,
        _counts(suite, rows),
        pd.DataFrame(cells),
        _problems(suite, rows),
        _not_applicable(suite, rows),
        _notes(suite, rows),
    )


def _newest(rows: Iterable[Row]) -> list[Row]:
    """One row per cell: a method whose code changed has several, and the newest counts."""
    in_time = sorted(rows, key=lambda row: (_finished(row), row["key"]))
    return list({(row["task"], row["label"], row["seed"]): row for row in in_time}.values())


def _failures_of_stars(rows: Sequence[Row]) -> list[Row]:
    """Failed runs of finetune under the label of gamma-star, which has no row beside them.

    Without these its cells would be averages over what is left of a failure.
    """
    labels = {row["label"] for row in rows}
    return [
        {**row, "label": star_label(row["label"])}
        for row in rows
        if row["method"] == CALIBRATED
        and row["status"] != "ok"
        and star_label(row["label"]) in labels
    ]


def _disruption(row: Row, of: Mapping[tuple[str, str, int], Row]) -> float:
    """Missing accuracy of the source model less the method's, on the same task and seed."""
    source = of.get((SOURCE, row["task"], row["seed"]), {})
    return _number(source.get("missing")) - _number(row["missing"])


def _gap_closed(row: Row, of: Mapping[tuple[str, str, int], Row]) -> float:
    """Per cent of the way from the source's overall accuracy to the oracle's.

    NaN where the oracle is not above the source: then there is no gap to close.
    """
    source, oracle = (
        _number(of.get((label, row["task"], row["seed"]), {}).get("overall"))
        for label in (SOURCE, ORACLE)
    )
    gap = oracle - source
    return 100 * (_number(row["overall"]) - source) / gap if gap > 0 else math.nan


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _cell(label: str, task: str, track: str, rows: list[Row], suite: Suite) -> dict[str, Any]:
    good, state = _judged(rows, len(suite.seeds))
    # Never an average over what is left of a failure.
    rest = () if state in (FAILED, NOT_APPLICABLE) else good
    seeds = [{c.name: _number(row[c.name]) for c in COLUMNS} for row in rest]
    return {"label": label, "track": track, "task": task, "seeds": len(good), "state": state,
            **_over_seeds(seeds)}  # fmt: skip


def _mean_cell(label: str, rows: list[Row], suite: Suite) -> dict[str, Any]:
    """Mean over the suite's tasks, seed by seed; nothing where a cell of the grid is not there."""
    good, state = _judged(rows, len(suite.tasks) * len(suite.seeds))
    by_seed = _grouped(good, lambda row: row["seed"]).values() if state == "ok" else ()
    seeds = [
        {c.name: statistics.fmean(_number(row[c.name]) for row in of_seed) for c in COLUMNS}
        for of_seed in by_seed
    ]
    return {"label": label, "track": rows[0]["track"], "task": MEAN, "seeds": len(seeds),
            "state": state, **_over_seeds(seeds)}  # fmt: skip


def _judged(rows: Iterable[Row], wanted: int) -> tuple[list[Row], str]:
    """The rows of runs that ended well, and the state of a cell that wants so many of them."""
    by_status = _grouped(rows, lambda row: row["status"])
    good = by_status.get("ok", [])
    bad = next((status for status in (FAILED, NOT_APPLICABLE) if status in by_status), None)
    return good, bad or ("ok" if len(good) == wanted else "partial")


def _of_status(rows: Iterable[Row], status: str) -> list[Row]:
    return [row for row in rows if row["status"] == status]


def _over_seeds(seeds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean and sample standard deviation of every column; NaN where a seed has no value."""
    found = {}
    for column in COLUMNS:
        values = np.array([values[column.name] for values in seeds])
        found[column.name] = float(values.mean()) if len(seeds) else math.nan
        found[f"{column.name}_std"] = float(values.std(ddof=1)) if len(seeds) > 1 else math.nan
    return found


def _counts(suite: Suite, rows: Iterable[Row]) -> tuple[tuple[str, int, int], ...]:
    good = _of_status(rows, "ok")
    found = {row["task"]: (row["task"], row["n_seen"], row["n_missing"]) for row in good}
    return tuple(found[task] for task in suite.tasks if task in found)


def _problems(suite: Suite, rows: Iterable[Row]) -> tuple[str, ...]:
    """Every failed run with its reason, and every cell of the grid without a run."""
    rows = sorted(rows, key=lambda row: (row["label"], row["task"], row["seed"]))
    problems = [
        f"failed: {row['label']} on {row['task']}, seed {row['seed']}: "
        f"{_first_line(row['error_message'])}"
        for row in _of_status(rows, FAILED)
    ]
    have = {(row["label"], row["task"], row["seed"]) for row in rows}
    # What does not apply to a task does not with any seed.
    have |= {
        (row["label"], row["task"], seed)
        for row in _of_status(rows, NOT_APPLICABLE)
        for seed in suite.seeds
    }
    # A row of gamma-star can only lack where finetune ended well; elsewhere finetune is named.
    good = {(row["label"], row["task"], row["seed"]) for row in _of_status(rows, "ok")}
    derived = {
        star_label(row["label"]): row["label"] for row in rows if row["method"] == CALIBRATED
    }
    labels = dict.fromkeys(row["label"] for row in rows)
    if unrun := [method for method in suite.methods if method not in labels]:
        problems.append(f"not run: {', '.join(unrun)}")
    for label in labels:
        for task in suite.tasks:
            lacking = [
                seed
                for seed in suite.seeds
                if (label, task, seed) not in have
                and (label not in derived or (derived[label], task, seed) in good)
            ]
            if lacking:
                problems.append(f"not run: {label} on {task}, {_seeds(lacking)}")
    return tuple(problems)


def _not_applicable(suite: Suite, rows: Iterable[Row]) -> tuple[str, ...]:
    """Every method that cannot work on some tasks: which ones, and its reason."""
    found = _grouped(
        sorted(_of_status(rows, NOT_APPLICABLE), key=lambda row: (row["label"], row["seed"])),
        lambda row: (row["label"], _first_line(row["error_message"])),
    )
    lines = []
    for (label, reason), of_reason in found.items():
        tasks = [task for task in suite.tasks if any(row["task"] == task for row in of_reason)]
        where = "every task" if len(tasks) == len(suite.tasks) > 1 else ", ".join(tasks)
        lines.append(f"{label} on {where}: {reason}")
    return tuple(lines)


def _notes(suite: Suite, rows: Iterable[Row]) -> tuple[str, ...]:
    """What is to be known of single runs: the same words of several seeds are one line."""
    said = _grouped(
        (
            {**row, "note": printable(note)}
            for row in sorted(rows, key=lambda row: (row["label"], row["seed"]))
            for note in [*json.loads(row["notes"] or "[]"), *_search_note(row)]
        ),
        lambda row: (row["label"], suite.tasks.index(row["task"]), row["note"]),
    )
    return tuple(
        f"{label} on {suite.tasks[task]}, {_seeds([row['seed'] for row in of_note])}: {note}"
        for (label, task, note), of_note in sorted(said.items())
    )


def _search_note(row: Row) -> list[str]:
    """Which settings a search chose for the run, and what the search cost."""
    if row["search"] is None:
        return []
    search = json.loads(row["search"])
    chosen = _settings(search["chosen"])
    tried = "; ".join(_settings(entry["settings"]) for entry in search["tried"])
    return [
        f"{chosen} by {search['by']} (tried on {search['folds']} folds: {tried[:MAX_TRIED]}; "
        f"{search['steps']} gradient steps)"
    ]


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _first_line(message: str | None) -> str:
    """The beginning of a method's own words."""
    return printable((message or "").partition("\n")[0], limit=200)
