"""Render the leaderboard as Markdown, LaTeX, CSV, JSON or Parquet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from leaderboard.board import Board
from leaderboard.render.data import to_csv, to_json
from leaderboard.render.latex import to_latex
from leaderboard.render.markdown import to_markdown
from leaderboard.render.parquet import to_parquet


@dataclass(frozen=True)
class Format:
    """An output format of the leaderboard.

    Attributes:
        render: the content of a file: text, or the bytes of a binary format.
        suffixes: of files that get this format if none is named.
        is_binary: whether the content is bytes.
    """

    render: Callable[[Sequence[Board]], str | bytes]
    suffixes: tuple[str, ...]
    is_binary: bool = False

    def __call__(self, boards: Sequence[Board]) -> str:
        """The text of a format that is not binary."""
        content = self.render(boards)
        assert isinstance(content, str)
        return content


# The order is that of the command's help.
FORMATS = {
    "markdown": Format(to_markdown, (".md", ".markdown")),
    "latex": Format(to_latex, (".tex",)),
    "csv": Format(to_csv, (".csv",)),
    "json": Format(to_json, (".json",)),
    "parquet": Format(to_parquet, (".parquet", ".pq"), is_binary=True),
}


def format_of(path: Path) -> str | None:
    """The name of the format that a file's suffix stands for; None if there is none."""
    suffix = path.suffix.lower()
    return next((name for name, form in FORMATS.items() if suffix in form.suffixes), None)
