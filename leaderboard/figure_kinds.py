"""The kinds of figures. Imports nothing, because the help of the command line lists them."""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """A kind of figure.

    Attributes:
        summary: what it shows.
        module: the module of ``leaderboard.render.figures`` whose function ``draw`` draws it.
    """

    summary: str
    module: str


KINDS = {
    "tradeoff": Kind(
        "seen against missing accuracy, with arrows from the source model", "tradeoff"
    ),
    "ausuc": Kind("the seen-unseen curves of several methods", "curve"),
    "cost": Kind("overall accuracy against seconds or steps, with the Pareto front", "cost"),
    "profile": Kind("how often each method is within a number of points of the best", "profile"),
    "cd": Kind("critical-difference diagram of mean ranks, for 8 or more tasks", "critical"),
    "per-class": Kind("gains and losses of one method against another, by class", "classes"),
    "curves": Kind("training losses", "training"),
    "partial": Kind("accuracy against the number of seen classes", "shares"),
    "sensitivity": Kind("accuracy and rank under several recipes, draws or shares", "sensitivity"),
}
# What is equal along the grey lines of ``tradeoff``.
LINES = ("overall", "harmonic")
# What is on the horizontal axis of ``cost``: the key of the board's column, and the axis label.
COSTS = {
    "seconds": ("measured_adapt_seconds", "seconds of adaptation, base runs included"),
    "steps": ("total_steps", "gradient steps, those of base runs included"),
}
