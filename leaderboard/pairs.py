"""Compare two methods of a board: on the same tasks, seeds and test images, and by class."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from benchmark.commands import command
from benchmark.errors import MAX_ITEM, UsageError
from benchmark.manifest.suite import Suite
from benchmark.text import one_line, seed_list
from leaderboard.board import MEAN, POOLED, Board
from leaderboard.columns import Column, column_of
from leaderboard.filters import check_known, is_method
from leaderboard.predictions import counted_samples
from leaderboard.statistics import LEVEL, Difference

MAX_NAMED = 8  # labels in a message
# Fewer test images of a class are not enough for the largest gains and losses: of two images, one
# is a difference of 50 points.
MIN_IMAGES = 10


@dataclass(frozen=True)
class ClassDifference:
    """How much more of a class's test images the first method gets right.

    Attributes:
        name: the class.
        group: ``seen`` or ``missing``.
        n: test images of the class, over all tasks in which it is in this group.
        first, second: accuracy in per cent, mean over these tasks and over seeds.
    """

    name: str
    group: str
    n: int
    first: float
    second: float

    @property
    def difference(self) -> float:
        """In points."""
        return self.first - self.second


class _TaskPart(NamedTuple):
    """A class in one task: test images, and the accuracy of both methods in per cent."""

    n: int
    first: float
    second: float


@dataclass(frozen=True)
class Pair:
    """Two methods of a board that are both complete on at least one of its tasks.

    Attributes:
        board: a table with both.
        first, second: their labels.
        left_out: tasks that the table does not have, because one of them is not complete there.
    """

    board: Board
    first: str
    second: str
    left_out: tuple[str, ...] = ()

    @property
    def metrics(self) -> tuple[Column, ...]:
        """The columns that are compared: overall, seen and missing accuracy."""
        return tuple(map(column_of, self.board.headline))

    @cached_property
    def tasks(self) -> list[str]:
        """The tasks on which both are complete, after the averages if there are several."""
        tasks = self.board.suite.tasks
        every = tasks if len(tasks) == 1 else (MEAN, POOLED, *tasks)
        return [task for task in every if self.difference(task) is not None]

    @property
    def averages(self) -> list[str]:
        """Those of ``tasks`` that are ``MEAN`` or ``POOLED``."""
        return [task for task in self.tasks if task in (MEAN, POOLED)]

    def difference(self, task: str, metric: str | None = None) -> Difference | None:
        """The paired difference; None unless both are complete.

        Args:
            task: a task, ``MEAN`` or ``POOLED``; the last has no difference if the suite has no
                pooled values, and NaN where they are not known.
            metric: key of a column; by default of the one that ranks the methods.
        """
        statistics = self.board.statistics
        if statistics is None:
            return None
        return statistics.difference(self.first, self.second, task, metric)

    def value(self, label: str, task: str, metric: str | None = None) -> float:
        """A method's mean over seeds, in per cent; the arguments are those of ``difference``."""
        statistics = self.board.statistics
        assert statistics is not None, "or there would be no difference"
        return statistics.value(label, task, metric)

    @cached_property
    def classes(self) -> list[ClassDifference]:
        """All classes with test images, the largest gain first; empty if only scores are known.

        A class that is seen in some tasks and missing in others has one entry for each.
        """
        parts: dict[tuple[int, bool], list[_TaskPart]] = {}
        for task in self.tasks[len(self.averages) :]:
            of_task = self._of_task(task)
            if of_task is None:
                return []
            for key, part in of_task.items():
                parts.setdefault(key, []).append(part)
        assert self.board.manifest is not None
        rows = [
            ClassDifference(
                self.board.manifest.classes[index],
                "seen" if is_seen else "missing",
                sum(part.n for part in of_class),
                fmean(part.first for part in of_class),
                fmean(part.second for part in of_class),
            )
            for (index, is_seen), of_class in parts.items()
        ]
        return sorted(rows, key=lambda row: (-row.difference, row.name))

    def _of_task(self, task: str) -> dict[tuple[int, bool], _TaskPart] | None:
        """By class and whether it is seen; None if outcomes are not known."""
        board = self.board
        if board.outcomes is None or board.manifest is None:
            return None
        samples = counted_samples(board.manifest, task)
        accuracies = []
        for label in (self.first, self.second):
            of_cell = board.rows.equal("label", label) & board.rows.equal("task", task)
            rows = board.rows.where(of_cell)
            outcomes = [board.outcomes(row) for row in rows]
            right = [outcome.right for outcome in outcomes if outcome is not None]
            if not right or len(right) < len(outcomes):
                return None
            accuracies.append(100 * np.mean(right, axis=0))
        parts = {}
        for index in np.unique(samples.labels).tolist():
            of_class = samples.labels == index
            first, second = (float(accuracy[of_class].mean()) for accuracy in accuracies)
            is_seen = bool(samples.is_seen[of_class][0])
            parts[index, is_seen] = _TaskPart(int(of_class.sum()), first, second)
        return parts

    def largest(self, count: int) -> tuple[list[ClassDifference], list[ClassDifference]]:
        """The classes that gain most, and those that lose most; none with few test images."""
        large = [row for row in self.classes if row.n >= MIN_IMAGES]
        gains = [row for row in large if row.difference > 0]
        losses = [row for row in reversed(large) if row.difference < 0]
        return gains[:count], losses[:count]

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON; NaN becomes None."""
        return {
            "table": self.board.name,
            "first": self.first,
            "second": self.second,
            "level": LEVEL,
            "left_out": list(self.left_out),
            "tasks": [
                {
                    "task": task,
                    **{column.key: self._as_dict(task, column.key) for column in self.metrics},
                }
                for task in self.tasks
            ],
            "classes": [{**asdict(c), "difference": c.difference} for c in self.classes],
        }

    def _as_dict(self, task: str, metric: str) -> dict[str, float | None]:
        difference = self.difference(task, metric)
        assert difference is not None
        values = {
            "first": self.value(self.first, task, metric),
            "second": self.value(self.second, task, metric),
            "difference": difference.value,
            "low": difference.low,
            "high": difference.high,
            "p": difference.p,
        }
        return {name: None if math.isnan(value) else value for name, value in values.items()}


def compare(
    boards_of: Callable[[Suite, Collection[str]], Sequence[Board]],
    suite: Suite,
    first: str,
    second: str,
) -> Pair:
    """The pair of methods that two texts name, on a table of the tasks on which both are complete.

    Args:
        boards_of: gives the boards of a suite; the second argument has the keys of runs whose
            versions they show, as for :func:`leaderboard.board.build_boards`.
        suite: the suite.
        first, second: as for :func:`find_pair`.

    Raises:
        UsageError: as :func:`find_pair`.
    """
    pair = find_pair(boards_of(suite, ()), first, second)
    left_out = tuple(task for task in suite.tasks if task not in pair.tasks)
    if not left_out:
        return pair
    part = suite.part([task for task in suite.tasks if task in pair.tasks])
    # On some of the tasks, another version of a method's code could have more runs.
    boards = boards_of(part, pair.board.keys)
    return replace(find_pair(boards, pair.first, pair.second), left_out=left_out)


def find_pair(boards: Sequence[Board], first: str, second: str) -> Pair:
    """The pair of methods that two texts name, in the first board that has both.

    Args:
        boards: of a suite.
        first, second: labels, or unambiguous beginnings of labels.

    Raises:
        UsageError: a text names no method or several, both name the same one, or they have no
            complete task in common.
    """
    known = sorted({label for board in boards for label in board.labels})
    names = [find_label(text, known) for text in (first, second)]
    if names[0] == names[1]:
        raise UsageError(f"{first!r} and {second!r} are the same method; name two different ones")
    shared = [board for board in boards if all(name in board.labels for name in names)]
    for board in shared:
        if (pair := Pair(board, names[0], names[1])).tasks:
            return pair
    board = boards[0]
    what = "are in different tables"
    if shared:
        what = f"share no task of which both have runs of {seed_list(board.suite.seeds)}"
    if board.is_published:
        remedy = "leave out --published to compare the results of a workspace"
    else:
        words = ("list", "runs", "--suite", board.suite.argument, *board.workspace_option)
        remedy = f"`{command(*words)}` shows the runs that exist"
        if shared and len(board.suite.seeds) > 1:
            remedy += ", and --seed compares runs of some seeds"
    raise UsageError(f"{names[0]} and {names[1]} cannot be compared: they {what}; {remedy}")


def find_label(text: str, labels: Sequence[str]) -> str:
    """The label that a text names: the label itself, the only one of the method, or its beginning
    if no other begins so.

    Raises:
        UsageError: no label or several; the message names similar ones.
    """
    if text in labels:
        return text
    matches = [label for label in labels if label.startswith(text)]
    of_method = [label for label in matches if is_method(label, [text])]
    for candidates in (of_method, matches):
        if len(candidates) == 1:
            return candidates[0]
    if matches:
        shown = [one_line(label, MAX_ITEM) for label in matches[:MAX_NAMED]]
        more = f" and {len(matches) - MAX_NAMED} more" if len(matches) > MAX_NAMED else ""
        raise UsageError(
            f"{one_line(repr(text), MAX_ITEM)} is the beginning of several methods: "
            f"{', '.join(shown)}{more}; give more of the name"
        )
    check_known(text, labels)
    raise AssertionError("a name without any label is unknown")
