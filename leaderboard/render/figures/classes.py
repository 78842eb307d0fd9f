"""What one method gains and loses against another, class by class."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from benchmark.errors import UsageError
from benchmark.text import plural
from leaderboard.columns import FINETUNE
from leaderboard.predictions import counted_samples
from leaderboard.render.cells import signed
from leaderboard.render.figures.request import Drawing, Request
from leaderboard.render.figures.style import (
    BLUE,
    FONT,
    GRID,
    INK,
    ORANGE,
    add_panel,
    new_figure,
    shown,
    text_inches,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLES = ("seen", "missing")
MAX_BARS = 40  # of a panel; of more classes, those that change most are drawn
BAR = 0.135  # inches
MAX_CLASS = 22  # characters


class Change(NamedTuple):
    """The change of a class: its name, and points of accuracy."""

    name: str
    points: float


def class_accuracies(request: Request, label: str) -> dict[tuple[bool, int], float]:
    """The accuracy of each class, per cent, by whether it is seen and by class index.

    The mean over the tasks in which the class has this role and test images, each a mean over
    seeds.
    """
    by_task: dict[tuple[bool, int], dict[str, list[float]]] = {}
    for row, outcomes in request.outcomes(label):
        samples = counted_samples(request.manifest, row["task"])
        size = int(samples.labels.max()) + 1
        total = np.bincount(samples.labels, minlength=size)
        right = np.bincount(samples.labels[outcomes.right], minlength=size)
        is_seen = np.zeros(size, dtype=bool)
        is_seen[samples.labels[samples.is_seen]] = True
        for index in np.flatnonzero(total).tolist():
            of_class = by_task.setdefault((bool(is_seen[index]), index), {})
            of_class.setdefault(row["task"], []).append(100 * right[index] / total[index])
    return {
        key: float(np.mean([np.mean(values) for values in tasks.values()]))
        for key, tasks in by_task.items()
    }


def changes(request: Request, label: str, against: str) -> tuple[list[Change], list[Change]]:
    """The changes of the seen and of the missing classes, the largest gain first."""
    after, before = (class_accuracies(request, name) for name in (label, against))
    classes = request.manifest.classes
    groups = []
    for seen in (True, False):
        of_group = [
            Change(classes[index], after[is_seen, index] - before[is_seen, index])
            for is_seen, index in after
            if is_seen is seen
        ]
        groups.append(sorted(of_group, key=lambda change: (-change.points, change.name)))
    return groups[0], groups[1]


def draw(request: Request) -> Drawing:
    """Draw the chosen method (``finetune`` by default) against another.

    Raises:
        UsageError: not exactly one method is chosen, or the two are the same.
    """
    label, against = _pair(request)
    groups = changes(request, label, against)
    kept = [_extremes(group) for group in groups]
    rows = max(len(bars) for bars, _ in kept)
    height = 0.72 + BAR * rows
    figure = new_figure(request.width, height)
    names = [change.name for bars, _ in kept for change in bars if change is not None]
    name_inches = max(text_inches(shown(name, MAX_CLASS), FONT - 1.5) for name in names) + 0.08
    end = max(abs(change.points) for group in groups for change in group) or 1.0
    half = request.width / 2
    for i, (title, group, (bars, _)) in enumerate(zip(TITLES, groups, kept, strict=True)):
        axes = add_panel(figure, i * half + name_inches, 0.36, (1 - i) * half + 0.08, 0.24)
        _panel(axes, bars, rows, end)
        mean = signed(float(np.mean([change.points for change in group])), 1)
        what = title if request.is_narrow else f"{title} classes"
        text = f"{len(group)} {what}, mean {mean}".replace("-", "\N{MINUS SIGN}")
        place = figure.dpi_scale_trans
        axes.text(i * half + 0.06, height - 0.07, text, transform=place, va="top")
    return Drawing(figure, _caption(request, label, against, sum(n for _, n in kept)))


def _pair(request: Request) -> tuple[str, str]:
    labels = list(request.cells())
    methods = request.methods or (FINETUNE,)
    chosen = request.chosen(labels) or [label for label in labels if label in methods]
    if len(chosen) != 1:
        names = ", ".join(map(repr, chosen)) or "none"
        raise UsageError(
            f"per-class draws one method, and --method chooses {len(chosen)} ({names}); name one, "
            "with its settings if it has several rows"
        )
    other = Request(request.board, request.task, (request.against,)).chosen(labels)
    if len(other) != 1 or other == chosen:
        raise UsageError(
            f"--against {request.against} must be one method other than {chosen[0]}; name another"
        )
    return chosen[0], other[0]


def _extremes(group: list[Change]) -> tuple[list[Change | None], int]:
    """The changes to draw, with None for the smaller ones between them, and how many these are."""
    if len(group) <= MAX_BARS:
        return list(group), 0
    order = sorted(range(len(group)), key=lambda i: -abs(group[i].points))
    kept = [group[i] for i in sorted(order[: MAX_BARS - 1])]
    gains = [change for change in kept if change.points > 0]
    return [*gains, None, *kept[len(gains) :]], len(group) - len(kept)


def _panel(axes: Axes, bars: list[Change | None], rows: int, end: float) -> None:
    axes.set_xlim(-1.08 * end, 1.08 * end)
    axes.set_ylim(rows - 0.4, -0.6)
    axes.grid(axis="x", color=GRID, linewidth=0.5)
    axes.set_axisbelow(True)
    for y, change in enumerate(bars):
        if change is None:
            continue
        is_gain = change.points >= 0
        axes.barh(
            y,
            change.points,
            height=0.72,
            color=BLUE if is_gain else ORANGE,
            hatch=None if is_gain else "//////",
            edgecolor=BLUE if is_gain else "white",
            linewidth=0,
        )
    axes.axvline(0, color=INK, linewidth=0.6)
    names = ["⋮" if change is None else shown(change.name, MAX_CLASS) for change in bars]
    axes.set_yticks(range(len(bars)), names, fontsize=FONT - 1.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("change (points)")


def _caption(request: Request, label: str, against: str, left_out: int) -> str:
    more = f" Left out: {plural(left_out, 'smaller change')}." if left_out else ""
    several = len(request.tasks) > 1
    both = (
        " A class that is seen in some tasks and missing in others is on both sides."
        if several
        else ""
    )
    return (
        f"Gains (solid) and losses (hatched) of {label} against {against} in the accuracy of each "
        f"class, predicted among all classes, in points.{both}{more} {request.what()}"
    )
