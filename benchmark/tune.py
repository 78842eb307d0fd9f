"""Hyper-parameter search by pseudo cross-validation: on seen training images, and nothing else.

A fold of a task is a task itself, made of the seen classes' training images alone: half of these
classes play missing. Whoever runs and scores a method on folds touches no test image, and no image
of a class that is really missing. No torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmark.errors import UsageError
from benchmark.manifest import Manifest, Task
from benchmark.method import held_out_count

REPEATS = 3
HELD_OUT = 0.2  # of a pseudo-seen class's images
MIN_SEEN = 4  # fewer cannot be halved into two groups that say anything


def fold(manifest: Manifest, task: Task, repeat: int) -> Manifest:
    """A manifest whose one task is a fold of a task.

    Half of the seen classes (rounded down) play missing: the training images of all of them are
    test images. Of every other seen class a fifth of the training images (rounded down, at least
    one, never all) is held out of training and is test images as well. The draws go by SHA-256
    of the repeat and the name, so that they depend on nothing else. The really missing classes
    keep their columns and have no image.

    Args:
        manifest: the task's.
        task: a task with at least ``MIN_SEEN`` seen classes.
        repeat: number of the fold.

    Returns:
        A manifest with the images of the target domain only. Its digest is its own.

    Raises:
        UsageError: the task has too few seen classes.
    """
    if len(task.seen) < MIN_SEEN:
        raise UsageError(
            f"task {task.id} has {len(task.seen)} seen classes; halving them needs {MIN_SEEN}"
        )
    drawn = _drawn(task.seen, f"{task.id} {repeat} class")
    missing = set(drawn[: len(drawn) // 2])
    train = manifest.samples(task.target, "train")
    of_class: dict[str, list[str]] = {name: [] for name in task.seen}
    for image_id, label in zip(train.ids, train.labels.tolist(), strict=True):
        if (name := manifest.classes[label]) in of_class:
            of_class[name].append(image_id)
    tests: set[str] = set()
    for name, ids in of_class.items():
        count = len(ids) if name in missing else held_out_count(len(ids), HELD_OUT)
        tests.update(_drawn(ids, f"{task.id} {repeat} image")[:count])
    chosen = {image_id for ids in of_class.values() for image_id in ids}
    return Manifest(
        manifest.root,
        _document(manifest, task, repeat, missing),
        _table(manifest, chosen, tests),
        manifest.other_model,
    )


def _drawn(names: Sequence[str], key: str) -> list[str]:
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
    """The rows of the chosen images, split anew; ``path`` and all else as they are."""
    import pyarrow as pa

    ids = manifest.table["image_id"].to_pylist()
    table = manifest.table.filter(pa.array([image_id in chosen for image_id in ids]))
    split = ["test" if i in tests else "train" for i in table["image_id"].to_pylist()]
    return table.set_column(table.schema.get_field_index("split"), "split", pa.array(split))


@dataclass(frozen=True)
class Trial:
    """Settings, and what they gave on the folds.

    Attributes:
        settings: field to value, as text.
        seen, missing: accuracies in per cent, the mean over folds; None where a run did not end
            well.
    """

    settings: Mapping[str, str]
    seen: float | None
    missing: float | None

    @property
    def score(self) -> float | None:
        """Mean of seen and missing accuracy, in per cent.

        Not overall accuracy: a fold has about five times as many test images of pseudo-missing
        classes as of pseudo-seen ones, and a task has not.
        """
        if self.seen is None or self.missing is None:
            return None
        return (self.seen + self.missing) / 2


def trial(settings: Mapping[str, str], scores: Sequence[tuple[float, float] | None]) -> Trial:
    """The mean of the (seen, missing) accuracies of every fold; None for a run that failed."""
    good = [score for score in scores if score is not None]
    if not good or len(good) < len(scores):
        return Trial(settings, None, None)
    seen, missing = np.mean(good, axis=0).tolist()
    return Trial(settings, seen, missing)


def best(trials: Sequence[Trial]) -> Trial:
    """The trial of the best score; of equals, the first of the grid.

    Raises:
        UsageError: none ended well.
    """
    scored = [(found.score, found) for found in trials if found.score is not None]
    if not scored:
        raise UsageError("no setting of the grid ended well on every fold; nothing can be chosen")
    return max(scored, key=lambda pair: pair[0])[1]
