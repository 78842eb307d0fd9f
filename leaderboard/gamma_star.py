"""gamma-star: an upper bound on calibration, derived from the predictions of ``finetune``.

It is not a run. For every scored run of ``finetune``, it rescores the same predictions after adding
to the missing-class logits the constant that works best on the test labels. Everything specific to
gamma-star is in this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.commands import command
from benchmark.errors import UsageError
from benchmark.files import digest_json
from benchmark.manifest.manifest import Manifest
from benchmark.records import RunRecord
from benchmark.run_folders import run_folders
from leaderboard.outcomes import Outcomes
from leaderboard.picks import Picks
from leaderboard.predictions import TaskScores, pick_run, truth_of, with_excluded
from leaderboard.row_columns import Rows
from leaderboard.rows import GAMMA_STAR, MEASURED, METRICS, STEPS, Row, json_text
from leaderboard.scoring import score_picks_at_best_gamma

NAME = GAMMA_STAR
BASE = "finetune"  # the method whose predictions it is derived from
TRACK = "oracle"  # it uses test labels
SUMMARY = "Fine-tuning plus the constant on the missing-class logits that maximises test accuracy."
LEGEND = (
    f"{NAME}: {BASE} plus the constant on its missing-class logits that maximises test accuracy"
)
PAPERS = {NAME: ["mai2024finetuning", "chao2016empirical"]}  # keys of the citations
DERIVED = {NAME: BASE}  # names that cannot be run and that no method may take
# What `htbench list methods` shows.
METHOD_ENTRY: Mapping[str, Any] = {
    "method": NAME,
    "fields": {},
    "base": BASE,
    "track": TRACK,
    "needs": [],
    "from": "the scorer",
    "summary": SUMMARY,
}


# --- scores ------------------------------------------------------------------------------------


class GammaStar(NamedTuple):
    """Gamma*, in units of logits, and the scores and outcomes there."""

    gamma: float
    scores: TaskScores
    outcomes: Outcomes


def score_gamma_star(
    folder: Path, sha256: str | None, manifest: Manifest, task_id: str, picks: Picks | None = None
) -> GammaStar:
    """Score a run's predictions at gamma*; see :func:`leaderboard.scoring.score_at_best_gamma`.

    Args:
        folder: the run's folder.
        sha256: of its predictions file.
        manifest, task_id: what was predicted.
        picks: what scores need of the predictions, if they were read before.

    Raises:
        RecordError, ScoringError: as for :func:`leaderboard.predictions.read_run`.
    """
    if picks is None:
        picks = pick_run(folder, sha256, manifest, task_id)
    best, outcomes = score_picks_at_best_gamma(picks, truth_of(manifest, task_id))
    return GammaStar(best.gamma, with_excluded(best.scores, manifest, task_id), outcomes)


def scores_to_show(record: RunRecord, folder: Path, manifest: Manifest) -> dict[str, float]:
    """Return gamma* and its metrics, for `htbench show`; empty if the run is not of ``finetune``.

    Args:
        record: the record of a run with predictions.
        folder: the run's folder.
    """
    if record.method != BASE:
        return {}
    best = score_gamma_star(folder, record.predictions_sha256, manifest, record.task)
    return {"gamma": best.gamma, **best.scores.as_dict()}


def scores_as_text(scores: Mapping[str, float]) -> str:
    """One line for what :func:`scores_to_show` returns."""
    accuracies = ", ".join(f"{name} {scores[name]:.2f}" for name in ("overall", "seen", "missing"))
    gamma = f"{scores['gamma']:+.4g}"
    return f"{NAME} ({TRACK}): {accuracies} with {gamma} added to the missing-class logits"


# --- rows --------------------------------------------------------------------------------------


def derive_rows(
    rows: Iterable[Row],
    workspace: Path,
    previous: Mapping[str, Row],
    manifests: Mapping[str, Manifest],
    picks: Mapping[str, Picks],
) -> Iterator[tuple[dict[str, Any], Outcomes | None]]:
    """Yield a gamma-star row for every scored run of ``finetune``. Its cost is that of the run.

    The second value is the outcomes of its samples; None if its scores are those of its previous
    row.

    Args:
        rows: rows of runs.
        workspace: the folder that contains the runs.
        previous: rows of the previous update, by key; a row whose predictions and scorer have not
            changed keeps its scores.
        manifests: the manifests, by digest.
        picks: of the rows that have just been scored, by key; the predictions of the others are
            read.

    Raises:
        RecordError: a predictions file cannot be trusted.
    """
    for row in rows:
        if row["method"] != BASE or row["overall"] is None:
            continue
        key = derived_key(row["key"])
        scores, outcomes = _scores(
            row, workspace, previous.get(key), manifests, picks.get(row["key"])
        )
        if scores:
            derived = {
                **row,
                **dict.fromkeys((*STEPS, *(f"measured_{name}" for name in MEASURED))),
                "key": key,
                "method": NAME,
                "label": derived_label(row["label"]),
                "track": TRACK,
                "base": row["key"],
                "notes": json_text([]),
                "measured_finished": row["measured_finished"],
                **scores,
            }
            yield derived, outcomes


def derived_key(key: str) -> str:
    """The key of the row that is derived from a run of ``finetune``."""
    return digest_json({"base": key, "method": NAME})


def derived_label(label: str) -> str:
    """Return the label of the row derived from a run of ``finetune``, with the same settings."""
    return NAME + label.removeprefix(BASE)


def _scores(
    base: Row,
    workspace: Path,
    previous: Row | None,
    manifests: Mapping[str, Manifest],
    picks: Picks | None,
) -> tuple[dict[str, Any], Outcomes | None]:
    """Gamma* and the metrics there, from the previous row if its inputs have not changed."""
    inputs = ("predictions_sha256", "scorer_digest")
    if previous is not None and all(previous[name] == base[name] for name in inputs):
        return {name: previous[name] for name in ("config", *METRICS)}, None
    manifest = manifests.get(base["manifest_digest"])
    if manifest is None:
        return {}, None
    folder = workspace / "runs" / base["key"]
    best = score_gamma_star(folder, base["predictions_sha256"], manifest, base["task"], picks)
    config = json_text({"gamma": best.gamma})
    return {**best.scores.as_dict(), "config": config}, best.outcomes


# --- on the board ------------------------------------------------------------------------------


def unscored_rows(rows: Rows) -> list[Row]:
    """Return placeholder gamma-star rows, with their status, for unscored runs of ``finetune``.

    The results do not contain them, but the leaderboard needs them: otherwise, after a failed run,
    a gamma-star cell would average over the remaining runs only.
    """
    labels = set(rows.codes("label").names)
    unscored = rows.where(rows.equal("method", BASE) & ~rows.equal("status", "ok"))
    return [
        {**row, "label": derived_label(row["label"])}
        for row in unscored
        if derived_label(row["label"]) in labels
    ]


def base_labels(rows: Rows) -> dict[str, str]:
    """The label of ``finetune`` for each label of gamma-star that may be derived from the rows."""
    labels = rows.where(rows.equal("method", BASE)).codes("label").names
    return {derived_label(label): label for label in labels}


# --- on the command line -----------------------------------------------------------------------


def refuse_key(prefix: str, runs: Path, options: Sequence[str] = ()) -> None:
    """Raise an error if a key belongs to a gamma-star row, which is not a run.

    Args:
        prefix: a key or the beginning of one; ``runs``: the workspace's folder of runs.
        options: words that name the suite and the workspace, for the recommended command.

    Raises:
        UsageError: it is the key of a row of gamma-star; the message names the run behind it.
    """
    for key in sorted(run_folders(runs).keys):
        if derived_key(key).startswith(prefix) and RunRecord.read(runs / key, key).method == BASE:
            show = command("show", key[:12], *options)
            raise UsageError(
                f"{prefix} is not a run; it is the {NAME} row derived from run {key[:12]}. "
                f"`{show}` shows both"
            )
