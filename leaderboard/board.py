"""From results to the table everyone sees: which rows belong together, means, what is missing.

A table holds rows of one manifest digest, protocol version, model and recipe, and of one source
checkpoint per source domain: numbers of another source model are not comparable. Such rows form
another, named table.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa

from benchmark.manifest import Suite


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
    Column("harmonic", "harmonic", 1, True),
    Column("ausuc", "AUSUC", 3, True),
    Column("total_steps", "steps", 0, None),
    Column("sequential_steps", "sequential", 0, None),
    Column("measured_adapt_seconds", "adapt s", 1, None),
)
MEAN = "mean"  # the pseudo-task that averages over the suite's tasks


@dataclass(frozen=True)
class Board:
    """One table of a suite.

    Attributes:
        suite: the suite; ``name``: which table of it this is.
        context: what all its rows share, for the caption.
        counts: (task, n_seen, n_missing).
        cells: one row per method label and task (and ``MEAN``): ``label, track, task, seeds, state``
            and for each of ``COLUMNS`` its mean over seeds and, with suffix ``_std``, the sample
            standard deviation. State is ``ok``, ``partial`` (seeds lack) or ``failed``.
        problems: failed and missing cells by name.
    """

    suite: Suite
    name: str
    context: dict[str, str]
    counts: tuple[tuple[str, int, int], ...]
    cells: pd.DataFrame
    problems: tuple[str, ...]

    @property
    def labels(self) -> list[str]:
        """Methods in the order of the board: by mean overall accuracy, then by name."""
        mean = self.cells[self.cells["task"] == MEAN]
        key = {row.label: _rank(row.overall) for row in mean.itertuples()}
        tracks = dict(zip(self.cells["label"], self.cells["track"], strict=True))
        return sorted(key, key=lambda label: (tracks[label] == "oracle", key[label], label))


def _rank(value: float) -> float:
    return math.inf if math.isnan(value) else -value


def build_boards(suite: Suite, manifest_digest: str, results: pa.Table) -> list[Board]:
    """The tables of a suite, the one with the newest runs first.

    Args:
        suite: its tasks and seeds are the grid; methods are those that have rows.
        manifest_digest: rows of other manifests are left out.
        results: rows as ``results.update_results`` gives them.
    """
    frame = results.to_pandas()
    frame = frame[(frame["manifest_digest"] == manifest_digest) & frame["task"].isin(suite.tasks)]
    frame = frame[frame["seed"].isin(suite.seeds)]
    boards = []
    groups = frame.groupby(["protocol", "model", "recipe_digest"], sort=True)
    newest_first = sorted(groups, key=lambda g: -g[1]["measured_finished"].max())
    for _, rows in newest_first:
        for part in _by_source(rows):
            name = suite.name if not boards else f"{suite.name}, table {len(boards) + 1}"
            boards.append(_board(suite, name, part))
    return boards


def _by_source(rows: pd.DataFrame) -> Iterable[pd.DataFrame]:
    """Split rows so that each part has one source checkpoint per task, the newest first."""
    ranks: dict[tuple[str, str], int] = {}
    for task, of_task in rows.groupby("task"):
        newest = of_task.groupby("source_digest")["measured_finished"].max()
        for rank, digest in enumerate(newest.sort_values(ascending=False).index):
            ranks[task, digest] = rank
    number = [ranks[t, d] for t, d in zip(rows["task"], rows["source_digest"], strict=True)]
    for _, part in rows.groupby(pd.Series(number, index=rows.index)):
        yield part


def _board(suite: Suite, name: str, rows: pd.DataFrame) -> Board:
    rows = _newest(rows)
    rows = rows.assign(disruption=_disruption(rows))
    labels = sorted(set(rows["label"]))
    cells = [
        _cell(label, task, rows[(rows["label"] == label) & (rows["task"] == task)], suite)
        for label, task in itertools.product(labels, suite.tasks)
    ]
    cells += [_mean_cell(label, rows[rows["label"] == label], suite) for label in labels]
    first = rows.iloc[0]
    context = {
        "manifest": f"{first['manifest']} ({first['manifest_digest'][:12]})",
        "protocol": first["protocol"],
        "source models": ", ".join(
            f"{task} {digest[:12]}"
            for task, digest in rows.groupby("task", sort=False)["source_digest"].first().items()
        ),
    }
    return Board(
        suite, name, context, _counts(suite, rows), pd.DataFrame(cells), _problems(suite, rows)
    )


def _newest(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per cell: a method whose code changed has several, and the newest counts."""
    rows = rows.sort_values(["measured_finished", "key"])
    return rows.drop_duplicates(["task", "label", "seed"], keep="last")


