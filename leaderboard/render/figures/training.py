"""The training losses of several methods."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from benchmark.errors import UsageError
from benchmark.text import plural
from leaderboard.render.figures.request import Drawing, Request
from leaderboard.render.figures.series import Series, draw_lines, make_key, name_lines
from leaderboard.render.figures.style import add_panel, looks, new_figure

LIMIT = 7
WINDOW = 0.1  # share of a log's entries that a running mean covers
MAX_LOSS = 1e30  # far beyond any loss, and safe to draw


def mean_curve(logs: Sequence[Sequence[Mapping[str, float]]]) -> tuple[np.ndarray, np.ndarray]:
    """The mean loss of several runs, at the steps that all of them logged.

    Args:
        logs: the training log of each run; entries without a loss or a step are not used, and
            neither are losses that are not finite, and steps below 0.

    Returns:
        (P,) steps, ascending, and (P,) losses; empty if a run logged no loss.
    """
    curves = [
        {
            float(entry["step"]): float(entry["loss"])
            for entry in log
            if _usable(entry.get("step")) and entry["step"] >= 0 and _usable(entry.get("loss"))
        }
        for log in logs
    ]
    steps = sorted(set.intersection(*map(set, curves))) if curves else []
    losses = [np.mean([curve[step] for curve in curves]) for step in steps]
    return np.array(steps, dtype=np.float64), np.array(losses, dtype=np.float64)


def _usable(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and abs(value) < MAX_LOSS


def running_mean(values: np.ndarray, share: float = WINDOW) -> np.ndarray:
    """The mean of each value and its neighbours.

    Args:
        values: (P,).
        share: how many of the P values a window covers; it is cut off at both ends.
    """
    half = int(share * values.size / 2)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(values.size)
    low, high = np.maximum(at - half, 0), np.minimum(at + half + 1, values.size)
    return np.asarray((sums[high] - sums[low]) / (high - low))


def draw(request: Request) -> Drawing:
    """Draw the losses of the chosen methods that logged any.

    Raises:
        UsageError: there are no logs.
    """
    if request.log_of is None:
        raise UsageError(
            "training logs are not published; draw curves from a workspace, without --published"
        )
    labels = list(request.cells())
    asked = request.chosen(labels)
    curves: dict[str, Series] = {}
    silent = []
    for label in asked or labels:
        steps, losses = mean_curve([request.log_of(row) for row in request.rows(label)])
        if steps.size > 1:
            curves[label] = Series(label, steps, losses)
        else:
            silent.append(label)
    if not curves:
        raise UsageError(
            f"no training loss is logged by {', '.join(silent[:5])}; name a method that trains, "
            "such as --method finetune"
        )
    named = list(curves) if asked else request.named(list(curves), LIMIT)
    look = looks(named)
    smooth = [Series(label, curves[label].x, running_mean(curves[label].y)) for label in named]
    smooth.sort(key=lambda one: -float(one.y[-1]))
    key = make_key(request, named)
    figure = new_figure(request.width, min(0.45 * request.width + 0.9, 3.6) + key.bottom)
    axes = add_panel(figure, 0.46, 0.38 + key.bottom, key.right, 0.12)
    for label in named:
        axes.plot(curves[label].x, curves[label].y, color=look[label].color, lw=0.4, alpha=0.35)
    draw_lines(axes, smooth, look)
    axes.set_xlim(0, 1.02 * max(float(one.x[-1]) for one in smooth))
    axes.set_ylim(min(0.0, *(float(one.y.min()) for one in smooth)), None)
    name_lines(axes, key, smooth, look, stacked=True)
    axes.set_xlabel("gradient step")
    axes.set_ylabel("training loss")
    runs = len(request.tasks) * len(request.board.suite.seeds)
    without = f" Without a logged loss: {', '.join(silent)}." if asked and silent else ""
    return Drawing(
        figure,
        f"Training loss, mean of {plural(runs, 'run')} (thin), and its running mean over a tenth "
        f"of the logged steps. Losses of methods have different terms, so compare their "
        f"shapes.{without} {request.what()}",
    )
