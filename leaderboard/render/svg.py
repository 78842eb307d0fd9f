"""Small drawings as inline SVG: intervals in table cells, and plots of one method or one table.

Colours and strokes come from the page's style sheet through classes, because the pages forbid
``style`` attributes. Text is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from markupsafe import Markup, escape

from benchmark.text import shortened

BAR_WIDTH, BAR_HEIGHT = 160, 14  # of the drawing in a table cell, in pixels
PLOT_WIDTH = 640
LABEL_WIDTH = 150  # at least, left of a plot with one line per task
LABEL_GAP = 12  # between a label and the plot
MAX_LABEL = 40  # characters of a label there
LABEL_CHARACTER = 7.4  # pixels, of a label there, which the drawing would cut
LINE_HEIGHT = 30
TOP = 24  # of a plot of two columns, below the name of its vertical axis
MAX_POINTS = 200  # of a line
CHARACTER = 6.2  # pixels, of the labels in a plot


@dataclass(frozen=True)
class Scale:
    """A linear axis from ``low`` to ``high`` drawn over ``start`` to ``end`` pixels."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """The position of a value, in pixels, kept on the axis."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + min(1.0, max(0.0, share)) * (self.end - self.start), 1)

    def ticks(self, count: int = 4) -> list[float]:
        """Round values on the axis, about ``count`` of them and at least two."""
        step = _round_step((self.high - self.low) / count)
        ticks = self._multiples(step)
        return ticks if len(ticks) > 1 else self._multiples(_round_step(0.4 * step))

    def _multiples(self, step: float) -> list[float]:
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(n * step, 10) for n in range(first, last + 1)]


@dataclass(frozen=True)
class Point:
    """A method in a plot of two columns: a link, its name, and both values."""

    label: str
    link: str
    x: float
    y: float
    kind: str  # a class of the style sheet: ``ranked``, ``oracle``, ``reference`` or ``this``
    named: bool = False  # whether its name is drawn beside it


@dataclass(frozen=True)
class Change:
    """How a method moves two accuracies on a task: (source's, method's) of each, in per cent."""

    label: str
    seen: tuple[float, float]
    missing: tuple[float, float]


@dataclass(frozen=True)
class Line:
    """A line of a plot: (P,) x, ascending, and (P,) y, all finite."""

    label: str
    x: np.ndarray
    y: np.ndarray


