"""The critical-difference diagram: mean ranks over tasks, and which differ significantly."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from benchmark.errors import UsageError
from leaderboard.render.figures.request import Drawing, Request, scores
from leaderboard.render.figures.style import (
    FONT,
    INK,
    MUTED,
    add_panel,
    new_figure,
    shown,
    text_inches,
)
from leaderboard.statistics import LEVEL
from leaderboard.task_ranks import friedman, nemenyi_difference

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MIN_TASKS = 8
MIN_METHODS = 3
LINE = 0.165  # inches from one name to the next


def tied_groups(ranks: np.ndarray, difference: float) -> list[tuple[int, int]]:
    """The largest groups of neighbours whose mean ranks differ by less than a critical difference.

    Args:
        ranks: (M,) mean ranks, ascending.
        difference: the critical difference.

    Returns:
        First and last index of each group of two or more; no group is part of another.
    """
    groups: list[tuple[int, int]] = []
    for first in range(ranks.size):
        last = int(np.flatnonzero(ranks - ranks[first] < difference)[-1])
        if last > first and (not groups or last > groups[-1][1]):
            groups.append((first, last))
    return groups


def draw(request: Request) -> Drawing:
    """Draw the diagram of Demsar (JMLR 7, 2006) for all complete methods but oracles.

    Raises:
        UsageError: there are too few tasks or methods for the test.
    """
    tasks = request.tasks
    if len(tasks) < MIN_TASKS:
        raise UsageError(
            f"a critical-difference diagram needs at least {MIN_TASKS} tasks, and this one has "
            f"{len(tasks)}, with which the test finds hardly any difference; use the ranks of "
            "`htbench leaderboard`, which resample test images, or `htbench figure profile`"
        )
    chosen = request.chosen(request.ranked())
    labels = chosen or request.ranked()
    if len(labels) < MIN_METHODS:
        raise UsageError(
            f"a critical-difference diagram needs at least {MIN_METHODS} methods, and there are "
            f"{len(labels)}; use `htbench compare` for two, or name more with --method"
        )
    p, mean_ranks = friedman(scores(request, labels).mean(axis=1))
    difference = nemenyi_difference(len(labels), len(tasks))
    order = np.lexsort((np.array(labels), mean_ranks))
    ranks, labels = mean_ranks[order], [labels[i] for i in order]
    left_out = "" if chosen else request.not_drawn(list(request.cells()))
    diagram = _Diagram(request.width, labels, ranks, difference, p, len(tasks))
    return Drawing(
        diagram.figure(),
        f"Mean ranks over {len(tasks)} tasks, 1 is the best. Methods under one bar do not differ "
        f"significantly (Nemenyi test, {100 * (1 - LEVEL):.0f} %, critical difference "
        f"{difference:.2f}); the test takes tasks as independent, which tasks that share images "
        f"are not. {request.what(is_mean=False)}{left_out}",
    )


class _Diagram:
    """The drawing, in inches."""

    def __init__(
        self,
        width: float,
        labels: list[str],
        ranks: np.ndarray,
        difference: float,
        p: float,
        tasks: int,
    ) -> None:
        self.width = width
        self.labels = labels
        self.ranks = ranks
        self.difference = difference
        self.groups = tied_groups(ranks, difference)
        self.title = f"Friedman test over {tasks} tasks: " + (
            "p < 0.0001" if p < 1e-4 else f"p = {p:.4f}"
        )
        limit = 18 if width < 4 else 30
        self.names = [
            shown(label, limit) + ("" if width < 4 else f"  {rank:.1f}")
            for label, rank in zip(labels, ranks, strict=True)
        ]

    def figure(self) -> Figure:
        """Draw everything."""
        half = -(-len(self.labels) // 2)
        bars = _bar_levels(self.groups)
        above = 0.78  # title, critical difference and axis
        below_axis = 0.14 + 0.075 * (max(bars, default=-1) + 1)
        height = above + below_axis + half * LINE + 0.08
        figure = new_figure(self.width, height)
        axes = add_panel(figure, 0, 0, 0, 0)
        axes.set_xlim(0, self.width)
        axes.set_ylim(0, height)
        axes.axis("off")
        margin = 0.12 + max(text_inches(name) for name in self.names)
        low, high = 1, len(self.labels)

        def at(rank: float) -> float:
            return margin + (rank - low) / (high - low) * (self.width - 2 * margin)

        axis = height - above
        axes.text(0.05, height - 0.05, self.title, va="top", fontsize=FONT)
        axes.plot([at(low), at(high)], [axis, axis], color=INK, lw=0.8)
        step = max(1, math.ceil(0.16 / (at(2) - at(1))))
        for rank in range(low, high + 1, step):
            axes.plot([at(rank)] * 2, [axis, axis + 0.05], color=INK, lw=0.8)
            axes.text(at(rank), axis + 0.07, f"{rank}", ha="center", va="bottom", fontsize=FONT - 1)
        self._critical(axes, at, axis + 0.30)
        for (first, last), level in zip(self.groups, bars, strict=True):
            y = axis - 0.10 - 0.075 * level
            ends = at(float(self.ranks[first])) - 0.03, at(float(self.ranks[last])) + 0.03
            axes.plot(ends, [y, y], color=INK, lw=2.2, solid_capstyle="butt")
        top = axis - below_axis - LINE / 2
        for i, (name, rank) in enumerate(zip(self.names, self.ranks, strict=True)):
            on_left = i < half
            y = top - (i if on_left else len(self.names) - 1 - i) * LINE
            edge = margin - 0.06 if on_left else self.width - margin + 0.06
            axes.plot(
                [at(float(rank)), at(float(rank)), edge],
                [axis, y, y],
                color=MUTED,
                lw=0.6,
                zorder=1,
            )
            text = edge - 0.03 if on_left else edge + 0.03
            axes.text(
                text,
                y,
                name,
                ha="right" if on_left else "left",
                va="center_baseline",
                fontsize=FONT,
            )
        return figure

    def _critical(self, axes: Axes, at: Callable[[float], float], y: float) -> None:
        """The critical difference to scale, with its value."""
        span = at(1 + self.difference) - at(1)
        left = at(1)
        right = min(left + span, self.width - 0.05)
        axes.plot([left, right], [y, y], color=INK, lw=0.8)
        for x in (left, right):
            axes.plot([x, x], [y - 0.03, y + 0.03], color=INK, lw=0.8)
        axes.text(
            (left + right) / 2,
            y + 0.03,
            f"critical difference {self.difference:.2f}",
            ha="center",
            va="bottom",
            fontsize=FONT - 1,
        )


def _bar_levels(groups: Sequence[tuple[int, int]]) -> list[int]:
    """A height for each bar, so that bars that overlap are below each other."""
    levels: list[int] = []
    for first, _ in groups:
        taken = {level for (_, last), level in zip(groups, levels, strict=False) if last >= first}
        levels.append(next(n for n in range(len(groups) + 1) if n not in taken))
    return levels
