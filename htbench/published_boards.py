"""The leaderboards of the results that are published with this project."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path

from benchmark.errors import UsageError
from benchmark.manifest.suite import Suite, manifest_of
from benchmark.runs.workspace import Workspace
from htbench.run import existing_boards
from leaderboard import gamma_star
from leaderboard.accepted import Accepted, describe_submission, submissions_on
from leaderboard.board import Board, build_boards
from leaderboard.conditions import with_comparisons
from leaderboard.published import FOLDER, Published, published_outcomes, published_rows, read_all
from leaderboard.results import Report


def chosen_boards(
    suite: Suite, workspace: Workspace | None, report: Report, asked: Collection[str] = ()
) -> list[Board]:
    """The boards of a suite in a workspace, or the published one, as ``--published`` chooses.

    Args:
        suite: the suite.
        workspace: where runs are kept; new ones are scored first. None for published results.
        report: called with sentences about folders of runs that cannot be used.
        asked: keys of runs whose versions are shown. Of published results there is one version.

    Raises:
        UsageError: there are no results of the suite.
    """
    if workspace is None:
        return [published_board(suite)]
    return existing_boards(suite, workspace, report, asked)


def published_board(suite: Suite, folder: Path = FOLDER) -> Board:
    """The leaderboard of a suite from the results that are published with this project.

    It has the methods of the suite and the accepted submissions that have all of its runs; larger
    suites have published more. Tuned runs are on the board of a suite of their own.

    Args:
        suite: the suite.
        folder: the folder of the published results.

    Raises:
        UsageError: none are published for the suite's manifest and recipe.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    manifest, entries = manifest_of(suite), read_all(folder)
    accepted = [entry for entry in entries if isinstance(entry, Accepted)]
    submissions = submissions_on(suite, manifest, accepted)
    names = [submission.entry.name for submission in submissions]
    methods = pa.array([*suite.methods, gamma_star.NAME, *names])
    results = published_rows(entries)
    results = results.filter(pc.is_in(results["method"], methods))
    boards = build_boards(suite, manifest, results, outcomes=published_outcomes(entries))
    if not boards:
        suites = [entry.suite for entry in entries if isinstance(entry, Published)]
        known = ", ".join(suites) or "no suite"
        raise UsageError(
            f"no results are published for suite {suite.name}; there are results for: {known}"
        )
    (board,) = with_comparisons(boards[:1], suite, manifest, results)
    return dataclasses.replace(
        board,
        is_published=True,
        submissions=dict(zip(names, submissions, strict=True)),
        notes=(*board.notes, *map(describe_submission, submissions)),
    )
