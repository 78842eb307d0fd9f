"""How accuracy and rank of each method change with the recipe, the draw or the share of classes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from benchmark.errors import UsageError
from benchmark.text import plural
from leaderboard.board import MEAN
from leaderboard.columns import column_of
from leaderboard.comparison import Comparison
from leaderboard.conditions import TITLES
from leaderboard.render.comparison import tau_text
from leaderboard.render.figures.request import Drawing, Request, incomplete
from leaderboard.render.figures.series import (
    Series,
    draw_lines,
    draw_others,
    make_key,
    name_lines,
)
from leaderboard.render.figures.style import add_panel, looks, new_figure, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LIMIT = 12
_NUMBER = re.compile(r"(\d+) (of \d+ seen)")
SUITES = {"recipe": "icons-full", "draw": "icons-draws", "share": "icons-partial"}  # examples


def draw(request: Request) -> Drawing:
    """Draw one comparison of the board, overall accuracy on the left and ranks on the right.

    Raises:
        UsageError: there is no such comparison.
    """
    comparison = _comparison(request)
    ranked = comparison.ranked
    named = request.named(ranked, LIMIT)
    look = looks(named)
    name = f"{column_of(comparison.column).heading} accuracy"
    place = np.arange(len(comparison.conditions), dtype=np.float64)
    accuracy = {label: np.array(comparison.overall[label]) for label in ranked}
    ranks = {label: np.array(comparison.ranks(label), dtype=np.float64) for label in ranked}
    key = make_key(request, named)
    figure = new_figure(request.width, min(0.45 * request.width + 1.2, 4.4) + key.bottom)
    left, gap = 0.42, 0.5
    panel = (request.width - left - key.right - gap) / 2
    for i, (title, values) in enumerate(((f"{name} (%)", accuracy), ("rank", ranks))):
        begin = left + i * (panel + gap)
        axes = add_panel(figure, begin, 0.38 + key.bottom, request.width - begin - panel, 0.1)
        _slopes(axes, comparison.conditions, values, falling=i == 1)
        axes.set_ylabel(title)
        series = [Series(label, place, values[label]) for label in named]
        others = [Series(label, place, values[label]) for label in ranked if label not in look]
        draw_others(axes, others)
        draw_lines(axes, series, look)
        if i == 1:
            name_lines(axes, key, series, look)
    flipped, pairs = comparison.flips()
    taus = ", ".join(
        f"{condition} {tau_text(tau)}"
        for condition, tau in zip(comparison.conditions[1:], comparison.taus(), strict=True)
    )
    left_out = {*request.board.labels, *comparison.incomplete} - comparison.overall.keys()
    return Drawing(
        figure,
        f"{comparison.title}: {name}, per cent, and rank of {plural(len(ranked), 'method')}. "
        f"Kendall's tau with the order under {comparison.conditions[0]}: {taus}. {flipped} of "
        f"{plural(pairs, 'pair')} of methods change their order. "
        f"Suite {request.board.suite.name}.{incomplete(left_out)}",
    )


def _comparison(request: Request) -> Comparison:
    if request.task != MEAN:
        raise UsageError("sensitivity is drawn of means over tasks; leave out --task")
    comparisons = request.board.comparisons
    wanted = [TITLES[request.by]] if request.by else list(TITLES.values())
    for comparison in comparisons:
        if comparison.title.startswith(tuple(wanted)) and comparison.ranked:
            return comparison
    by = request.by or "recipe"
    suite = request.board.suite.name
    raise UsageError(
        f"suite {suite} has no results under several conditions"
        + (f" (--by {request.by})" if request.by else "")
        + "; run a suite that adds them first, such as icons-hot for icons, or choose one that "
        f"compares them: --suite {SUITES[by]} --by {by}"
    )


def _slopes(
    axes: Axes, conditions: Sequence[str], values: dict[str, np.ndarray], *, falling: bool
) -> None:
    """Set the limits and the names of conditions; rank 1 is at the top."""
    last = len(conditions) - 1
    axes.set_xlim(-0.12 * last, 1.06 * last)
    numbers = [_NUMBER.fullmatch(name) for name in conditions]
    if all(numbers):  # "8 of 65 seen" and so on
        axes.set_xticks(range(last + 1), [match[1] for match in numbers if match])
        axes.set_xlabel(numbers[0][2] if numbers[0] else "")
    else:
        axes.set_xticks(range(last + 1), [shown(name, 14) for name in conditions])
    flat = np.concatenate(list(values.values()))
    margin = 0.04 * float(np.ptp(flat)) or 1.0
    low, high = float(flat.min()) - margin, float(flat.max()) + margin
    if falling:
        step = max(1, round(high / 7))
        axes.set_yticks(sorted({1, *range(step, int(high) + 1, step)}))
    axes.set_ylim(*((high, low) if falling else (low, high)))
