"""The remarks below a leaderboard table: failed and missing runs, inapplicable methods, notes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmark.manifest.suite import Suite
from benchmark.records import NOT_APPLICABLE
from benchmark.text import one_line, printable, seed_list
from leaderboard import gamma_star
from leaderboard.rows import FAILED, Row, group_rows, with_status

MAX_TRIED = 200  # characters of what a search tried
MAX_MESSAGE = 200  # characters of a method's error message
MAX_NOTE = 800  # bytes of a note
MAX_NOTES = 20  # of a run


def problems(suite: Suite, rows: Iterable[Row]) -> tuple[str, ...]:
    """List every failed run with its reason, and every run of the suite that is missing.

    Args:
        suite: the suite, whose tasks and seeds form the grid.
        rows: the rows of one table, one per label, task and seed.
    """
    rows = sorted(rows, key=lambda row: (row["label"], row["task"], row["seed"]))
    failures = [
        f"failed: {row['label']} on {row['task']}, seed {row['seed']}: "
        f"{_first_line(row['error_message'])}"
        for row in with_status(rows, FAILED)
    ]
    return (*failures, *_not_run(suite, rows))


def _not_run(suite: Suite, rows: Sequence[Row]) -> list[str]:
    present = {(row["label"], row["task"], row["seed"]) for row in rows}
    # What does not apply to a task with one seed does not apply with any other.
    present |= {
        (row["label"], row["task"], seed)
        for row in with_status(rows, NOT_APPLICABLE)
        for seed in suite.seeds
    }
    # A derived row can only be missing where its base succeeded; elsewhere the base is named.
    succeeded = {(row["label"], row["task"], row["seed"]) for row in with_status(rows, "ok")}
    bases = gamma_star.base_labels(rows)
    labels = dict.fromkeys(row["label"] for row in rows)
    lines = []
    if methods := [method for method in suite.methods if method not in labels]:
        lines.append(f"not run: {', '.join(methods)}")
    for label in labels:
        tasks_of: dict[str, list[str]] = {}  # by the seeds that are missing
        for task in suite.tasks:
            seeds = [
                seed
                for seed in suite.seeds
                if (label, task, seed) not in present
                and (label not in bases or (bases[label], task, seed) in succeeded)
            ]
            if seeds:
                tasks_of.setdefault(seed_list(seeds), []).append(task)
        if tasks_of:
            parts = [f"{_tasks(suite, tasks)}, {seeds}" for seeds, tasks in tasks_of.items()]
            lines.append(f"not run: {label} on {'; '.join(parts)}")
    return lines


def not_applicable(suite: Suite, rows: Iterable[Row]) -> tuple[str, ...]:
    """List the methods that do not apply to some tasks, with the tasks and the reason."""
    groups = group_rows(
        sorted(with_status(rows, NOT_APPLICABLE), key=lambda row: (row["label"], row["seed"])),
        lambda row: (row["label"], _first_line(row["error_message"])),
    )
    lines = []
    for (label, reason), group in groups.items():
        tasks = [task for task in suite.tasks if any(row["task"] == task for row in group)]
        lines.append(f"{label} on {_tasks(suite, tasks)}: {reason}")
    return tuple(lines)


def notes(suite: Suite, rows: Iterable[Row]) -> tuple[str, ...]:
    """List notes on runs, settings that searches chose, declared steps; equal ones share a line."""
    with_notes = [
        row
        for row in rows
        if row["notes"] not in (None, "[]") or row["search"] or row["declared_steps"]
    ]
    groups = group_rows(
        (
            {**row, "note": one_line(note, MAX_NOTE)}
            for row in sorted(with_notes, key=lambda row: (row["label"], row["seed"]))
            for note in [
                *json.loads(row["notes"] or "[]")[:MAX_NOTES],
                *_search_note(row),
                *_declared_note(row),
            ]
        ),
        lambda row: (row["label"], suite.tasks.index(row["task"]), row["note"]),
    )
    return tuple(
        f"{label} on {suite.tasks[task]}, {seed_list(row['seed'] for row in group)}: {note}"
        for (label, task, note), group in sorted(groups.items())
    )


def _search_note(row: Row) -> list[str]:
    """Which settings a search chose for the run, and what the search cost; empty without one."""
    if row["search"] is None:
        return []
    search = json.loads(row["search"])
    chosen = _settings(search["chosen"])
    tried = "; ".join(_settings(entry["settings"]) for entry in search["tried"])
    return [
        f"{chosen}, chosen by {search['by']} ({search['folds']} folds; settings tried: "
        f"{tried[:MAX_TRIED]}; {search['steps']} gradient steps)"
    ]


def _declared_note(row: Row) -> list[str]:
    """How many of the steps the suite has not counted; empty if it has counted all."""
    if not row["declared_steps"]:
        return []
    declared, total = int(row["declared_steps"]), int(row["total_steps"])
    return [f"{declared} of {total} steps are declared by the method, not counted by the suite"]


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())


def _tasks(suite: Suite, tasks: Sequence[str]) -> str:
    return "every task" if len(tasks) == len(suite.tasks) > 1 else ", ".join(tasks)


def _first_line(message: str | None) -> str:
    """The first line of a method's error message, cut to ``MAX_MESSAGE`` characters."""
    return printable((message or "").partition("\n")[0])[:MAX_MESSAGE]
