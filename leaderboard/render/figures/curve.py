"""The seen-unseen curves of several methods: what a constant on the missing-class logits does."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from leaderboard.columns import FINETUNE, SOURCE
from leaderboard.outcomes import Outcomes
from leaderboard.predictions import counted_samples
from leaderboard.render.figures.placing import Name, place_names
from leaderboard.render.figures.request import Drawing, Request
from leaderboard.render.figures.style import add_panel, looks, new_figure, shown

LIMIT = 4
GRID_POINTS = 400


class Curve(NamedTuple):
    """A seen-unseen curve.

    Attributes:
        gamma: (P,) ascending, in logits, from minus to plus infinity.
        seen, missing: (P,) per cent, with gamma added to the missing-class logits.
        zero: seen and missing accuracy at gamma = 0.
    """

    gamma: np.ndarray
    seen: np.ndarray
    missing: np.ndarray
    zero: tuple[float, float]


def curve(runs: Sequence[tuple[Outcomes, np.ndarray]], points: int = GRID_POINTS) -> Curve:
    """The curve of one run, or the mean of several runs at each gamma.

    A sample is right if it is right within its group and its group wins: the seen classes win where
    the margin is above gamma (Chao et al., "An Empirical Study and Analysis of Generalized
    Zero-Shot Learning", ECCV 2016).

    Args:
        runs: outcomes of N samples, and the (N,) mask of samples of seen classes.
        points: about how many gammas there are between the ends: quantiles of all margins.
    """
    margins = np.unique(np.concatenate([o.margin[o.within] for o, _ in runs]).astype(np.float64))
    if margins.size > points:
        margins = np.unique(np.quantile(margins, np.linspace(0, 1, points)))
    gamma = np.concatenate([[-np.inf], (margins[:-1] + margins[1:]) / 2, [np.inf]])
    seen, missing = np.zeros(gamma.size), np.zeros(gamma.size)
    zero = np.zeros(2)
    for outcomes, is_seen in runs:
        n_seen, n_missing = is_seen.sum(), (~is_seen).sum()
        of_seen = np.sort(outcomes.margin[outcomes.within & is_seen])
        of_missing = np.sort(outcomes.margin[outcomes.within & ~is_seen])
        seen += (of_seen.size - np.searchsorted(of_seen, gamma, "right")) / n_seen
        missing += np.searchsorted(of_missing, gamma, "left") / n_missing
        zero += [
            (outcomes.right & is_seen).sum() / n_seen,
            (outcomes.right & ~is_seen).sum() / n_missing,
        ]
    scale = 100 / len(runs)
    at = zero * scale
    return Curve(gamma, seen * scale, missing * scale, (float(at[0]), float(at[1])))


def draw(request: Request) -> Drawing:
    """Draw the curves of the chosen methods: source, finetune and the best two by default."""
    ranked = request.ranked()
    cells = request.cells()
    labels = request.chosen(list(cells))
    if not labels:
        references = [label for label in (SOURCE, FINETUNE) if label in ranked]
        best = [label for label in ranked if label not in references]
        labels = [*references, *best[: LIMIT - len(references)]]
    look = looks(labels)
    figure = new_figure(request.width, min(0.72 * request.width + 0.6, 4.6))
    axes = add_panel(figure, 0.42, 0.38, 0.1, 0.1)
    curves = {}
    for label in labels:
        runs = [
            (known, counted_samples(request.manifest, row["task"]).is_seen)
            for row, known in request.outcomes(label)
        ]
        curves[label] = curve(runs)
    for label, of_label in curves.items():
        axes.plot(of_label.seen, of_label.missing, **look[label].curve())
        x, y = of_label.zero
        axes.plot([x], [y], **look[label].points(markersize=5.5, zorder=4))
    axes.set_xlim(0, min(103.0, 1.06 * max(c.seen.max() for c in curves.values())))
    axes.set_ylim(0, min(103.0, 1.08 * max(c.missing.max() for c in curves.values())))
    names = [
        Name(f"{shown(label)} ({cells[label]['ausuc']:.3f})", *c.zero, look[label].text)
        for label, c in curves.items()
    ]
    segments = [
        (begin, end) for c in curves.values() for begin, end in _segments(c.seen, c.missing)
    ]
    place_names(axes, names, lines=segments)
    axes.set_xlabel("accuracy on seen classes (%)")
    axes.set_ylabel("accuracy on missing classes (%)")
    return Drawing(figure, _caption(request))


def _segments(
    x: np.ndarray, y: np.ndarray
) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """A curve as about 40 segments, for the placing of names."""
    keep = np.unique(np.linspace(0, x.size - 1, 40).astype(int))
    ends = list(zip(x[keep].tolist(), y[keep].tolist(), strict=True))
    return list(itertools.pairwise(ends))


def _caption(request: Request) -> str:
    runs = len(request.tasks) * len(request.board.suite.seeds)
    mean = f" Each curve is the mean of {runs} runs at equal gamma." if runs > 1 else ""
    return (
        "Accuracy on seen and missing classes, per cent, as a constant gamma is added to the "
        f"missing-class logits; markers are at gamma = 0, that is without it.{mean} In brackets: "
        f"AUSUC, the mean of the areas under the curves of all runs. {request.what()}"
    )
