"""Folds of pseudo cross-validation, for `htbench tune` and for methods. Loads no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


def held_out_count(count: int, share: float) -> int:
    """Return how many of a class's ``count`` samples to hold out: at least one, but never all."""
    return min(max(1, math.floor(share * count)), count - 1)


@dataclass(frozen=True)
class Fold:
    """A fold of seen training data: a task in small, of which some seen classes play missing.

    Attributes:
        missing: the classes that play missing, in the order in which they were drawn.
        train: the samples to train on, of the other classes only.
        held_out: the samples to judge on, of all classes.
    """

    missing: tuple[int, ...]
    train: tuple[int, ...]
    held_out: tuple[int, ...]


def draw_fold(
    samples: Mapping[int, Sequence[int]],
    share: float,
    held_out: float,
    shuffle: Callable[[str, Sequence[int]], Sequence[int]],
) -> Fold:
    """Draw a fold of pseudo cross-validation.

    A share of the classes plays missing. Of every class, those included, a share of the samples is
    held out, so that the held-out samples have the proportions of the data.

    Args:
        samples: the samples of each class, by class; at least two classes.
        share: the share of the classes that plays missing, strictly between 0 and 1. It is rounded
            down, but at least one class does and at least one does not.
        held_out: the share of each class's samples to hold out, rounded in the same way.
        shuffle: puts classes (its first argument is ``class``) or the samples of one class
            (``image``) into a random order.

    Returns:
        The fold. A class of one sample has none held out.

    Raises:
        ValueError: a share does not lie between 0 and 1.

    Example:
        >>> from benchmark.folds import draw_fold
        >>> fold = draw_fold({0: [0, 1], 1: [2, 3], 2: [4, 5]}, 0.5, 0.2, lambda kind, items: items)
        >>> fold.missing, fold.train, fold.held_out
        ((0,), (3, 5), (0, 2, 4))
    """
    check_share("share", share)
    check_share("held_out", held_out)
    classes = shuffle("class", sorted(samples))
    missing = classes[: held_out_count(len(classes), share)]
    train: list[int] = []
    tests: list[int] = []
    for label in sorted(samples):
        order = shuffle("image", samples[label])
        count = held_out_count(len(order), held_out)
        tests += order[:count]
        train += order[count:] if label not in missing else []
    return Fold(tuple(missing), tuple(train), tuple(tests))


def check_share(name: str, share: float) -> None:
    """Check that a share lies strictly between 0 and 1.

    Args:
        name: name of the setting, for the message.
        share: its value.

    Raises:
        ValueError: it does not.

    Example:
        >>> from htbench import check_share
        >>> check_share("held_out", 0.2)
        >>> check_share("held_out", 2.0)
        Traceback (most recent call last):
        ValueError: held_out is 2.0; it must lie between 0 and 1
    """
    if not 0 < share < 1:
        raise ValueError(f"{name} is {share}; it must lie between 0 and 1")
