"""Access the leaderboards of a workspace from Python."""

from __future__ import annotations

import dataclasses
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.manifest.suite import Suite, load_suite
from benchmark.runs.workspace import Workspace
from htbench.results import shown_problems
from htbench.run import existing_boards
from leaderboard.board import Board
from leaderboard.partial import with_partial_means
from leaderboard.render.data import to_frame
from leaderboard.render.legend import main_task
from leaderboard.render.markdown import board_table
from leaderboard.render.notebook import to_notebook

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class BoardOfSuite(Board):
    """One table of a suite, as :func:`load_boards` returns it.

    A notebook shows it as a table, and the Python prompt as text.
    """

    def to_frame(self) -> pd.DataFrame:
        """The cells as a data frame: one row per method and task, in the order of the board.

        The columns are those of ``htbench leaderboard --format csv``; the task ``mean`` is the mean
        over tasks. Numbers are not rounded.
        """
        return to_frame([self])

    def __repr__(self) -> str:
        return f"{self.name}\n{board_table(self, main_task(self))}"

    def _repr_html_(self) -> str:
        return to_notebook(self)


def load_boards(
    suite: str | Path | Suite, workspace: str | Path = "workspace", *, allow_partial: bool = False
) -> list[BoardOfSuite]:
    """Score all unscored runs of a suite and return its tables.

    Args:
        suite: a suite's name, its .toml file, or a loaded suite.
        workspace: where runs and results are kept.
        allow_partial: whether methods with missing or failed runs have a mean over the tasks that
            they have. Such a mean has no rank.

    Returns:
        The tables, those of the manifest's own network first. Most workspaces have one table; runs
        that do not compare, such as those of two source models, are in several.

    Warns:
        UserWarning: folders of the workspace cannot be used; see :func:`load_results`.

    Raises:
        ManifestError: the suite cannot be used.
        UsageError: the workspace has no run of the suite.

    Example:
        >>> board = load_boards("icons")[0]
        >>> board.to_frame()[["label", "task", "overall", "overall_half", "rank"]]
        >>> (board,) = load_boards(load_suite("icons").part(seeds=[0]))  # of runs of one seed
    """
    loaded = load_suite(suite)
    problems: list[str] = []
    boards = existing_boards(loaded, Workspace(Path(workspace)), problems.append)
    if problems:
        warnings.warn("\n".join(shown_problems(problems)), stacklevel=2)
    return [_of_suite(with_partial_means(b) if allow_partial else b) for b in boards]


def _of_suite(board: Board) -> BoardOfSuite:
    fields = {field.name: getattr(board, field.name) for field in dataclasses.fields(board)}
    return BoardOfSuite(**fields)
