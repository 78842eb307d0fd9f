"""What makes a submission suspicious: a person has to look, nothing is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from benchmark.errors import first
from leaderboard.accepted import SUBMITTED
from leaderboard.board import MEAN, Board, build_boards
from leaderboard.intervals import OutcomesOf
from leaderboard.published import published_outcomes, read_all
from leaderboard.submission.state import FlaggedError, Submission

ORACLE = "oracle-finetune"
NEARLY_ALL = 99.0  # per cent of a run's test images, or of those of missing classes


def lock(submission: Submission) -> None:
    """Flag runs that report fewer measures of isolation than the published ones."""
    published = [text for text in set(submission.others["isolation"].to_pylist()) if text]
    usual = set.intersection(*(set(json.loads(text)) for text in published)) if published else set()
    # The number of Landlock's version depends on the kernel.
    usual = {measure for measure in usual if not measure.startswith("landlock-abi")}
    for record in submission.records.values():
        if absent := sorted(usual - set(record.isolation)):
            raise FlaggedError(
                f"the run on {record.task}, seed {record.seed} was not fully locked in: no "
                f"{', '.join(absent)}"
            )


def oracle(submission: Submission) -> None:
    """Flag a missing accuracy in or above the interval of the method that trains on all classes."""
    cells = _means(submission)
    reference = cells.get(ORACLE)
    if reference is None:
        return
    low = reference["missing"] - _half(reference, "missing")
    if (value := _own(submission, cells)["missing"]) >= low:
        raise FlaggedError(
            f"missing accuracy {value:.1f}; that of {ORACLE}, which trains on images of the "
            f"missing classes, is {reference['missing']:.1f} ± {_half(reference, 'missing'):.1f}"
        )


def steps(submission: Submission) -> None:
    """Flag an overall accuracy above all published methods that take no gradient step."""
    cells = _means(submission)
    own = _own(submission, cells)
    others = [
        cell
        for cell in cells.values()
        if cell["label"] != own["label"] and cell["track"] == "standard" and not cell["total_steps"]
    ]
    if own["total_steps"] or not others:
        return
    best = max(others, key=lambda cell: cell["overall"])
    if own["overall"] > best["overall"] + _half(best, "overall"):
        raise FlaggedError(
            f"overall accuracy {own['overall']:.1f} without a gradient step; the best published "
            f"method without one, {best['label']}, has {best['overall']:.1f} ± "
            f"{_half(best, 'overall'):.1f}"
        )


def labels(submission: Submission) -> None:
    """Flag runs whose predictions are (nearly) the labels."""
    cells = [
        f"{record.task}, seed {record.seed}"
        for record in submission.of_method
        if submission.scores[record.key]["overall"] >= NEARLY_ALL
        or submission.scores[record.key]["missing"] >= NEARLY_ALL
    ]
    if cells:
        raise FlaggedError(f"the predictions are nearly the labels: {first(cells)}")


@lru_cache(maxsize=1)  # several checks need it
def _means(submission: Submission) -> dict[str, dict[Any, Any]]:
    """The means of the board that the submission would be on, by label."""
    return _board(submission).of_task(MEAN)


def _board(submission: Submission) -> Board:
    methods = pa.array(sorted(submission.taken))
    others = submission.others.filter(pc.is_in(submission.others["method"], methods))
    own = submission.table(SUBMITTED)
    known = published_outcomes(read_all(submission.published))
    outcomes: OutcomesOf = lambda row: submission.outcomes.get(row["key"]) or known(row)  # noqa: E731
    keys = set(own["key"].to_pylist())
    table = pa.concat_tables([others, own])
    boards = build_boards(submission.suite, submission.manifest, table, keys, outcomes)
    return next(board for board in boards if board.keys & keys)


def _own(submission: Submission, cells: Mapping[str, dict[Any, Any]]) -> dict[Any, Any]:
    """The cell of the submission."""
    name = submission.form.name
    return next(cell for label, cell in cells.items() if label.partition("(")[0] == name)


def _half(cell: Mapping[Any, Any], name: str) -> float:
    half = float(cell[f"{name}_half"])
    return 0.0 if math.isnan(half) else half
