"""Per-class accuracy, and the class that each class is most often mistaken for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class ClassScore:
    """The score of one class in a run.

    Attributes:
        name: the class name.
        seen: whether it is a seen class.
        n: number of test images of the class.
        accuracy: per cent of its images that are predicted correctly, among all classes.
        taken_for: the wrong class most often predicted for its images (the first if tied); None if
            all are correct.
        taken: percentage of its images predicted as ``taken_for``.
    """

    name: str
    seen: bool
    n: int
    accuracy: float
    taken_for: str | None
    taken: float


def per_class(
    logits: NDArray[np.floating[Any]],
    labels: NDArray[np.integer[Any]],
    seen: NDArray[np.bool_],
    classes: Sequence[str],
) -> list[ClassScore]:
    """Accuracy and most frequent confusion of every class that has test images.

    Args:
        logits: (N, C), float.
        labels: (N,), integers in [0, C).
        seen: (C,), bool, true for the seen classes.
        classes: the C class names.

    Returns:
        The seen classes, then the missing ones, each sorted by accuracy from the lowest.
    """
    count = len(classes)
    predicted = logits.argmax(axis=1)  # the lowest index in a tie
    table = np.bincount(labels * count + predicted, minlength=count**2).reshape(count, count)
    rows = []
    for index in np.flatnonzero(table.sum(axis=1)).tolist():
        n, correct = int(table[index].sum()), int(table[index, index])
        wrong = table[index].copy()
        wrong[index] = 0
        worst = int(wrong.argmax())
        rows.append(
            ClassScore(
                name=classes[index],
                seen=bool(seen[index]),
                n=n,
                accuracy=100 * correct / n,
                taken_for=classes[worst] if wrong[worst] else None,
                taken=100 * int(wrong[worst]) / n,
            )
        )
    return sorted(rows, key=lambda row: (not row.seen, row.accuracy, row.name))