def _disruption(rows: pd.DataFrame) -> list[float]:
    """Missing accuracy of the source model less the method's, on the same task and seed."""
    source = {
        (r.task, r.seed): r.missing
        for r in rows[(rows["label"] == "source") & (rows["status"] == "ok")].itertuples()
    }
    return [source.get((r.task, r.seed), math.nan) - r.missing for r in rows.itertuples()]


def _cell(label: str, task: str, rows: pd.DataFrame, suite: Suite) -> dict[str, Any]:
    good = rows[rows["status"] == "ok"]
    if (rows["status"] == "failed").any():
        state = "failed"
    else:
        state = "ok" if len(good) == len(suite.seeds) else "partial"
    values = good if state != "failed" else good.iloc[:0]  # never an average over what is left
    track = rows["track"].iloc[0] if len(rows) else "standard"
    return {"label": label, "track": track, "task": task, "seeds": len(good), "state": state,
            **_means(values)}  # fmt: skip


def _mean_cell(label: str, rows: pd.DataFrame, suite: Suite) -> dict[str, Any]:
    """Mean over the suite's tasks, seed by seed; nothing where a cell of the grid is not there."""
    good = rows[rows["status"] == "ok"]
    whole = len(good) == len(suite.tasks) * len(suite.seeds)
    names = [c.name for c in COLUMNS]
    values = good.groupby("seed")[names].mean() if whole else good[names].iloc[:0]
    state = "failed" if (rows["status"] == "failed").any() else "ok" if whole else "partial"
    return {"label": label, "track": rows["track"].iloc[0], "task": MEAN,
            "seeds": len(values), "state": state, **_means(values)}  # fmt: skip


def _means(values: pd.DataFrame) -> dict[str, float]:
    found = {}
    for column in COLUMNS:
        data = values[column.name].astype(float)
        found[column.name] = float(data.mean()) if len(data) else math.nan
        found[f"{column.name}_std"] = float(data.std(ddof=1)) if len(data) > 1 else math.nan
    return found


def _counts(suite: Suite, rows: pd.DataFrame) -> tuple[tuple[str, int, int], ...]:
    found = []
    for task in suite.tasks:
        good = rows[(rows["task"] == task) & (rows["status"] == "ok")]
        if len(good):
            found.append((task, int(good["n_seen"].iloc[0]), int(good["n_missing"].iloc[0])))
    return tuple(found)


def _problems(suite: Suite, rows: pd.DataFrame) -> tuple[str, ...]:
    """Every failed run with its reason, and every cell of the grid without a run."""
    problems = [
        f"failed: {r.label} on {r.task}, seed {r.seed}: {_line(r.error_message)}"
        for r in rows.sort_values(["label", "task", "seed"]).itertuples()
        if r.status == "failed"
    ]
    have = set(zip(rows["label"], rows["task"], rows["seed"], strict=True))
    for label in dict.fromkeys([*suite.methods, *sorted(set(rows["label"]))]):
        if not any(cell[0] == label for cell in have):
            problems.append(f"not run: {label}")
            continue
        for task in suite.tasks:
            lacking = [s for s in suite.seeds if (label, task, s) not in have]
            if lacking:
                problems.append(f"not run: {label} on {task}, {_seeds(lacking)}")
    return tuple(problems)


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _line(message: str | None) -> str:
    """The first line of a method's own words, without what a terminal would obey."""
    text = (message or "").partition("\n")[0]
    return "".join(c if c.isprintable() else "?" for c in text)[:200]
