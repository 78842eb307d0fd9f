"""The remarks below a leaderboard table: failed and missing runs, inapplicable methods, notes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmark.isolation.facts import FULL_ISOLATION
from benchmark.manifest.suite import Suite
from benchmark.records import NOT_APPLICABLE
from benchmark.text import first_line, one_line, plural, printable, seed_list
from leaderboard import gamma_star
from leaderboard.columns import ORACLE, SOURCE
from leaderboard.grid import Grid
from leaderboard.row_columns import Rows
from leaderboard.rows import FAILED, Row, group_rows

MAX_MESSAGE = 400  # bytes of a method's error message
MAX_NOTE = 800  # bytes of a note
MAX_NOTES = 20  # of a run


def problems(suite: Suite, rows: Iterable[Row]) -> tuple[str, ...]:
    """List every failed run with its reason, and every run of the suite that is missing.

    Args:
        suite: the suite, whose tasks and seeds form the grid.
        rows: the rows of one table, one per label, task and seed.
    """
    rows = Rows.of(rows)
    failed = rows.where(rows.equal("status", FAILED))
    failures = [
        f"failed: {row['label']} on {row['task']}, seed {row['seed']}: "
        f"{_first_line(row['error_message'])}"
        for row in sorted(failed, key=lambda row: (row["label"], row["task"], row["seed"]))
    ]
    return (*failures, *_not_run(suite, rows))


def _not_run(suite: Suite, rows: Rows) -> list[str]:
    grid = Grid.of_rows(rows, suite.tasks, suite.seeds)
    missing = ~grid.present
    # What does not apply to a task with one seed does not apply with any other.
    refused = np.zeros(grid.shape, dtype=bool)
    refused.reshape(-1)[grid.cells[rows.equal("status", NOT_APPLICABLE)]] = True
    missing &= ~refused.any(axis=2, keepdims=True)
    # A derived row can only be missing where its base succeeded; elsewhere the base is named. It
    # cannot be run by itself, so it is not named where a filter has left out its base.
    succeeded = np.zeros(grid.shape, dtype=bool)
    succeeded.reshape(-1)[grid.cells[rows.equal("status", "ok")]] = True
    position = {label: i for i, label in enumerate(grid.labels)}
    bases = gamma_star.base_labels(rows)
    for label in rows.where(rows.equal("method", gamma_star.NAME)).codes("label").names:
        can_be = succeeded[:, position[bases[label]]] if label in bases else False
        missing[:, position[label]] &= can_be
    tuned = rows.where(rows.is_known("search")).codes("method").names
    known = {*grid.labels, *tuned}  # tuned, or as declared
    lines = []
    if methods := [method for method in suite.methods if method not in known]:
        lines.append(f"not run: {', '.join(methods)}")
    labels_of: dict[str, list[str]] = {}  # by the tasks and seeds that are missing
    for i in np.flatnonzero(missing.any(axis=(0, 2))).tolist():
        tasks_of: dict[str, list[str]] = {}  # by the seeds that are missing
        for task, of_task in zip(suite.tasks, missing[:, i], strict=True):
            if seeds := [
                seed for seed, is_missing in zip(suite.seeds, of_task, strict=True) if is_missing
            ]:
                tasks_of.setdefault(seed_list(seeds), []).append(task)
        parts = [f"{_tasks(suite, tasks)}, {seeds}" for seeds, tasks in tasks_of.items()]
        labels_of.setdefault("; ".join(parts), []).append(grid.labels[i])
    lines += [f"not run: {', '.join(labels)} on {where}" for where, labels in labels_of.items()]
    return lines


def not_applicable(suite: Suite, rows: Iterable[Row]) -> tuple[str, ...]:
    """List the methods that do not apply to some tasks, with the tasks and the reason."""
    rows = Rows.of(rows)
    refused = rows.where(rows.equal("status", NOT_APPLICABLE))
    groups = group_rows(
        sorted(refused, key=lambda row: (row["label"], row["seed"])),
        lambda row: (row["label"], _first_line(row["error_message"])),
    )
    lines = []
    for (label, reason), group in groups.items():
        tasks = [task for task in suite.tasks if any(row["task"] == task for row in group)]
        lines.append(f"{label} on {_tasks(suite, tasks)}: {reason}")
    return tuple(lines)


def notes(suite: Suite, rows: Iterable[Row]) -> tuple[str, ...]:
    """List absent isolation, notes on runs, declared steps and the settings that searches chose.

    Equal notes share a line, and so do all searches of a method.
    """
    rows = Rows.of(rows)
    has_declared = np.nan_to_num(rows.numbers("declared_steps")) != 0
    has_notes = rows.is_known("notes") & ~rows.equal("notes", "[]")
    with_notes = rows.where(has_declared | has_notes)
    groups = group_rows(
        (
            {**row, "note": one_line(note, MAX_NOTE)}
            for row in sorted(with_notes, key=lambda row: (row["label"], row["seed"]))
            for note in [
                *json.loads(row["notes"] or "[]")[:MAX_NOTES],
                *_declared_note(row),
            ]
        ),
        lambda row: (row["label"], suite.tasks.index(row["task"]), row["note"]),
    )
    lines = [
        f"{label} on {suite.tasks[task]}, {seed_list(row['seed'] for row in group)}: {note}"
        for (label, task, note), group in sorted(groups.items())
    ]
    return (*_not_isolated(rows), *lines, *_searches(suite, rows))


def undefined_gaps(suite: Suite, rows: Iterable[Row]) -> tuple[str, ...]:
    """Say on which tasks and seeds there is no gap to close; empty if there is one on all."""
    grid = Grid.of_rows(rows, suite.tasks, suite.seeds)
    if not {SOURCE, ORACLE} <= set(grid.labels):
        return ()
    source, oracle = (
        grid.values("overall")[:, grid.labels.index(label)] for label in (SOURCE, ORACLE)
    )
    tasks_of: dict[str, list[str]] = {}  # by the seeds without a gap
    for task, has_none in zip(suite.tasks, oracle <= source, strict=True):
        if seeds := [seed for seed, none in zip(suite.seeds, has_none, strict=True) if none]:
            tasks_of.setdefault(seed_list(seeds), []).append(task)
    if not tasks_of:
        return ()
    where = "; ".join(f"{_tasks(suite, tasks)}, {seeds}" for seeds, tasks in tasks_of.items())
    return (
        f"gap: {ORACLE} is not above {SOURCE} on {where}, so there is no gap to close; a mean over "
        "tasks or seeds that contains such a run is undefined too (-)",
    )


def _not_isolated(rows: Rows) -> tuple[str, ...]:
    """Name the methods with runs in which not every measure of isolation was in force."""
    rows = rows.where(rows.equal("status", "ok") & rows.is_known("isolation"))
    of_runs = rows.codes("isolation")
    labels_of: dict[str, set[str]] = {}  # by the absent measures
    for number, measures in enumerate(of_runs.names):
        if absent := [fact for fact in FULL_ISOLATION if fact not in json.loads(measures)]:
            labels = rows.where(of_runs.numbers == number).codes("label").names
            labels_of.setdefault(", ".join(absent), set()).update(labels)
    return tuple(
        f"not fully isolated: {', '.join(sorted(labels))} ran without these measures: {absent}; "
        "htbench doctor shows what a machine can enforce"
        for absent, labels in sorted(labels_of.items())
    )


def _searches(suite: Suite, rows: Rows) -> list[str]:
    """Which settings searches chose for each task, and what the searches cost: a line a method."""
    searched = [
        {**row, "search": json.loads(row["search"])} for row in rows.where(rows.is_known("search"))
    ]
    by_method = group_rows(
        searched, lambda row: (row["label"], row["search"]["by"], row["search"]["folds"])
    )
    lines = []
    for (label, by, folds), group in sorted(by_method.items()):
        searches = [row["search"] for row in {row["task"]: row for row in group}.values()]
        tried = [entry for search in searches for entry in search["tried"]]
        n_failed = sum(entry.get("seen") is None for entry in tried)
        cost = [
            plural(folds, "fold"),
            f"{plural(len(tried), 'setting')} tried",
            *([f"{n_failed} of them failed"] if n_failed else []),
            plural(sum(search["steps"] for search in searches), "gradient step"),
        ]
        chosen = group_rows(group, lambda row: _settings(row["search"]["chosen"]))
        parts = [
            f"{settings} on {_tasks(suite, [t for t in suite.tasks if t in tasks])}"
            for settings, of_settings in chosen.items()
            if (tasks := {row["task"] for row in of_settings})
        ]
        head = f"{label}, {seed_list(row['seed'] for row in group)}"
        line = f"{head}, chosen by {by} ({', '.join(cost)}): {'; '.join(parts)}"
        lines.append(printable(line))
    return lines


def _declared_note(row: Row) -> list[str]:
    """How many of the steps the benchmark has not counted; empty if it has counted all."""
    if not row["declared_steps"]:
        return []
    declared, total = int(row["declared_steps"]), int(row["total_steps"])
    steps = plural(total, "step")
    return [f"{declared} of {steps} are declared by the method, not counted by htbench"]


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())


def _tasks(suite: Suite, tasks: Sequence[str]) -> str:
    return "every task" if len(tasks) == len(suite.tasks) > 1 else ", ".join(tasks)


def _first_line(message: str | None) -> str:
    """The first line of a method's error message, cut to ``MAX_MESSAGE`` bytes."""
    return one_line(first_line(message or ""), MAX_MESSAGE)
