"""Pseudo cross-validation: folds of a task built from its seen training images only.

A fold is itself a task, built from the training images of the seen classes: half of these classes
play missing. Running and scoring a method on folds uses no test image and no image of a class that
is missing from the task. Loads no torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmark.errors import UsageError
from benchmark.manifest.manifest import Manifest, Task
from benchmark.method import held_out_count

HELD_OUT_SHARE = 0.2  # of the images of a pseudo-seen class
MIN_SEEN = 4  # half of fewer is a single class


def fold(manifest: Manifest, task: Task, repeat: int) -> Manifest:
    """A manifest whose one task is a fold of a task.

    Half of the seen classes (rounded down) play missing: all of their training images become test
    images. Of every other seen class a fifth of the training images (rounded down, at least one,
    never all) is held out and becomes test images too. The draws are ordered by SHA-256 of the
    repeat and the name, so they depend on nothing else. Classes that are missing from the task
    keep their columns and have no images.

    Args:
        manifest: the manifest of the task.
        task: a task with at least ``MIN_SEEN`` seen classes.
        repeat: number of the fold.

    Returns:
        A manifest with images of the target domain only, and another digest.

    Raises:
        UsageError: the task has too few seen classes.
    """
    if len(task.seen) < MIN_SEEN:
        raise UsageError(
            f"task {task.id} has {len(task.seen)} seen classes; folds need at least {MIN_SEEN}"
        )
    classes = _shuffled(task.seen, f"{task.id} {repeat} class")
    missing = set(classes[: len(classes) // 2])
    train = manifest.samples(task.target, "train")
    of_class: dict[str, list[str]] = {name: [] for name in task.seen}
    for image_id, label in zip(train.ids, train.labels.tolist(), strict=True):
        if (name := manifest.classes[label]) in of_class:
            of_class[name].append(image_id)
    tests: set[str] = set()
    for name, ids in of_class.items():
        count = len(ids) if name in missing else held_out_count(len(ids), HELD_OUT_SHARE)
        tests.update(_shuffled(ids, f"{task.id} {repeat} image")[:count])
    chosen = {image_id for ids in of_class.values() for image_id in ids}
    return Manifest(
        manifest.root,
        _document(manifest, task, repeat, missing),
        _table(manifest, chosen, tests),
        manifest.other_model,
        manifest.argument,
        manifest.recipe_name,
    )


def _shuffled(names: Sequence[str], key: str) -> list[str]:
    return sorted(names, key=lambda name: hashlib.sha256(f"{key} {name}".encode()).digest())


def _document(manifest: Manifest, task: Task, repeat: int, missing: set[str]) -> Mapping[str, Any]:
    pseudo = {
        "id": f"{task.id}.fold{repeat}",
        "sources": list(task.sources),
        "target": task.target,
        "seen": [name for name in task.seen if name not in missing],
        "missing": [name for name in task.seen if name in missing],
    }
    return {**manifest.document, "tasks": [pseudo]}


def _table(manifest: Manifest, chosen: set[str], tests: set[str]) -> Any:
    """The rows of the chosen images with their new ``split``; other columns are unchanged."""
    import pyarrow as pa

    ids = manifest.table["image_id"].to_pylist()
    table = manifest.table.filter(pa.array([image_id in chosen for image_id in ids]))
    split = ["test" if i in tests else "train" for i in table["image_id"].to_pylist()]
    return table.set_column(table.schema.get_field_index("split"), "split", pa.array(split))


@dataclass(frozen=True)
class Trial:
    """Settings and their accuracies on the folds.

    Attributes:
        settings: field to value, as text.
        seen, missing: accuracies in per cent, the mean over folds; None if a run failed.
    """

    settings: Mapping[str, str]
    seen: float | None
    missing: float | None

    @property
    def score(self) -> float | None:
        """Mean of seen and missing accuracy, in per cent.

        Overall accuracy would not do: a fold has about five times as many test images of
        pseudo-missing classes as of pseudo-seen ones, unlike the task itself.
        """
        if self.seen is None or self.missing is None:
            return None
        return (self.seen + self.missing) / 2


def trial(settings: Mapping[str, str], scores: Sequence[tuple[float, float] | None]) -> Trial:
    """Average the (seen, missing) accuracies of all folds; None means a failed run."""
    complete = [score for score in scores if score is not None]
    if not complete or len(complete) < len(scores):
        return Trial(settings, None, None)
    seen, missing = np.mean(complete, axis=0).tolist()
    return Trial(settings, seen, missing)


def best(trials: Sequence[Trial]) -> Trial:
    """The trial with the highest score; among equals, the first of the grid.

    Raises:
        UsageError: every trial has a failed run.
    """
    scored = [(candidate.score, candidate) for candidate in trials if candidate.score is not None]
    if not scored:
        raise UsageError(
            "every setting of the grid failed on at least one fold, so none can be chosen; "
            "run the method with one of them to see the error"
        )
    return max(scored, key=lambda pair: pair[0])[1]
