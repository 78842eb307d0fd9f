"""Overall accuracy against the cost of adaptation, with the Pareto front."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np

from benchmark.errors import UsageError
from leaderboard.figure_kinds import COSTS
from leaderboard.render.figures.placing import Name, place_names
from leaderboard.render.figures.request import Drawing, Request, in_grey
from leaderboard.render.figures.style import MUTED, add_panel, looks, new_figure, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LIMIT, LIMIT_NARROW = 14, 9


def pareto_front(cost: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Which points no other point beats: none costs at most as much, is at least as good, and is
    strictly better in one of both.

    Args:
        cost: (M,), smaller is better.
        value: (M,), larger is better.

    Returns:
        (M,) bool. Equal points are all on the front, or none is.
    """
    on_front = np.zeros(cost.size, dtype=bool)
    best = -math.inf  # of all cheaper points
    for i in np.lexsort((-value, cost)):
        same = best == value[i] and on_front.any() and cost[on_front].max() == cost[i]
        if value[i] > best or same:
            on_front[i] = True
            best = max(best, value[i])
    return on_front


def draw(request: Request) -> Drawing:
    """Draw every complete method that is not an oracle."""
    key, axis = COSTS[request.cost]
    cells = request.cells()
    labels = [label for label in request.ranked() if not math.isnan(cells[label][key])]
    if not labels:
        raise UsageError(f"no complete method has recorded its {request.cost}; {request.remedy}")
    cost = np.array([cells[label][key] for label in labels])
    overall = request.accuracies[0]
    value = np.array([cells[label][overall] for label in labels])
    front = pareto_front(cost, value)
    named = request.chosen(labels) or _named(request, labels, front)
    look = looks(named)
    figure = new_figure(request.width, min(0.62 * request.width + 0.6, 4.2))
    axes = add_panel(figure, 0.42, 0.38, 0.1, 0.1)
    _log_axis(axes, cost)
    halves = np.array([cells[label][f"{overall}_half"] for label in labels])
    low, high = np.nanmin(value - np.nan_to_num(halves)), np.nanmax(value + np.nan_to_num(halves))
    axes.set_ylim(max(-2.0, low - 2), min(102.0, high + 2))
    order = np.flatnonzero(front)[np.argsort(cost[front], kind="stable")]
    right = axes.get_xlim()[1]
    axes.plot(
        [*cost[order], right],
        [*value[order], value[order][-1]],
        drawstyle="steps-post",
        color=MUTED,
        linewidth=1.0,
        zorder=1,
    )
    segments = []
    for label, x, y, half in zip(labels, cost, value, halves, strict=True):
        if label not in look:
            axes.plot([x], [y], "o", color=MUTED, markersize=2.6, alpha=0.8, zorder=3)
            continue
        if not math.isnan(half):
            axes.plot([x, x], [y - half, y + half], color=look[label].color, lw=0.5, alpha=0.45)
            segments.append(((x, y - half), (x, y + half)))
        axes.plot([x], [y], **look[label].points(zorder=4))
    steps = [
        segment
        for i, j in itertools.pairwise(order)
        for segment in (
            ((cost[i], value[i]), (cost[j], value[i])),
            ((cost[j], value[i]), (cost[j], value[j])),
        )
    ]
    at = dict(zip(labels, zip(cost, value, strict=True), strict=True))
    names = [Name(shown(label), *at[label], look[label].text) for label in named]
    place_names(axes, names, at.values(), [*segments, *steps])
    axes.set_xlabel(axis)
    axes.set_ylabel(f"{request.overall} (%)")
    return Drawing(figure, _caption(request, labels, named, halves))


def _named(request: Request, labels: list[str], front: np.ndarray) -> list[str]:
    """The references, the front, and the best, up to a limit."""
    limit = LIMIT_NARROW if request.is_narrow else LIMIT
    of_front = {label for label, is_on in zip(labels, front, strict=True) if is_on}
    rest = [label for label in labels if label not in of_front]
    kept = of_front | set(request.named(rest, max(2, limit - len(of_front)))) if rest else of_front
    return [label for label in labels if label in kept]


def _log_axis(axes: Axes, cost: np.ndarray) -> None:
    """A logarithmic axis with a place for 0 on its left, and plain numbers."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    positive = cost[cost > 0]
    if not positive.size:
        return
    smallest = 10 ** math.floor(math.log10(positive.min()))
    largest = positive.max() * 1.6
    decades = [smallest * 10**n for n in range(math.ceil(math.log10(largest / smallest)) + 1)]
    if len(decades) <= 3:
        decades = sorted({d * m for d in decades for m in (1, 2, 5)})
    ticks = [tick for tick in decades if positive.min() * 0.6 <= tick <= largest]
    if (cost == 0).any():
        axes.set_xscale("symlog", linthresh=smallest, linscale=0.4, subs=None)
        axes.set_xlim(-0.35 * smallest, largest)
        ticks = [0.0, *ticks]
    else:
        axes.set_xscale("log")
        axes.set_xlim(positive.min() / 1.6, largest)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12g}"))


def _caption(request: Request, labels: list[str], named: list[str], halves: np.ndarray) -> str:
    bars = "" if np.isnan(halves).all() else " Bars are 95 % intervals of accuracy."
    oracles = [label for label, cell in request.cells().items() if cell["track"] == "oracle"]
    return (
        f"{request.overall.capitalize()}, per cent, against the cost of adaptation per run. No "
        f"method is both better and cheaper than one on the grey line.{bars}"
        f"{in_grey(labels, named)} {request.what()}{request.not_drawn([*labels, *oracles])}"
    )
