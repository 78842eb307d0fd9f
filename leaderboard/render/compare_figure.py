"""Draw the paired difference of two methods, task by task, as a forest plot."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from benchmark.drawing import settings, to_bytes
from benchmark.text import shortened
from leaderboard.pairs import Pair
from leaderboard.render.figures.style import BLUE, RED
from leaderboard.render.pair import task_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Of overall, seen and missing; the marks differ as well as the colours.
STYLES = (("#000000", "o"), (BLUE, "s"), (RED, "^"))
ROW_INCHES, HEAD_INCHES, WIDTH_INCHES = 0.5, 1.2, 6.0
MAX_LABEL = 60  # bytes of a label in the figure


def draw(pair: Pair, form: str) -> bytes:
    """Draw the differences with their intervals, one row per task; equal input gives equal bytes.

    Args:
        pair: the two methods.
        form: one of :data:`benchmark.drawing.FORMS`.
    """
    with settings({"font.size": 9}):
        return to_bytes(_figure(pair), form, dpi=150, bbox_inches="tight")


def _figure(pair: Pair) -> Figure:
    from matplotlib.figure import Figure

    tasks = pair.tasks
    figure = Figure(figsize=(WIDTH_INCHES, HEAD_INCHES + ROW_INCHES * len(tasks)))
    axes = figure.subplots()
    axes.axvline(0, color="0.6", linewidth=0.8, zorder=0)
    shifts = (-0.22, 0.0, 0.22)
    has_intervals = False
    for shift, column, (color, marker) in zip(shifts, pair.metrics, STYLES, strict=True):
        differences = [pair.difference(task, column.key) for task in tasks]
        points = [(i, d) for i, d in enumerate(differences) if d is not None]
        axes.errorbar(
            [d.value for _, d in points],
            [i + shift for i, _ in points],
            xerr=[d.half for _, d in points],  # nothing is drawn for NaN
            fmt=marker,
            color=color,
            markersize=5,
            capsize=2.5,
            linewidth=1.2,
            label=column.heading,
        )
        has_intervals |= any(math.isfinite(d.half) for _, d in points)
    if 0 < len(pair.averages) < len(tasks):
        axes.axhline(len(pair.averages) - 0.5, color="0.8", linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(tasks)), [task_name(pair, task) for task in tasks])
    axes.set_ylim(len(tasks) - 0.5, -0.5)
    first, second = (shortened(label, MAX_LABEL) for label in (pair.first, pair.second))
    axes.set_title(f"{first}\nminus {second}", loc="left", fontsize=10)
    interval = ", with 95 % interval" if has_intervals else ""
    axes.set_xlabel(f"difference in accuracy, points{interval}")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure
