"""Render the leaderboard as Markdown, CSV or JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from leaderboard.board import Board
from leaderboard.render.data import to_csv, to_json
from leaderboard.render.markdown import to_markdown

FORMATS: dict[str, Callable[[Sequence[Board]], str]] = {
    "markdown": to_markdown,
    "csv": to_csv,
    "json": to_json,
}
