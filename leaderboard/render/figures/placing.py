"""Places the names of points and lines so that none covers another."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from leaderboard.render.figures.style import FONT, text_inches

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ANGLES = (0, 180, 45, 315, 135, 225, 90, 270, 22, 338, 158, 202, 67, 293, 113, 247)  # degrees
_RADII = (5, 8, 12, 17, 23, 30, 38, 48, 60, 75, 95, 120)  # points, from the point to the label
_HEIGHT = 1.25  # of a line of text, in font sizes
_LEADER = 9  # points: a label that is farther from its point gets a line to it


class Name(NamedTuple):
    """The name of a point.

    Attributes:
        text: what to write.
        x, y: the point, in data coordinates.
        color: of the text.
    """

    text: str
    x: float
    y: float
    color: str


class Box(NamedTuple):
    """A rectangle in points."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: Box) -> float:
        """The area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(0.0, width) * max(0.0, height)

    @property
    def area(self) -> float:
        """Width times height."""
        return (self.right - self.left) * (self.top - self.bottom)


def place_names(
    axes: Axes,
    names: Sequence[Name],
    points: Iterable[tuple[float, float]] = (),
    lines: Iterable[tuple[tuple[float, float], tuple[float, float]]] = (),
) -> list[Box]:
    """Write names beside their points, the first ones closest to them.

    Args:
        axes: whose limits and position are final.
        names: in the order of their importance.
        points: other points that names should not cover, in data coordinates.
        lines: segments that names should rather not cover, in data coordinates.

    Returns:
        The rectangle of each name, in points from the lower left corner of the figure.
    """
    to_points = axes.transData.transform
    anchors = [tuple(to_points((name.x, name.y))) for name in names]
    marks = [*anchors, *(tuple(to_points(point)) for point in points)]
    along = [
        np.linspace(to_points(begin), to_points(end), 40)[3:]  # not where all arrows begin
        for begin, end in lines
    ]
    covered = np.concatenate(along) if along else np.empty((0, 2))
    frame = Box(*axes.get_window_extent().extents)
    boxes: list[Box] = []
    for name, anchor in zip(names, anchors, strict=True):
        width, height = 72 * text_inches(name.text, FONT), _HEIGHT * FONT
        candidates = [
            (_box(anchor, angle, radius, width, height), radius)
            for radius in _RADII
            for angle in _ANGLES
        ]
        box, radius = min(
            candidates, key=lambda c: _badness(c[0], c[1], boxes, marks, covered, frame)
        )
        boxes.append(box)
        _write(axes, name, anchor, box, leader=radius > _LEADER)
    return boxes


def _box(
    anchor: tuple[float, float], angle: float, radius: float, width: float, height: float
) -> Box:
    """The rectangle of a label whose nearest edge is at a distance from its point."""
    dx, dy = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    x, y = anchor[0] + radius * dx, anchor[1] + radius * dy
    left = x - width * (1 - dx) / 2
    bottom = y - height * (1 - dy) / 2
    return Box(left, bottom, left + width, bottom + height)


def _badness(
    box: Box,
    radius: float,
    boxes: Sequence[Box],
    marks: Sequence[tuple[float, float]],
    covered: np.ndarray,
    frame: Box,
) -> float:
    outside = box.area - box.overlap(frame)
    on_labels = sum(box.overlap(other) for other in boxes)
    on_marks = sum(box.overlap(Box(x - 3.5, y - 3.5, x + 3.5, y + 3.5)) for x, y in marks)
    inside = (
        (covered[:, 0] > box.left)
        & (covered[:, 0] < box.right)
        & (covered[:, 1] > box.bottom)
        & (covered[:, 1] < box.top)
    )
    return 50 * on_labels + 50 * outside + 8 * on_marks + 2 * float(inside.sum()) + radius


def _write(axes: Axes, name: Name, anchor: tuple[float, float], box: Box, leader: bool) -> None:
    figure = axes.figure
    x, y = box.left / 72, (box.bottom + box.top) / 2 / 72
    axes.text(
        x,
        y,
        name.text,
        transform=figure.dpi_scale_trans,
        color=name.color,
        fontsize=FONT,
        va="center_baseline",
        ha="left",
        zorder=6,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.2},
    )
    if leader:
        near = (
            min(max(anchor[0], box.left), box.right) / 72,
            min(max(anchor[1], box.bottom), box.top) / 72,
        )
        axes.plot(
            [anchor[0] / 72, near[0]],
            [anchor[1] / 72, near[1]],
            transform=figure.dpi_scale_trans,
            color=name.color,
            linewidth=0.4,
            zorder=2,
            scalex=False,
            scaley=False,
        )


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move positions apart as little as needed, in their order.

    Args:
        positions: where labels would be, in any order.
        gap: the smallest distance of two labels.
        low, high: the ends of the space; it is exceeded only if the labels do not fit.

    Returns:
        The new positions, which minimise the sum of squared moves.
    """
    if not positions:
        return []
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    # Without the gaps, the positions must not fall: pool adjacent violators.
    blocks: list[list[float]] = []  # mean, count
    for rank, i in enumerate(order):
        blocks.append([positions[i] - rank * gap, 1.0])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, count = blocks.pop()
            total = blocks[-1][1] + count
            blocks[-1] = [(blocks[-1][0] * blocks[-1][1] + mean * count) / total, total]
    flat = [mean for mean, count in blocks for _ in range(int(count))]
    last = max(low, high - (len(order) - 1) * gap)
    result = [0.0] * len(positions)
    for rank, i in enumerate(order):
        result[i] = min(max(flat[rank], low), last) + rank * gap
    return result
