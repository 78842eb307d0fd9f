"""Render a board as a table of HTML for notebooks: inline, without scripts or style sheets."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from leaderboard.board import Board
from leaderboard.render.cells import table_cells
from leaderboard.render.legend import heading_of, interval_legend, main_task, rank_line

_STYLE = "white-space: nowrap; padding: 2px 8px; text-align: "


def to_notebook(board: Board) -> str:
    """The table of a board's mean over tasks, or of its only task, as an element of HTML.

    It has the columns and rows of the Markdown. Text from methods is escaped.
    """
    task = main_task(board)
    headers, rows = table_cells(board, task)
    left = headers.index("method") + 1
    heading = heading_of(task, board)
    notes = [rank_line(board, task), *interval_legend(board), *board.problems]
    listed = "".join(f"<li>{escape(note)}</li>" for note in notes if note)
    return (
        # Notebooks would typeset a label with dollar signs as mathematics.
        '<div class="tex2jax_ignore mathjax_ignore" style="overflow-x: auto">'
        f"<table><caption>{escape(board.name)}: {escape(heading)}</caption>"
        f"<thead>{_row('th', headers, left)}</thead>"
        f"<tbody>{''.join(_row('td', row, left) for row in rows)}</tbody></table>"
        f"<details><summary>Notes</summary><ul>{listed}</ul></details></div>"
    )


def _row(tag: str, cells: Sequence[str], left: int) -> str:
    sides = ["left"] * left + ["right"] * (len(cells) - left)
    shown = (
        f'<{tag} style="{_STYLE}{side}">{escape(cell)}</{tag}>'
        for cell, side in zip(cells, sides, strict=True)
    )
    return f"<tr>{''.join(shown)}</tr>"
