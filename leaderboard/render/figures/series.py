"""Lines of several methods in panels, with a key that names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from leaderboard.render.figures.placing import spread
from leaderboard.render.figures.request import Request
from leaderboard.render.figures.style import FONT, MUTED, Look, shown, text_inches

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GAP, SAMPLE, SPACE = 6.0, 17.0, 4.0  # points: before a sample of a line, its length, after it
ROW = 1.4 * FONT  # points from one name to the next
MAX_NAME = 24  # characters
MANY = 12  # points of a line, above which they get no markers


class Series(NamedTuple):
    """The values of one method along the horizontal axis."""

    label: str
    x: np.ndarray
    y: np.ndarray


class Key(NamedTuple):
    """Where the names of lines are, and the room in inches that they need.

    Attributes:
        labels: what it names.
        below: below the panels, because the figure is narrow; else on the right.
        right: the margin on the right.
        bottom: what the margin at the bottom has more than that of the axis.
    """

    labels: tuple[str, ...]
    below: bool
    right: float
    bottom: float


def make_key(request: Request, labels: Sequence[str]) -> Key:
    """The key of a figure that names these labels."""
    if request.is_narrow:
        return Key(tuple(labels), True, 0.16, (-(-len(labels) // 2) * ROW + 4) / 72)
    widest = max(text_inches(shown(label, MAX_NAME)) for label in labels)
    return Key(tuple(labels), False, (GAP + SAMPLE + SPACE) / 72 + widest + 0.04, 0.0)


def draw_lines(
    axes: Axes, series: Sequence[Series], look: Mapping[str, Look], *, steps: bool = False
) -> None:
    """Draw the lines; with few points they have markers, and steps have none."""
    for one in reversed(series):
        of_label = look[one.label]
        drawn = of_label.curve(drawstyle="steps-post" if steps else "default")
        if not steps and one.x.size <= MANY:
            drawn |= of_label.points() | {"linestyle": of_label.line}
        axes.plot(one.x, one.y, **drawn)


def draw_others(axes: Axes, lines: Sequence[Series], *, steps: bool = False) -> None:
    """Thin grey lines of the methods that are not named."""
    style = "steps-post" if steps else "default"
    for one in lines:
        axes.plot(one.x, one.y, color=MUTED, alpha=0.35, lw=0.5, drawstyle=style, zorder=0.5)


def name_lines(
    axes: Axes,
    key: Key,
    series: Sequence[Series],
    look: Mapping[str, Look],
    *,
    stacked: bool = False,
) -> None:
    """Write the key, with a sample of each line.

    Args:
        axes: the last panel, whose limits and position are final.
        key: where it is.
        series: what was drawn.
        look: by label.
        stacked: write names on the right below each other in the order of the series, because
            lines do not end at the edge, or at the same place; otherwise each name is as near to
            the end of its line as possible.
    """
    frame = axes.get_window_extent()
    if key.below:
        width = axes.figure.bbox.width
        rows = -(-len(series) // 2)
        for i, one in enumerate(series):
            place = 6 + i // rows * width / 2, (rows - i % rows - 0.5) * ROW + 2
            _entry(axes, one, look[one.label], place)
        return
    ends = [float(axes.transData.transform((one.x[-1], one.y[-1]))[1]) for one in series]
    if stacked:
        places = [frame.y1 - ROW * (i + 0.5) for i in range(len(series))]
    else:
        places = spread(ends, ROW, frame.y0 - ROW, frame.y1 + ROW / 2)
    left = frame.x1 + GAP
    for one, end, y in zip(series, ends, places, strict=True):
        _entry(axes, one, look[one.label], (left, y))
        if not stacked and abs(end - y) > 1:
            _outside(axes, [frame.x1, left], [end, y], color=look[one.label].color, lw=0.4)


def _entry(axes: Axes, one: Series, look: Look, place: tuple[float, float]) -> None:
    """A sample of a line and its name, at a place in points."""
    x, y = place
    _outside(axes, [x, x + SAMPLE], [y, y], **look.curve())
    if one.x.size <= MANY:
        _outside(axes, [x + SAMPLE / 2], [y], **look.points())
    axes.text(
        (x + SAMPLE + SPACE) / 72,
        y / 72,
        shown(one.label, MAX_NAME),
        transform=axes.figure.dpi_scale_trans,
        color=look.text,
        va="center_baseline",
    )


def _outside(axes: Axes, x: Sequence[float], y: Sequence[float], **options: Any) -> None:
    """A line at these points of the figure, also outside the panel."""
    axes.plot(
        [value / 72 for value in x],
        [value / 72 for value in y],
        transform=axes.figure.dpi_scale_trans,
        clip_on=False,
        scalex=False,
        scaley=False,
        **options,
    )
