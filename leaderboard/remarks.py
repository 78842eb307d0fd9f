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
    known = {*labels, *(row["method"] for row in rows if row["search"])}  # tuned, or as declared
    lines = []
    if methods := [method for method in suite.methods if method not in known]:
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
    """List notes on runs, declared steps and the settings that searches chose.

    Equal notes share a line, and so do all searches of a method.
    """
    rows = list(rows)
    with_notes = [row for row in rows if row["notes"] not in (None, "[]") or row["declared_steps"]]
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
    return (*lines, *_searches(suite, rows))


def _searches(suite: Suite, rows: Iterable[Row]) -> list[str]:
    """Which settings searches chose for each task, and what the searches cost: a line a method."""
    searched = [{**row, "search": json.loads(row["search"])} for row in rows if row["search"]]
    by_method = group_rows(
        searched, lambda row: (row["label"], row["search"]["by"], row["search"]["folds"])
    )
    lines = []
    for (label, by, folds), group in sorted(by_method.items()):
        searches = [row["search"] for row in {row["task"]: row for row in group}.values()]
        tried = [entry for search in searches for entry in search["tried"]]
        n_failed = sum(entry.get("seen") is None for entry in tried)
        cost = [
            f"{folds} folds",
            f"{len(tried)} settings tried",
            *([f"{n_failed} of them failed"] if n_failed else []),
            f"{sum(search['steps'] for search in searches)} gradient steps",
        ]
        chosen = group_rows(group, lambda row: _settings(row["search"]["chosen"]))
        parts = [
            f"{settings} on {_tasks(suite, [t for t in suite.tasks if t in tasks])}"
            for settings, of_settings in chosen.items()
            if (tasks := {row["task"] for row in of_settings})
        ]
        head = f"{label}, {seed_list(row['seed'] for row in group)}"
        lines.append(f"{head}, chosen by {by} ({', '.join(cost)}): {'; '.join(parts)}")
    return lines


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
