"""The accuracy of every class, and what it is taken for: where a method's points are lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class ClassScore:
    """One class of a run.

    Attributes:
        name: the class; ``seen``: whether it is a seen one.
        n: its test images; ``accuracy``: per cent of them that are right, over all classes.
        taken_for: the wrong class most often predicted for it (the first of equals), or None.
        taken: per cent of its images that are taken for that class.
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
        logits: (N, C); ``labels``: (N,); ``seen``: (C,); ``classes``: C names.

    Returns:
        Seen classes first, then missing ones, each from the least accurate up.
    """
    count = len(classes)
    predicted = logits.argmax(axis=1)  # the lowest index at a tie
    table = np.bincount(labels * count + predicted, minlength=count**2).reshape(count, count)
    rows = []
    for index in np.flatnonzero(table.sum(axis=1)).tolist():
        n, right = int(table[index].sum()), int(table[index, index])
        wrong = table[index].copy()
        wrong[index] = 0
        worst = int(wrong.argmax())
        rows.append(
            ClassScore(
                name=classes[index],
                seen=bool(seen[index]),
                n=n,
                accuracy=100 * right / n,
                taken_for=classes[worst] if wrong[worst] else None,
                taken=100 * int(wrong[worst]) / n,
            )
        )
    return sorted(rows, key=lambda row: (not row.seen, row.accuracy, row.name))
