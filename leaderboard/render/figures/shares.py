"""Accuracy against the number of seen classes."""

from __future__ import annotations

import numpy as np

from benchmark.errors import UsageError
from benchmark.text import plural
from leaderboard.board import MEAN
from leaderboard.columns import column_of
from leaderboard.conditions import tasks_by_share
from leaderboard.render.figures.request import Drawing, Request
from leaderboard.render.figures.series import (
    Series,
    draw_lines,
    draw_others,
    make_key,
    name_lines,
)
from leaderboard.render.figures.style import add_panel, looks, new_figure

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
    numbers = np.array(sorted(sizes), dtype=np.float64)
    cells = {task: request.board.of_task(task) for tasks in sizes.values() for task in tasks}
    values = {
        (label, name): np.array(
            [np.mean([cells[task][label][name] for task in sizes[int(n)]]) for n in numbers]
        )
        for label in labels
        for name in request.accuracies
    }
    key = make_key(request, named)
    height = min(0.28 * request.width + 0.9, 3.0) + key.bottom
    figure = new_figure(request.width, height)
    left, gap = 0.42, 0.12
    panel = (request.width - left - key.right - 2 * gap) / 3
    flat = np.concatenate(list(values.values()))
    low, high = float(flat.min()), float(flat.max())
    for i, name in enumerate(request.accuracies):
        begin = left + i * (panel + gap)
        axes = add_panel(figure, begin, 0.38 + key.bottom, request.width - begin - panel, 0.2)
        axes.set_ylim(max(-2.0, low - 4), min(102.0, high + 4))
        axes.set_xlim(0.0, float(numbers[-1]) * 1.06)
        axes.set_xticks(numbers)
        axes.set_title(column_of(name).heading, pad=3)
        series = [Series(label, numbers, values[label, name]) for label in named]
        others = [
            Series(label, numbers, values[label, name]) for label in labels if label not in look
        ]
        draw_others(axes, others)
        draw_lines(axes, series, look)
        if i == 0:
            axes.set_ylabel("accuracy (%)")
        else:
            axes.tick_params(labelleft=False)
        if i == 1:
            axes.set_xlabel(f"number of seen classes, of {len(request.manifest.classes)}")
        if i == len(request.accuracies) - 1:
            name_lines(axes, key, series, look)
    others_line = (
        f" Grey: {plural(len(labels) - len(named), 'other method')}." if labels != named else ""
    )
    counts = {len(tasks) for tasks in sizes.values()}
    each = (
        plural(counts.pop(), "task")
        if len(counts) == 1
        else f"{min(counts)} to {max(counts)} tasks"
    )
    return Drawing(
        figure,
        f"{'Macro accuracy' if request.is_macro else 'Accuracy'}, per cent, on all test images, "
        f"those of seen and those of missing classes, against the number of seen classes; means "
        f"over {each} each."
        f"{others_line} {request.what(is_mean=False)}{request.not_drawn(labels)}",
    )
