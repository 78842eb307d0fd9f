"""Figures of a board: what they show, as files and as inline SVG. Matplotlib is loaded to draw."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmark.errors import UsageError
from leaderboard.board import Board
from leaderboard.render.figures import (
    classes,
    cost,
    critical,
    curve,
    profile,
    sensitivity,
    shares,
    tradeoff,
    training,
)
from leaderboard.render.figures.inline import inline_svg
from leaderboard.render.figures.request import Drawing, Request
from leaderboard.render.figures.style import FORMS, settings, to_bytes

__all__ = ["FIGURES", "Request", "figure_bytes", "figure_svg", "form_of"]

FIGURES: dict[str, Callable[[Request], Drawing]] = {
    "tradeoff": tradeoff.draw,
    "ausuc": curve.draw,
    "cost": cost.draw,
    "profile": profile.draw,
    "cd": critical.draw,
    "per-class": classes.draw,
    "curves": training.draw,
    "partial": shares.draw,
    "sensitivity": sensitivity.draw,
}


def figure_bytes(request: Request, kind: str, form: str) -> tuple[bytes, str]:
    """Draw a figure.

    Args:
        request: what to draw.
        kind: one of ``FIGURES``.
        form: ``svg``, ``png`` or ``pdf``.

    Returns:
        The content of a file, the same for the same inputs, and the caption.

    Raises:
        UsageError: the board does not have what the figure shows; the message says what to run.
    """
    with settings():
        drawing = FIGURES[kind](request)
        return to_bytes(drawing.figure, form, drawing.caption), drawing.caption


def figure_svg(board: Board, kind: str, **options: Any) -> str:
    """An ``<svg>`` element for a page; see :func:`leaderboard.render.figures.inline.inline_svg`.

    Args:
        board: what to draw.
        kind: one of ``FIGURES``.
        options: the other fields of :class:`Request`, such as ``task`` and ``methods``.

    Raises:
        UsageError: as for :func:`figure_bytes`.
    """
    return inline_svg(figure_bytes(Request(board, **options), kind, "svg")[0])


def form_of(path: Path) -> str:
    """The format that a file's extension names.

    Raises:
        UsageError: it names none.
    """
    form = path.suffix.lower().removeprefix(".")
    if form not in FORMS:
        raise UsageError(
            f"cannot draw to {path.name!r}; the file name must end in .{', .'.join(FORMS)}"
        )
    return form
