"""The board that a figure is drawn from, of a workspace or of the published results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from benchmark.errors import UsageError
from benchmark.manifest.suite import Suite, manifest_of
from benchmark.records import RunRecord
from benchmark.runs.workspace import Workspace
from leaderboard import gamma_star
from leaderboard.board import Board, build_boards
from leaderboard.conditions import with_comparisons
from leaderboard.published import published_outcomes, published_rows, read_published
from leaderboard.render.figures.request import LogOf
from leaderboard.rows import Row


def published_board(suite: Suite) -> Board:
    """The main table of a suite from the results that are published with this project.

    Raises:
        UsageError: none of the suite are.
    """
    manifest, results = manifest_of(suite), published_rows()
    boards = build_boards(suite, manifest, results, outcomes=published_outcomes())
    boards = with_comparisons(boards, suite, manifest, results)
    if not (boards and boards[0].is_main):
        names = ", ".join(entry.suite for entry in read_published()) or "none"
        raise UsageError(
            f"no results of suite {suite.name} are published; published are: {names}. Leave out "
            "--published to draw from a workspace"
        )
    board = boards[0]
    names_shown = {*suite.methods, gamma_star.NAME}
    return replace(board, cells=board.cells[board.cells["label"].isin(names_shown)])


def log_reader(workspace: Workspace) -> LogOf:
    """Reads the training logs of a workspace's runs."""

    def log_of(row: Row) -> Sequence[Mapping[str, float]]:
        if row["method"] == gamma_star.NAME:  # not a run
            return ()
        return RunRecord.read(workspace.folder(row["key"]), row["key"]).log

    return log_of
