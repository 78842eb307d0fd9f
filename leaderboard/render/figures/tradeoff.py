"""Seen against missing accuracy, with an arrow from the source model to each method."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from leaderboard.board import BoardCell
from leaderboard.columns import SOURCE
from leaderboard.predictions import counted_samples
from leaderboard.render.figures.placing import Name, place_names
from leaderboard.render.figures.request import Drawing, Request, in_grey
from leaderboard.render.figures.style import (
    FONT,
    GRID,
    MUTED,
    add_panel,
    looks,
    new_figure,
    shown,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LIMIT = 12  # methods that are named
LIMIT_NARROW = 8
Point: TypeAlias = tuple[float, float]


def draw(request: Request) -> Drawing:
    """Draw every complete method as a point, oracles included."""
    cells = request.cells()
    labels = list(cells)
    named = request.named(labels, LIMIT_NARROW if request.is_narrow else LIMIT)
    look = looks(named)
    figure = new_figure(request.width, min(0.72 * request.width + 0.5, 5.2))
    axes = add_panel(figure, 0.42, 0.38, 0.1, 0.1)
    _, seen, missing = request.accuracies
    macro = "macro " if request.is_macro else ""
    points = {label: (cells[label][seen], cells[label][missing]) for label in labels}
    bars = {label: _bars(cells[label], seen, missing) for label in named}
    _set_limits(axes, points.values(), [end for bar in bars.values() for end in bar])
    share = share_seen(request)
    values = _iso_lines(axes, request.lines, share)
    segments = []
    for label in reversed(labels):  # the best on top
        x, y = points[label]
        if label not in look:
            axes.plot([x], [y], "o", color=MUTED, markersize=2.6, alpha=0.8, zorder=3)
            continue
        for begin, end in zip(bars[label][::2], bars[label][1::2], strict=True):
            xs, ys = zip(begin, end, strict=True)
            axes.plot(xs, ys, color=look[label].color, linewidth=0.5, alpha=0.4, zorder=1)
            segments.append((begin, end))
        if SOURCE in points and label != SOURCE:
            segments.append((points[SOURCE], (x, y)))
            axes.annotate(
                "",
                xy=(x, y),
                xytext=points[SOURCE],
                arrowprops={
                    "arrowstyle": "-|>,head_width=0.16,head_length=0.32",
                    "color": look[label].color,
                    "linewidth": 0.6,
                    "alpha": 0.7,
                    "shrinkA": 3,
                    "shrinkB": 3.5,
                },
                zorder=2,
            )
        size = 6.5 if look[label].marker == "*" else 4.5
        axes.plot([x], [y], **look[label].points(markersize=size, zorder=4))
    names = [Name(shown(label), *points[label], look[label].text) for label in named]
    place_names(axes, names, [*points.values(), *values], segments)
    axes.set_xlabel(f"{macro}accuracy on seen classes (%)")
    axes.set_ylabel(f"{macro}accuracy on missing classes (%)")
    return Drawing(figure, _caption(request, labels, named, share))


def _bars(cell: BoardCell, seen: str, missing: str) -> list[Point]:
    """The ends of the horizontal interval, then of the vertical one; empty where unknown."""
    x, y = cell[seen], cell[missing]
    across, up = cell[f"{seen}_half"], cell[f"{missing}_half"]
    if math.isnan(across) or math.isnan(up):
        return []
    return [(x - across, y), (x + across, y), (x, y - up), (x, y + up)]


def _set_limits(axes: Axes, points: Iterable[Point], ends: Iterable[Point]) -> None:
    """Room for names around the points, and for the bars."""
    at, outer = np.array(list(points)), np.array(list(ends)).reshape(-1, 2)
    for i in (0, 1):
        low, high = at[:, i].min(), at[:, i].max()
        margin = max(4.0, 0.1 * (high - low))
        low = min(low - margin, *outer[:, i] - 1) if outer.size else low - margin
        high = max(high + margin, *outer[:, i] + 1) if outer.size else high + margin
        limits = max(-3.0, float(low)), min(103.0, float(high))
        _ = axes.set_xlim(limits) if i == 0 else axes.set_ylim(limits)


def share_seen(request: Request) -> np.ndarray:
    """The weight of seen accuracy in the overall accuracy of each task, (tasks,).

    Of micro accuracies, the share of seen-class images among the counted test images; of macro
    ones, the share of seen classes among the classes of these images.
    """
    shares = []
    for task in request.tasks:
        samples = counted_samples(request.manifest, task)
        is_seen = samples.is_seen
        if request.is_macro:
            is_seen = is_seen[np.unique(samples.labels, return_index=True)[1]]
        shares.append(is_seen.mean())
    return np.array(shares)


def iso_line(kind: str, value: float, share: float, seen: np.ndarray) -> np.ndarray:
    """The missing accuracy at which a method with this seen accuracy reaches a value.

    Args:
        kind: ``overall`` or ``harmonic``.
        value: per cent.
        share: of seen-class images among the test images, for ``overall``.
        seen: (P,) per cent.

    Returns:
        (P,) per cent; NaN where no missing accuracy reaches the value.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        if kind == "harmonic":
            missing = np.where(2 * seen > value, value * seen / (2 * seen - value), np.nan)
        else:
            missing = (value - share * seen) / (1 - share)
    return np.asarray(np.where((missing >= 0) & (missing <= 100), missing, np.nan))


def _iso_lines(axes: Axes, kind: str, shares: np.ndarray) -> list[Point]:
    """Grey lines of equal overall accuracy (or harmonic mean); returns where their values are."""
    written = []
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    seen = np.linspace(max(left, 0.0), min(right, 100.0), 400)
    step = 5 if right - left < 30 else 10
    for value in range(step, 100, step):
        missing = iso_line(kind, value, float(shares.mean()), seen)
        inside = np.flatnonzero((missing > low) & (missing < high))
        if inside.size < 20:
            continue
        axes.plot(seen, missing, color=GRID, linewidth=0.8, zorder=0, scalex=False, scaley=False)
        at = inside[-8] if missing[inside[-1]] > low + 0.06 * (high - low) else inside[-12]
        written.append((float(seen[at]), float(missing[at])))
        axes.text(
            seen[at],
            missing[at],
            f"{value}",
            color=MUTED,
            fontsize=FONT - 1.5,
            ha="center",
            va="center",
            zorder=0,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
        )
    return written


def _caption(request: Request, labels: list[str], named: list[str], shares: np.ndarray) -> str:
    what = "harmonic mean of both" if request.lines == "harmonic" else request.overall
    if request.lines == "overall" and np.ptp(shares) > 0.005:
        units = "seen classes" if request.is_macro else "seen-class images"
        what += f" if every task had the mean share of {units}, {100 * shares.mean():.0f} %"
    cells = request.cells()
    has_bars = any(_bars(cells[label], *request.accuracies[1:]) for label in named)
    bars = " Bars are 95 % intervals." if has_bars else ""
    accuracy = "Macro accuracy" if request.is_macro else "Accuracy"
    return (
        f"{accuracy} on seen and missing classes, per cent, with arrows from the source model. "
        f"Grey lines have equal {what}.{bars}{in_grey(labels, named)} {request.what()}"
        f"{request.not_drawn(labels)}"
    )
