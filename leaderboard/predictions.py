"""Computes metrics from a predictions file and a manifest's labels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from benchmark.errors import ScoringError, first
from benchmark.files import read_bounded
from benchmark.manifest.manifest import Manifest
from benchmark.predictions_layout import PredictionsLayout
from benchmark.records import PREDICTIONS_FILE, read_predictions, verified_predictions
from leaderboard import picks, scoring, scoring_input
from leaderboard.outcomes import Outcomes
from leaderboard.picks import Picks
from leaderboard.scoring import Scores, match_samples
from leaderboard.scoring_input import Truth

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class TaskScores(Scores):
    """The scores of a run on a task. Some of the task's test samples may be excluded."""

    n_excluded: int  # test samples of classes in neither group, left out of all metrics


class ScoredRun(NamedTuple):
    """The scores of a run, and what they were computed from.

    Attributes:
        scores: the metrics.
        outcomes: of the samples that are not excluded.
        picks: of the same samples.
    """

    scores: TaskScores
    outcomes: Outcomes
    picks: Picks


def score_predictions(path: Path, manifest: Manifest, task_id: str) -> TaskScores:
    """Score a predictions file against the labels of a task.

    The file must contain every test sample of the target domain. Samples whose class is neither
    seen nor missing in the task (see :class:`benchmark.manifest.manifest.Task`) are excluded from
    all metrics and counted in ``n_excluded``. The columns of those classes are kept, so predicting
    one of them still counts as an error.

    Raises:
        RecordError: the file cannot be read as predictions.
        ScoringError: unknown, duplicate or missing sample ids, wrong width, or logits that are NaN
            or infinite.
    """
    return score_with_outcomes(path, manifest, task_id)[0]


def score_with_outcomes(
    path: Path, manifest: Manifest, task_id: str
) -> tuple[TaskScores, Outcomes]:
    """As :func:`score_predictions`, and the outcomes of the samples that are not excluded."""
    logits, _ = read_logits_and_labels(path, manifest, task_id)
    scored = _score(_picks(logits, path, manifest, task_id), manifest, task_id)
    return scored.scores, scored.outcomes


def score_run(folder: Path, sha256: str | None, manifest: Manifest, task_id: str) -> ScoredRun:
    """As :func:`score_with_outcomes`, from the folder of a run; see :func:`read_run`."""
    return _score(pick_run(folder, sha256, manifest, task_id), manifest, task_id)


def pick_run(folder: Path, sha256: str | None, manifest: Manifest, task_id: str) -> Picks:
    """What scores need of the predictions of a run; arguments and errors as for ``read_run``."""
    logits, _ = read_run(folder, sha256, manifest, task_id)
    return _picks(logits, folder / PREDICTIONS_FILE, manifest, task_id)


def _picks(logits: NDArray[np.float32], path: Path, manifest: Manifest, task_id: str) -> Picks:
    try:
        return scoring.checked_picks(logits, truth_of(manifest, task_id))
    except ScoringError as error:
        raise ScoringError(f"{path}: {error}") from None


def _score(picks: Picks, manifest: Manifest, task_id: str) -> ScoredRun:
    scores, outcomes = scoring.score_picks(picks, truth_of(manifest, task_id))
    return ScoredRun(with_excluded(scores, manifest, task_id), outcomes, picks)


def with_excluded(scores: Scores, manifest: Manifest, task_id: str) -> TaskScores:
    """Add to the scores the number of test samples that they exclude."""
    n_test = len(_samples(manifest, task_id).ids)
    return TaskScores(**vars(scores), n_excluded=n_test - scores.n_seen - scores.n_missing)


class _Samples(NamedTuple):
    """A task's test samples.

    Attributes:
        ids: of all N samples of the target domain, in the order of the manifest.
        counted: (N,) bool, whether a sample is of a seen or missing class.
        labels: of the counted samples.
        seen: (C,) bool, the seen classes.
    """

    ids: tuple[str, ...]
    counted: NDArray[np.bool_]
    labels: NDArray[np.int64]
    seen: NDArray[np.bool_]


class CountedSamples(NamedTuple):
    """The test samples that a task counts, in the order of the manifest.

    Attributes:
        labels: (N,) class indices.
        is_seen: (N,) bool, whether the sample's class is seen in the task.
        groups: (N,) object, the manifest's ``group`` of each sample, or its id where it has none.
    """

    labels: NDArray[np.int64]
    is_seen: NDArray[np.bool_]
    groups: NDArray[np.object_]


