"""Runs of random logits, and their pooled metrics from naive loops."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
import pyarrow as pa

from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite
from leaderboard.board import Board, build_boards
from leaderboard.outcomes import Outcomes
from leaderboard.predictions import counted_samples
from leaderboard.replicate_files import ReplicateFiles
from leaderboard.rows import SCHEMA
from leaderboard.scoring import score_with_outcomes
from tests.leaderboard.grids import TASKS, row

SEEDS = (0, 1, 2)
LABELS = ("bn-stats", "finetune", "oracle-finetune", "source")
Known = dict[str, tuple[dict[str, Any], Outcomes]]
KEYS = ("overall", "seen", "missing", "macro_overall", "macro_seen", "macro_missing", "harmonic")


def random_runs(icons: Manifest) -> Known:
    """Rows with the scores of random logits, and their outcomes, by key."""
    generator = np.random.default_rng(5)
    entries: Known = {}
    for number, task in enumerate(TASKS):
        samples = counted_samples(icons, task)
        seen = icons.seen_mask(icons.task(task))
        for label, skill in zip(LABELS, (1.3, 1.5, 2.5, 1.0), strict=True):
            for seed in SEEDS:
                logits = generator.normal(0, 1, (len(samples.labels), seen.size))
                logits[np.arange(len(logits)), samples.labels] += skill + number / 2
                logits[:, seen] += skill
                scores, outcomes = score_with_outcomes(logits, samples.labels, seen)
                of_run = row(
                    icons, label, task, seed, total_steps=number, config="{}", **scores.as_dict()
                )
                entries[of_run["key"]] = of_run, outcomes
    return entries


def suite_of(icons: Manifest, tasks: Sequence[str]) -> Suite:
    return Suite(
        name="three",
        title="t",
        manifest=icons.reference,
        tasks=tuple(tasks),
        methods=(),
        seeds=SEEDS,
    )


def board_of(
    icons: Manifest, known: Known, tasks: Sequence[str], files: ReplicateFiles | None = None
) -> Board:
    rows = [of_run for of_run, _ in known.values() if of_run["task"] in tasks]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    (built,) = build_boards(
        suite_of(icons, tasks), icons, table, (), lambda of_run: known[of_run["key"]][1], files
    )
    return built


def naive_metrics(
    icons: Manifest,
    known: Known,
    label: str,
    seed: int,
    drawn: Mapping[str, Sequence[int]],
    *,
    one_less: bool = False,
) -> dict[str, float]:
    """The metrics of one run per task, sample by sample.

    Args:
        drawn: the samples of each task, by task.
        one_less: they are those of one group less than the G of the test set, so that each counts
            G / (G - 1) times.
    """
    right: dict[str, list[tuple[bool, float]]] = defaultdict(list)
    by_class: dict[tuple[str, int], list[tuple[bool, float]]] = defaultdict(list)
    for task, samples in drawn.items():
        facts = counted_samples(icons, task)
        n_groups = len(set(facts.groups))
        weight = n_groups / (n_groups - 1) if one_less else 1.0
        (outcomes,) = (
            of
            for of_run, of in known.values()
            if (of_run["label"], of_run["task"], of_run["seed"]) == (label, task, seed)
        )
        for sample in samples:
            group = "seen" if facts.is_seen[sample] else "missing"
            for name in (group, "overall"):
                entry = bool(outcomes.right[sample]), weight
                right[name].append(entry)
                by_class[name, int(facts.labels[sample])].append(entry)
    values = {name: 100 * fmean(*zip(*of, strict=True)) for name, of in right.items()}
    for name in right:
        of_classes = [
            100 * fmean(*zip(*of, strict=True))
            for (group, _), of in by_class.items()
            if group == name
        ]
        values[f"macro_{name}"] = fmean(of_classes)
    seen, missing = values["seen"], values["missing"]
    return {**values, "harmonic": 2 * seen * missing / (seen + missing)}


def all_samples(icons: Manifest) -> dict[str, range]:
    return {task: range(len(counted_samples(icons, task).labels)) for task in TASKS}
