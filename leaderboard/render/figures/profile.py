"""The performance profiles of several methods: how often each is close to the best."""

from __future__ import annotations

import numpy as np

from benchmark.text import plural
from leaderboard.render.figures.request import Drawing, Request, in_grey, scores
from leaderboard.render.figures.series import (
    Series,
    draw_lines,
    draw_others,
    make_key,
    name_lines,
)
from leaderboard.render.figures.style import add_panel, looks, new_figure

LIMIT = 7


def performance_profile(values: np.ndarray, tau: np.ndarray) -> np.ndarray:
    """The share of cells in which a method is within tau points of the best one.

    The profile of Dolan and More, "Benchmarking optimization software with performance profiles"
    (Mathematical Programming 91, 2002), with differences of accuracies in the place of ratios of
    times: for method m and the N cells c, ``|{c: max_k a[c, k] - a[c, m] <= tau}| / N``.

    Args:
        values: (N, M) accuracies in per cent.
        tau: (P,) points.

    Returns:
        (P, M) shares from 0 to 1.
    """
    behind = values.max(axis=1, keepdims=True) - values
    # Accuracies are ratios of counts: equal ones may differ by rounding.
    return np.asarray((behind[None] <= tau[:, None, None] + 1e-9).mean(axis=1))


def draw(request: Request) -> Drawing:
    """Draw the profiles; the best of a cell is the best of all complete methods but oracles."""
    labels = request.ranked()
    values = scores(request, labels)
    values = values.reshape(-1, len(labels))
    named = request.named(labels, LIMIT)
    behind = values.max(axis=1) - values.T
    worst = 1.02 * max(behind[labels.index(label)].max() for label in named) or 1.0
    tau = np.unique(np.concatenate([[0.0, worst], behind[behind <= worst]]))
    shares = 100 * performance_profile(values, tau)
    curves = {label: Series(label, tau, shares[:, i]) for i, label in enumerate(labels)}
    series = sorted((curves[label] for label in named), key=lambda one: -float(one.y.mean()))
    look = looks(named)
    key = make_key(request, named)
    figure = new_figure(request.width, min(0.45 * request.width + 0.9, 3.6) + key.bottom)
    axes = add_panel(figure, 0.42, 0.38 + key.bottom, key.right, 0.12)
    axes.set_xlim(0, worst)
    axes.set_ylim(-2, 102)
    draw_others(axes, [curves[label] for label in labels if label not in look], steps=True)
    draw_lines(axes, series, look, steps=True)
    name_lines(axes, key, series, look, stacked=True)
    axes.set_xlabel("τ: points behind the best method")
    axes.set_ylabel("share of cells within τ (%)")
    cells = f"{plural(values.shape[0], 'cell')} (a task with a seed)"
    return Drawing(
        figure,
        f"Performance profiles: in how many of {cells} a method is at most τ points of "
        f"{request.overall} behind the best of {plural(len(labels), 'method')} in that cell."
        f"{in_grey(labels, named)} {request.what(is_mean=False)}"
        f"{request.not_drawn(list(request.cells()))}",
    )
