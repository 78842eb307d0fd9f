"""Pseudo cross-validation of settings: a fold of a task as a manifest, and trials on it.

A fold is a task in small, built from the training images of the seen classes, of which some play
missing (see ``benchmark/folds.py``). Running and scoring a method on folds uses no test image and
no image of a class that is missing from the task. Loads no torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.errors import UsageError
from benchmark.folds import Fold, draw_fold
from benchmark.manifest.manifest import Manifest, Samples, Task
from benchmark.text import plural

if TYPE_CHECKING:
    import pyarrow as pa

MISSING_SHARE = 0.5  # of the seen classes plays missing
HELD_OUT_SHARE = 0.2  # of the images of every seen class
MIN_SEEN = 4  # half of fewer is a single class


def check_folds(manifest: Manifest, task: Task, repeats: int) -> None:
    """Check that a task has folds, before anything runs.

    Args:
        manifest: the manifest of the task.
        task: the task.
        repeats: the number of folds.

    Raises:
        UsageError: it has too few seen classes, or too few images of them.
    """
    for repeat in range(repeats):
        _draw(manifest, task, repeat)


def _check_task(task: Task) -> None:
    if len(task.seen) < MIN_SEEN:
        raise UsageError(
            f"task {task.id} has {plural(len(task.seen), 'seen class')}, and folds need at least "
            f"{MIN_SEEN}; choose other tasks with --task"
        )


def check_held_out(task: str, drawn: Fold, labels: Sequence[int]) -> None:
    """Check that a fold can be judged: that images of both groups are held out.

    Args:
        task: the task's id.
        drawn: the fold.
        labels: the class of each of its held-out images.

    Raises:
        UsageError: none of one group are, as every class of it has a single training image.
    """
    are_missing = {label in drawn.missing for label in labels}
    for is_missing, group in ((False, "stay seen"), (True, "play missing")):
        if is_missing not in are_missing:
            raise UsageError(
                f"task {task} has no image to hold out of the seen classes that {group} in a fold, "
                "because each of them has a single training image; choose other tasks with --task"
            )


def fold(manifest: Manifest, task: Task, repeat: int) -> Manifest:
    """A manifest whose one task is a fold of a task.

    Half of the seen classes (rounded down) play missing. A fifth of the training images of every
    seen class (rounded down, at least one, never all) becomes test images. The draws are ordered by
    SHA-256 of the repeat and the name, so they depend on nothing else. The other images of the
    classes that play missing remain training images, which only an oracle receives. Classes that
    are missing from the task keep their columns and have no images.

    Args:
        manifest: the manifest of the task.
        task: a task with at least ``MIN_SEEN`` seen classes.
        repeat: number of the fold.

    Returns:
        A manifest with images of the target domain only, and another digest.

    Raises:
        UsageError: the task has too few seen classes, or too few images of them.
    """
    train, drawn = _draw(manifest, task, repeat)
    is_seen = manifest.seen_mask(task)[train.labels].tolist()
    images = {image_id for image_id, seen in zip(train.ids, is_seen, strict=True) if seen}
    missing = {manifest.classes[label] for label in drawn.missing}
    tests = {train.ids[row] for row in drawn.held_out}
    return Manifest(
        manifest.root,
        _document(manifest, task, repeat, missing),
        _table(manifest, images, tests),
        manifest.other_model,
        manifest.argument,
        manifest.recipe_name,
        manifest.rate_factor,
    )


def _draw(manifest: Manifest, task: Task, repeat: int) -> tuple[Samples, Fold]:
    """The training images of a task's target, and a fold of their rows."""
    _check_task(task)
    train = manifest.samples(task.target, "train")
    samples: dict[int, list[int]] = {}
    for row, label in enumerate(train.labels.tolist()):
        if manifest.classes[label] in task.seen:
            samples.setdefault(label, []).append(row)
    names = {"class": manifest.classes, "image": train.ids}

    def shuffle(kind: str, items: Sequence[int]) -> list[int]:
        def rank(item: int) -> bytes:
            return hashlib.sha256(
                f"{task.id} {repeat} {kind} {names[kind][item]}".encode()
            ).digest()

        return sorted(items, key=rank)

    drawn = draw_fold(samples, MISSING_SHARE, HELD_OUT_SHARE, shuffle)
    check_held_out(task.id, drawn, [int(train.labels[row]) for row in drawn.held_out])
    return train, drawn


def _document(manifest: Manifest, task: Task, repeat: int, missing: set[str]) -> Mapping[str, Any]:
    pseudo = {
        "id": f"{task.id}.fold{repeat}",
        "sources": list(task.sources),
        "target": task.target,
        "seen": [name for name in task.seen if name not in missing],
        "missing": [name for name in task.seen if name in missing],
    }
    return {**manifest.document, "tasks": [pseudo]}


def _table(manifest: Manifest, images: set[str], tests: set[str]) -> pa.Table:
    """The rows of some images with their new ``split``; other columns are unchanged."""
    import pyarrow as pa

    ids = manifest.table["image_id"].to_pylist()
    table = manifest.table.filter(pa.array([image_id in images for image_id in ids]))
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
        """Mean of seen and missing accuracy, in per cent: the two groups count equally."""
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


def best(trials: Sequence[Trial]) -> Trial | None:
    """The trial with the highest score; among equals, the first. None if each has a failed run."""
    scored = [(candidate.score, candidate) for candidate in trials if candidate.score is not None]
    return max(scored, key=lambda pair: pair[0])[1] if scored else None
