"""Accuracy against the number of seen classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from benchmark.errors import UsageError
from benchmark.text import plural
from leaderboard.board import MEAN, BoardCell
from leaderboard.columns import column_of
from leaderboard.conditions import tasks_by_share
from leaderboard.render.figures.request import Drawing, Request, in_grey
from leaderboard.render.figures.series import (
    Key,
    Series,
    draw_lines,
    draw_others,
    make_key,
    name_lines,
)
from leaderboard.render.figures.style import add_panel, looks, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LIMIT = 8


def draw(request: Request) -> Drawing:
    """Draw overall, seen and missing accuracy of every complete method.

    Raises:
        UsageError: the suite's tasks do not differ in the number of seen classes alone.
    """
    if request.task != MEAN:
        raise UsageError("partial compares tasks, so it cannot be drawn of one; leave out --task")
    sizes = tasks_by_share(request.board, request.manifest)
    if sizes is None:
        raise UsageError(
            f"the tasks of suite {request.board.suite.name} do not have several numbers of seen "
            "classes on the same pairs of domains; choose another, such as --suite icons-partial"
        )
    labels = list(request.cells())
    named = request.named(labels, LIMIT)
    look = looks(named)
    curves = {name: _curves(request, labels, sizes, name) for name in request.accuracies}
    every = np.concatenate([one.y for of_column in curves.values() for one in of_column.values()])
    key = make_key(request, named)
    figure = new_figure(request.width, min(0.28 * request.width + 0.9, 3.0) + key.bottom)
    for i, (name, of_column) in enumerate(curves.items()):
        axes = _panel(figure, request.width, key, i)
        axes.set_ylim(max(-2.0, float(every.min()) - 4), min(102.0, float(every.max()) + 4))
        axes.set_xlim(0.0, max(sizes) * 1.06)
        axes.set_xticks(list(sizes))
        axes.set_title(column_of(name).heading, pad=3)
        draw_others(axes, [of_column[label] for label in labels if label not in look])
        series = [of_column[label] for label in named]
        draw_lines(axes, series, look)
        if i == 0:
            axes.set_ylabel("accuracy (%)")
        else:
            axes.tick_params(labelleft=False)
        if i == 1:
            axes.set_xlabel(f"number of seen classes, of {len(request.manifest.classes)}")
        if i == len(curves) - 1:
            name_lines(axes, key, series, look)
    return Drawing(figure, _caption(request, labels, named, sizes))


def _curves(
    request: Request, labels: Sequence[str], sizes: Mapping[int, Sequence[str]], column: str
) -> dict[str, Series]:
    """The mean of a column over the tasks of each number of seen classes, by label."""
    numbers = np.array(list(sizes), dtype=np.float64)
    cells = [[request.board.of_task(task) for task in tasks] for tasks in sizes.values()]

    def mean(label: str, of_tasks: Sequence[Mapping[str, BoardCell]]) -> float:
        return float(np.mean([of_task[label][column] for of_task in of_tasks]))

    return {
        label: Series(label, numbers, np.array([mean(label, of_tasks) for of_tasks in cells]))
        for label in labels
    }


def _panel(figure: Figure, width: float, key: Key, i: int) -> Axes:
    """One of three panels side by side, of a figure that is so many inches wide."""
    left, gap = 0.42, 0.12
    panel = (width - left - key.right - 2 * gap) / 3
    begin = left + i * (panel + gap)
    return add_panel(figure, begin, 0.38 + key.bottom, width - begin - panel, 0.2)


def _caption(
    request: Request,
    labels: Sequence[str],
    named: Sequence[str],
    sizes: Mapping[int, Sequence[str]],
) -> str:
    counts = sorted({len(tasks) for tasks in sizes.values()})
    each = plural(counts[0], "task") if len(counts) == 1 else f"{counts[0]} to {counts[-1]} tasks"
    return (
        f"{'Macro accuracy' if request.is_macro else 'Accuracy'}, per cent, on all test images, "
        f"those of seen and those of missing classes, against the number of seen classes; means "
        f"over {each} each.{in_grey(labels, named)} {request.what(is_mean=False)}"
        f"{request.not_drawn(labels)}"
    )
