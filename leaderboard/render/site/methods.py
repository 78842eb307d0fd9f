"""The page of a method: its definition, its results in every table, and its runs."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from markupsafe import Markup

from leaderboard import columns, remarks
from leaderboard.board import MEAN, Board
from leaderboard.predictions import counted_samples
from leaderboard.render import svg
from leaderboard.render.cells import rank_text
from leaderboard.render.figures.request import LogOf
from leaderboard.render.figures.training import mean_curve, running_mean
from leaderboard.render.site.ranking import (
    AVERAGES,
    Cell,
    Table,
    as_points,
    number,
    state_badge,
)
from leaderboard.rows import Row, with_status

# What the runs of a row have in common, by the name that the page shows.
SHARED = {
    "method code": "method_code",
    "scorer": "scorer_digest",
    "manifest": "manifest_digest",
    "recipe": "recipe_digest",
    "protocol": "protocol",
    "network": "model",
    "device": "device",
    "computation": "computation",
    "environment": "environment",
    "isolation": "isolation",
    "provenance": "provenance",
}
NEAR = 10  # methods above and below, with which a method is compared
MAX_ERRORS = 20  # failed runs that are shown with their traceback
MAX_TRACEBACK = 4000  # characters, from the end


@dataclass(frozen=True)
class Definition:
    """What an installed method declares, and the papers that it comes from.

    Attributes:
        summary: what it does, in one line.
        origin: the package or file that it comes from.
        base: the method whose runs it starts from, or None.
        needs: what it needs to apply to a task.
        fields: defaults of its hyper-parameters by name.
        papers: short citations with their links, if they have one.
    """

    summary: str
    origin: str
    base: str | None = None
    needs: tuple[str, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    papers: tuple[tuple[str, str | None], ...] = ()


@dataclass(frozen=True)
class TaskLine:
    """A method's results on a task, or their mean; ``badge`` says what is missing."""

    task: str
    page: str
    rank: str
    badge: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Gap:
    """How much the mean of a method is above another's, in points, with its interval."""

    other: str
    page: str
    value: str
    half: str
    is_clear: bool
    drawing: Markup


@dataclass(frozen=True)
class ClassLine:
    """Accuracy on a class, mean over seeds, by task: its text, and whether the class is seen."""

    name: str
    values: tuple[tuple[str, bool], ...]


@dataclass(frozen=True)
class Section:
    """A method's results in one table.

    Attributes:
        board: the table.
        axes: the headings of the columns of seen and missing accuracy.
        page: the path of its page.
        lines: its results by task, the mean first.
        points: the plot of all methods.
        changes: the plot of its tasks.
        curve: the plot of its training losses; empty if they are not known.
        gaps: how much it is above its neighbours and the references.
        gap_axis: the heading of their drawings.
        classes: its accuracy by class; empty if only scores are known.
        runs: its rows, by task and seed.
        shared: what the runs have in common: name, and each value with the number of its runs.
        notes: what its runs noted.
        errors: rows of failed runs.
    """

    board: Board
    axes: tuple[str, str]
    page: str
    lines: tuple[TaskLine, ...]
    points: Markup
    changes: Markup
    curve: Markup
    gaps: tuple[Gap, ...]
    gap_axis: Markup
    classes: tuple[ClassLine, ...]
    runs: tuple[Row, ...]
    shared: tuple[tuple[str, tuple[tuple[str, int], ...]], ...]
    notes: tuple[str, ...]
    errors: tuple[Row, ...]


def build_section(
    table: Table,
    label: str,
    rows: Sequence[Row],
    pages: Mapping[str, str],
    task_pages: Mapping[str, str],
    log_of: LogOf | None,
) -> Section:
    """A method's results in a table.

    Args:
        table: the table.
        label: the method's.
        rows: its rows.
        pages: the path of each method's page from this page.
        task_pages: the path of each task's page of this table from this page, and ``MEAN``'s.
        log_of: reads training logs; None where only rows are known.
    """
    board = table.board
    order = {task: position for position, task in enumerate(board.suite.tasks)}
    runs = sorted(rows, key=lambda row: (order[row["task"]], row["seed"]))
    cells = {task: of_task[label] for task, of_task in table.cells.items()}
    gaps, axis = _gaps(table, label, pages)
    return Section(
        board=board,
        axes=table.axes,
        page=task_pages[MEAN],
        lines=tuple(
            TaskLine(
                task,
                task_pages[task],
                rank_text(cell),
                state_badge(board, cell),
                table.numbers[task][label],
            )
            for task, cell in cells.items()
        ),
        points=svg.scatter(
            as_points(table, MEAN, pages, this=label),
            f"{table.both} of all methods, mean over tasks, with {label} marked",
            table.axes,
        ),
        changes=_changes(table, label),
        curve=_curve(board, label, runs, log_of) if log_of is not None else Markup(),
        gaps=gaps,
        gap_axis=axis,
        classes=_classes(board, runs),
        runs=tuple(runs),
        shared=_shared(runs),
        notes=remarks.notes(board.suite, runs),
        errors=tuple(
            {**row, "error_traceback": (row["error_traceback"] or "")[-MAX_TRACEBACK:]}
            for row in with_status(runs, "failed")[:MAX_ERRORS]
        ),
    )