@lru_cache(maxsize=64)
def counted_samples(manifest: Manifest, task_id: str) -> CountedSamples:
    """The samples behind the outcomes of a task's runs."""
    samples = _samples(manifest, task_id)
    groups = manifest.test_groups(manifest.task(task_id).target)[samples.counted]
    return CountedSamples(samples.labels, samples.seen[samples.labels], groups)


@lru_cache(maxsize=64)  # thousands of runs share a task
def _samples(manifest: Manifest, task_id: str) -> _Samples:
    task = manifest.task(task_id)
    test = manifest.samples(task.target, "test")
    seen = manifest.seen_mask(task)
    counted = (seen | manifest.missing_mask(task))[test.labels]
    return _Samples(test.ids, counted, test.labels[counted], seen)


@lru_cache(maxsize=64)
def truth_of(manifest: Manifest, task_id: str) -> Truth:
    """The labels of the samples that a task counts, and its groups of classes."""
    samples = _samples(manifest, task_id)
    return Truth.of(samples.labels, samples.seen)


def read_run(
    folder: Path, sha256: str | None, manifest: Manifest, task_id: str
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Read the predictions of a run, as :func:`read_logits_and_labels` does.

    Args:
        folder: the run's folder.
        sha256: of the predictions file, from the run's record.
        manifest, task_id: what was predicted.

    Raises:
        RecordError: the file is missing, is not the one that the run wrote, or cannot be read.
        ScoringError: as for :func:`read_logits_and_labels`.
    """
    path = folder / PREDICTIONS_FILE
    logits = _read_layout(path, sha256, _layout(manifest, manifest.task(task_id).target))
    if logits is None:
        path = verified_predictions(folder, sha256)
        return read_logits_and_labels(path, manifest, task_id)
    return _counted(logits, _samples(manifest, task_id), path)


@lru_cache(maxsize=64)
def _layout(manifest: Manifest, target: str) -> PredictionsLayout | None:
    return PredictionsLayout.of(manifest.samples(target, "test").ids, len(manifest.classes))


def _read_layout(
    path: Path, sha256: str | None, layout: PredictionsLayout | None
) -> NDArray[np.float32] | None:
    """The logits of all samples; None if the file is damaged or has another layout."""
    if layout is None:
        return None
    try:
        content = read_bounded(path, layout.size)
    except OSError:
        return None
    if hashlib.sha256(content).hexdigest() != sha256:
        return None
    return layout.logits(content)


def read_logits_and_labels(
    path: Path, manifest: Manifest, task_id: str
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Read the predictions for a task's scored test samples.

    Returns:
        Logits (N, C) and labels (N,) of the samples of seen and missing classes, in the order of
        the manifest.

    Raises:
        RecordError: the file cannot be read as predictions.
        ScoringError: unknown, duplicate or missing sample ids, or NaN or infinite logits in
            excluded samples.
    """
    samples = _samples(manifest, task_id)
    ids, logits = read_predictions(path, (len(samples.ids), len(manifest.classes)))
    if ids != samples.ids:  # the benchmark's own files are in the order of the manifest
        try:
            order = match_samples(ids, samples.ids)
        except ScoringError as error:
            raise ScoringError(f"{path}: {error}") from None
        logits = logits[order]
    return _counted(logits, samples, path)


def _counted(
    logits: NDArray[np.float32], samples: _Samples, path: Path
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The logits and labels of the counted samples, from the logits of all.

    Raises:
        ScoringError: logits of other samples are NaN or infinite.
    """
    counted = samples.counted
    if counted.all():
        return logits, samples.labels
    bad = np.flatnonzero(~counted & ~np.isfinite(logits).all(axis=1))
    if bad.size:
        raise ScoringError(
            f"{path}: the logits of {first(samples.ids[row] for row in bad)} are NaN or infinite; "
            "fix the model's outputs"
        )
    return logits[counted], samples.labels


@lru_cache(maxsize=1)
def scorer_digest() -> str:
    """Return the SHA-256 of the scoring code. Rows scored by other code are recomputed."""
    code = [Path(str(module.__file__)).read_bytes() for module in (picks, scoring, scoring_input)]
    return hashlib.sha256(b"".join(code)).hexdigest()
