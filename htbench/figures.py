"""What figures need beyond a board."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmark.records import RunRecord
from benchmark.runs.workspace import Workspace
from leaderboard import gamma_star
from leaderboard.render.figures.request import LogOf
from leaderboard.rows import Row


def log_reader(workspace: Workspace) -> LogOf:
    """Reads the training logs of a workspace's runs."""

    def log_of(row: Row) -> Sequence[Mapping[str, float]]:
        if row["method"] == gamma_star.NAME:  # not a run
            return ()
        return RunRecord.read(workspace.folder(row["key"]), row["key"]).log

    return log_of