def _changes(table: Table, label: str) -> Markup:
    _, seen, missing = table.accuracies
    nothing = {seen: math.nan, missing: math.nan}
    lines = []
    for task, cells in table.cells.items():
        before, after = cells.get(columns.SOURCE, nothing), cells[label]
        lines.append(
            svg.Change(
                AVERAGES.get(task, task),
                (before[seen], after[seen]),
                (before[missing], after[missing]),
            )
        )
    return svg.changes(lines, f"{table.both} of the source model and of {label}, task by task")


def _curve(board: Board, label: str, runs: Sequence[Row], log_of: LogOf) -> Markup:
    """The mean training loss on each task, and of all runs; empty if a run logged none."""
    ok = with_status(runs, "ok")
    logs = {(row["task"], row["seed"]): log_of(row) for row in ok}
    lines = [
        svg.Line(task, *mean_curve([log for (t, _), log in logs.items() if t == task]))
        for task in board.suite.tasks
    ]
    steps, losses = mean_curve(list(logs.values()))
    if steps.size < 2:
        return Markup()
    mean = svg.Line("mean over tasks", steps, running_mean(losses))
    return svg.curves(lines, mean, f"Training loss of {label} by gradient step")


def _gaps(table: Table, label: str, pages: Mapping[str, str]) -> tuple[tuple[Gap, ...], Markup]:
    """The paired differences from its neighbours and the references, and the drawings' axis."""
    board = table.board
    if board.statistics is None:
        return (), Markup()
    labels = table.labels[MEAN]
    column = columns.column_of(table.accuracies[0])
    place = labels.index(label)
    near = labels[max(0, place - NEAR) : place + NEAR + 1]
    differences = {
        other: difference
        for other in [name for name in labels if name in near or name in columns.REFERENCES]
        if other != label and (difference := board.statistics.difference(label, other)) is not None
    }
    if not differences or not any(math.isfinite(d.half) for d in differences.values()):
        return (), Markup()
    scale = svg.axis_of(
        [0.0, *(d.low for d in differences.values())], [d.high for d in differences.values()]
    )
    gaps = tuple(
        Gap(
            other,
            pages[other],
            number(column, d.value),
            number(column, d.half),
            d.low > 0 or d.high < 0,
            svg.interval(scale, d.value, d.half, 0.0),
        )
        for other, d in differences.items()
    )
    return gaps, svg.axis(scale)


def _classes(board: Board, runs: Sequence[Row]) -> tuple[ClassLine, ...]:
    """Accuracy by class and task, of the tasks whose outcomes are known for all runs."""
    if board.outcomes is None or board.manifest is None:
        return ()
    texts: dict[int, dict[str, tuple[str, bool]]] = {}
    for task in board.suite.tasks:
        outcomes = [board.outcomes(row) for row in with_status(runs, "ok") if row["task"] == task]
        known = [outcome.right for outcome in outcomes if outcome is not None]
        if not known or len(known) < len(outcomes):
            continue
        samples = counted_samples(board.manifest, task)
        right = np.mean(known, axis=0)
        total = np.bincount(samples.labels)
        hits = np.bincount(samples.labels, weights=right)
        seen = np.zeros(len(total), dtype=bool)
        seen[samples.labels] = samples.is_seen
        for index in np.flatnonzero(total).tolist():
            text = f"{100 * hits[index] / total[index]:.0f}"
            texts.setdefault(index, {})[task] = text, bool(seen[index])
    return tuple(
        ClassLine(
            board.manifest.classes[index],
            tuple(of_class.get(task, ("", False)) for task in board.suite.tasks),
        )
        for index, of_class in sorted(texts.items())
    )


def _shared(runs: Sequence[Row]) -> tuple[tuple[str, tuple[tuple[str, int], ...]], ...]:
    counts = {
        name: Counter(_plain(row[key]) for row in runs if row[key]) for name, key in SHARED.items()
    }
    return tuple(
        (name, tuple(counter.most_common())) for name, counter in counts.items() if counter
    )


def _plain(text: str) -> str:
    """JSON of a row as words: ``name: value`` pairs, or the items of a list."""
    try:
        value = json.loads(text) if text[:1] in "[{" else text
    except ValueError:
        return text
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_inner(item)}" for name, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else text


def _inner(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


def settings(rows: Sequence[Row], definition: Definition | None) -> list[tuple[str, str, str]]:
    """Name, value and default of each hyper-parameter; several values where a search chose.

    Args:
        rows: all runs of the method.
        definition: what the method declares, if it is installed.
    """
    values: dict[str, dict[str, None]] = {}
    for row in rows:
        for name, value in json.loads(row["config"] or "{}").items():
            values.setdefault(name, {})[str(value)] = None
    defaults = definition.fields if definition else {}
    return [
        (name, ", ".join(of_name), str(defaults[name]) if name in defaults else "")
        for name, of_name in values.items()
    ]