def axis_of(lows: Iterable[float], highs: Iterable[float]) -> Scale:
    """The axis of the intervals in a table's cells: round ends around all finite values."""
    finite = [value for value in (*lows, *highs) if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    step = _round_step((high - low) / 8 or abs(high) / 8 or 1.0)
    start, end = math.floor(low / step) * step, math.ceil(high / step) * step
    return Scale(start, end if end > start else start + step, 4, BAR_WIDTH - 4)


def interval(scale: Scale, value: float, half: float, reference: float) -> Markup:
    """A point with its interval, and a thin line at the reference's value.

    Args:
        scale: the axis that all rows of the table share.
        value: the point; nothing is drawn for NaN.
        half: half the width of the interval; NaN draws the point alone.
        reference: NaN draws no line.
    """
    middle = BAR_HEIGHT // 2
    parts = []
    if math.isfinite(reference):
        parts.append(f'<path class="r" d="M{scale.at(reference):g} 0V{BAR_HEIGHT}"/>')
    if math.isfinite(value) and math.isfinite(half):
        left, right = scale.at(value - half), scale.at(value + half)
        parts.append(f'<path d="M{left:g} {middle}H{right:g}"/>')
    if math.isfinite(value):
        parts.append(f'<circle cx="{scale.at(value):g}" cy="{middle}" r="3"/>')
    return Markup("").join(map(Markup, parts))


def axis(scale: Scale) -> Markup:
    """The ticks of the axis, for the heading of the column of intervals."""
    marks = "".join(
        f'<path d="M{scale.at(tick):g} 10v4"/><text x="{scale.at(tick):g}" y="8" '
        f'text-anchor="{_anchor(scale.at(tick), BAR_WIDTH)}">{_number(tick)}</text>'
        for tick in scale.ticks(3)
    )
    return Markup(marks)


def _anchor(x: float, width: float) -> str:
    return "start" if x < 12 else "end" if x > width - 12 else "middle"


def scatter(
    points: Sequence[Point], title: str, axes: tuple[str, str] = ("seen", "missing")
) -> Markup:
    """Missing accuracy against seen accuracy, one dot per method that links to its page.

    Args:
        points: the last ones are drawn on top.
        title: for those who do not see it.
        axes: names of both accuracies.

    Returns:
        Empty if no point has both values.
    """
    seen, missing = map(escape, axes)
    shown = [point for point in points if math.isfinite(point.x) and math.isfinite(point.y)]
    if not shown:
        return Markup()
    height, left, bottom = 380, 44, 40
    xs, ys = axis_of([p.x for p in shown], ()), axis_of([p.y for p in shown], ())
    across = Scale(xs.low, xs.high, left + 8, PLOT_WIDTH - 16)
    up = Scale(ys.low, ys.high, height - bottom - 8, TOP + 10)
    parts = [
        *(
            f'<path class="grid" d="M{across.at(tick):g} {TOP}V{height - bottom}"/>'
            f'<text x="{across.at(tick):g}" y="{height - bottom + 16}" text-anchor="middle">'
            f"{_number(tick)}</text>"
            for tick in across.ticks(6)
        ),
        *(
            f'<path class="grid" d="M{left} {up.at(tick):g}H{PLOT_WIDTH - 16}"/>'
            f'<text x="{left - 6}" y="{up.at(tick) + 4:g}" text-anchor="end">{_number(tick)}</text>'
            for tick in up.ticks(6)
        ),
        f'<text class="axis" x="{PLOT_WIDTH - 16}" y="{height - 6}" text-anchor="end">'
        f"{seen} accuracy, % →</text>",
        f'<text class="axis" x="0" y="11">{missing} accuracy, % ↑</text>',
    ]
    taken: list[tuple[float, float, float, float]] = [
        _box(across.at(p.x) - 5, across.at(p.x) + 5, up.at(p.y)) for p in shown
    ]
    names = []
    for point in shown:
        x, y = across.at(point.x), up.at(point.y)
        parts.append(
            f'<a href="{escape(point.link)}"><circle class="{point.kind}" cx="{x:g}" cy="{y:g}" '
            f'r="{6 if point.kind == "this" else 4.5}"><title>{escape(point.label)}: {seen} '
            f"{point.x:.1f}, {missing} {point.y:.1f}</title></circle></a>"
        )
        if point.named and (place := _place(point.label, x, y, taken)):
            names.append(place)
    return _figure(title, PLOT_WIDTH, height, "scatter", [*parts, *names])


def _place(label: str, x: float, y: float, taken: list[tuple[float, float, float, float]]) -> str:
    """The name beside a dot where it covers nothing, or empty if it would."""
    width = CHARACTER * len(label)
    places = (
        (x + 9, y, "start"),
        (x - 9 - width, y, "end"),
        (x - width / 2, y - 13, "middle"),
        (x - width / 2, y + 13, "middle"),
    )
    for start, middle, anchor in places:
        box = _box(start, start + width, middle)
        if start < 44 or box[1] > PLOT_WIDTH or any(_overlap(box, other) for other in taken):
            continue
        taken.append(box)
        at = {"start": start, "middle": x, "end": x - 9}[anchor]
        return (
            f'<text class="name" x="{at:g}" y="{middle + 4:g}" text-anchor="{anchor}">'
            f"{escape(label)}</text>"
        )
    return ""


def _box(left: float, right: float, middle: float) -> tuple[float, float, float, float]:
    return left, right, middle - 6, middle + 6


def _overlap(one: tuple[float, ...], two: tuple[float, ...]) -> bool:
    return one[0] < two[1] and two[0] < one[1] and one[2] < two[3] and two[2] < one[3]


def changes(tasks: Sequence[Change], title: str) -> Markup:
    """How a method moves seen and missing accuracy away from the source model's, task by task.

    Empty if it has no value on any task.
    """
    if not any(math.isfinite(each.seen[1]) or math.isfinite(each.missing[1]) for each in tasks):
        return Markup()
    longest = min(MAX_LABEL, max(len(task.label) for task in tasks))
    left = max(LABEL_WIDTH, math.ceil(LABEL_CHARACTER * longest) + LABEL_GAP)
    scale = Scale(0, 100, left, PLOT_WIDTH - 16)
    height = 24 + LINE_HEIGHT * len(tasks) + 8
    parts = [
        f'<path class="grid" d="M{scale.at(tick):g} 20V{height - 4}"/>'
        f'<text x="{scale.at(tick):g}" y="12" text-anchor="middle">{_number(tick)}</text>'
        for tick in scale.ticks(5)
    ]
    for number, task in enumerate(tasks):
        middle = 24 + LINE_HEIGHT * number + LINE_HEIGHT // 2
        parts.append(
            f'<text class="name" x="{left - LABEL_GAP}" y="{middle + 4}" text-anchor="end">'
            f"{escape(shortened(task.label, MAX_LABEL))}</text>"
        )
        for name, (before, after), y in (
            ("seen", task.seen, middle - 6),
            ("missing", task.missing, middle + 6),
        ):
            if math.isfinite(after):
                parts.append(_change(scale, name, before, after, y))
    return _figure(title, PLOT_WIDTH, height, "changes", parts)


def _change(scale: Scale, name: str, before: float, after: float, y: float) -> str:
    text = f'<circle cx="{scale.at(after):g}" cy="{y}" r="4"/>'
    if math.isfinite(before):
        start, end = scale.at(before), scale.at(after)
        text = (
            f'<path d="M{start:g} {y}H{end:g}"/>'
            f'<circle class="before" cx="{start:g}" cy="{y}" r="3.5"/>{text}'
        )
    return f'<g class="{name}">{text}</g>'


def curves(lines: Sequence[Line], mean: Line, title: str) -> Markup:
    """The training loss of a method on each task, and their mean on top.

    Args:
        lines: one for each task; those with fewer than two points are left out.
        mean: at least two points.
        title: what the plot shows.
    """
    height, left, bottom = 240, 44, 34
    every = [*(line for line in lines if line.x.size > 1), mean]
    largest = float(max(line.x[-1] for line in every))
    losses = axis_of(
        [0.0, *(float(line.y.min()) for line in every)], [float(line.y.max()) for line in every]
    )
    across = Scale(0, largest, left, PLOT_WIDTH - 16)
    up = Scale(losses.low, losses.high, height - bottom, TOP)
    parts = [
        *(
            f'<path class="grid" d="M{left} {up.at(tick):g}H{PLOT_WIDTH - 16}"/>'
            f'<text x="{left - 6}" y="{up.at(tick) + 4:g}" text-anchor="end">{_number(tick)}</text>'
            for tick in up.ticks()
        ),
        *(
            f'<text x="{across.at(tick):g}" y="{height - bottom + 16}" text-anchor="middle">'
            f"{_number(tick)}</text>"
            for tick in across.ticks(6)
        ),
        f'<text class="axis" x="{PLOT_WIDTH - 16}" y="{height - 2}" text-anchor="end">'
        "gradient step →</text>",
        '<text class="axis" x="0" y="11">training loss</text>',
    ]
    for line in every:
        kind = "mean" if line is mean else "task"
        parts.append(
            f'<path class="{kind}" d="M{_path(line, across, up)}">'
            f"<title>{escape(line.label)}</title></path>"
        )
    return _figure(title, PLOT_WIDTH, height, "curves", parts)


def _path(line: Line, across: Scale, up: Scale) -> str:
    """The points of a line, at most about ``MAX_POINTS`` of them."""
    step = -(-line.x.size // MAX_POINTS)
    points = zip(line.x[::step].tolist(), line.y[::step].tolist(), strict=True)
    return "L".join(f"{across.at(x):g} {up.at(y):g}" for x, y in points)


def strip(kinds: Iterable[str]) -> Markup:
    """The classes of a task as a row of marks: ``seen``, ``missing`` or ``excluded``."""
    marks: dict[str, str] = {}
    start = 0
    for kind, group in groupby(kinds):
        length = len(list(group))
        marks[kind] = f"{marks.get(kind, '')}M{start} 0h{length}v1h-{length}z"
        start += length
    paths = "".join(f'<path class="{kind}" d="{marks[kind]}"/>' for kind in sorted(marks))
    return Markup(
        f'<svg class="strip" viewBox="0 0 {start} 1" preserveAspectRatio="none" '
        f'aria-hidden="true" focusable="false">{paths}</svg>'
    )


def bar(value: float, largest: float, kind: str) -> Markup:
    """A horizontal bar in a table cell, such as a number of images."""
    width = round(BAR_WIDTH * value / largest, 1) if largest else 0
    return Markup(
        f'<svg class="bar {kind}" viewBox="0 0 {BAR_WIDTH} 8" aria-hidden="true" focusable="false">'
        f'<rect width="{width:g}" height="8"/></svg>'
    )


def _figure(title: str, width: int, height: int, kind: str, parts: Iterable[str]) -> Markup:
    return Markup(
        f'<svg class="plot {kind}" viewBox="0 0 {width} {height}" role="group" '
        f'aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )


def _round_step(step: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(n * power for n in (1, 2, 5, 10) if n * power >= step * 0.999)


def _number(value: float) -> str:
    return f"{value:g}".replace("-", "−")
