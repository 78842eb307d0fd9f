"""Figures of a board: what they show, as files and as inline SVG. Matplotlib is loaded to draw."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from benchmark.drawing import settings, to_bytes
from leaderboard.board import Board
from leaderboard.figure_kinds import KINDS
from leaderboard.render.figures.inline import inline_svg
from leaderboard.render.figures.request import Drawing, Request
from leaderboard.render.figures.style import PNG_DPI, SETTINGS

__all__ = ["Request", "draw", "figure_bytes", "figure_svg"]


def draw(request: Request, kind: str) -> Drawing:
    """Draw a figure, with the settings that are in force.

    Args:
        request: what to draw.
        kind: a key of ``KINDS``.

    Raises:
        UsageError: the board does not have what the figure shows; the message says what to run.
    """
    module = import_module(f"leaderboard.render.figures.{KINDS[kind].module}")
    drawing: Drawing = module.draw(request)
    return drawing


def figure_bytes(request: Request, kind: str, form: str) -> tuple[bytes, str]:
    """Draw a figure.

    Args:
        request: what to draw.
        kind: a key of ``KINDS``.
        form: ``svg``, ``png`` or ``pdf``.

    Returns:
        The content of a file, the same for the same inputs, and the caption.

    Raises:
        UsageError: as for :func:`draw`.
    """
    dpi = PNG_DPI if form == "png" else 72
    with settings(SETTINGS):
        drawing = draw(request, kind)
        title = {"Title": drawing.caption}
        return to_bytes(drawing.figure, form, dpi=dpi, metadata=title), drawing.caption


def figure_svg(board: Board, kind: str, **options: Any) -> str:
    """An ``<svg>`` element for a page; see :func:`leaderboard.render.figures.inline.inline_svg`.

    Args:
        board: what to draw.
        kind: a key of ``KINDS``.
        options: the other fields of :class:`Request`, such as ``task`` and ``methods``.

    Raises:
        UsageError: as for :func:`draw`.
    """
    return inline_svg(figure_bytes(Request(board, **options), kind, "svg")[0])
