"""The tasks of every ordered pair of domains, with draws of the seen classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import permutations
from typing import Any, NamedTuple

from benchmark.errors import UsageError, first
from benchmark.manifest.draws import draw_classes
from benchmark.manifest.reader import MAX_NAME
from benchmark.own_data.listing import Entry
from benchmark.text import plural

MAX_TASKS = 1000  # of a manifest: far more is a folder of classes that was taken for domains


def draw_tasks(
    entries: Sequence[Entry],
    classes: Sequence[str],
    domains: Sequence[str],
    seen: int | Fraction,
    draws: int,
    prefix: str,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Draw the seen classes of every ordered pair of domains.

    A task's classes are those with training images in the source and test images in the target; the
    seen ones are drawn from those that also have training images in the target.

    Args:
        entries: images with their splits.
        classes, domains: names, in order.
        seen: a number of classes, or a share of the task's classes.
        draws: draws for each pair.
        prefix: the beginning of the text whose SHA-256 orders the classes.

    Returns:
        The tables of the tasks, first those of draw 1; and notes for the user.

    Raises:
        UsageError: no pair can have a task, a pair has too few classes for that many seen, or two
            tasks would have one name.
    """
    pairs = list(permutations(domains, 2))
    if len(pairs) * draws > MAX_TASKS:
        raise UsageError(
            f"{len(domains)} domains ({first(domains)}) with {plural(draws, 'draw')} give "
            f"{len(pairs) * draws} tasks, more than {MAX_TASKS}; if these are classes, the layout "
            "must be <domain>/<class>/<image>, and otherwise use fewer domains or --draws"
        )
    count = Counter((entry.domain, entry.class_name, entry.split) for entry in entries)
    every = [_pair(source, target, classes, count) for source, target in pairs]
    usable = [pair for pair in every if len(pair.shared) >= 2 and pair.trained]
    if not usable:
        raise UsageError(
            "no pair of domains has a task: a source and a target need at least two classes with "
            "training images in the source and test images in the target, one of them also with "
            "training images in the target. Add images, or check that classes have the same names "
            "in all domains and that no group has all images of a class"
        )
    numbers = [_seen_count(seen, pair) for pair in usable]
    tasks = [
        _task(pair, draw, number, classes, prefix)
        for draw in range(1, draws + 1)
        for pair, number in zip(usable, numbers, strict=True)
    ]
    _check_ids(tasks)
    notes = []
    if skipped := [pair.name for pair in every if pair not in usable]:
        notes.append(
            f"{plural(len(skipped), 'pair')} with too few classes for a task: {first(skipped)}"
        )
    different = {(*task["sources"], task["target"], *task["seen"]) for task in tasks}
    if repeated := len(tasks) - len(different):
        notes.append(
            f"{plural(repeated, 'task')} with the same seen classes as another draw of the pair, "
            "because there are few classes to draw from"
        )
    return tasks, notes


class _Pair(NamedTuple):
    """A source and a target domain, with the classes that a task of them may have.

    Attributes:
        shared: those with training images in the source and test images in the target.
        trained: those of them that have training images in the target, too, and so may be seen.
    """

    source: str
    target: str
    shared: list[str]
    trained: list[str]

    @property
    def name(self) -> str:
        """The name of its task of draw 1."""
        return f"{self.source}-{self.target}"


def _pair(
    source: str, target: str, classes: Sequence[str], count: Counter[tuple[str, str, str | None]]
) -> _Pair:
    """A pair, from the numbers of images by domain, class and split."""
    shared = [c for c in classes if count[source, c, "train"] and count[target, c, "test"]]
    return _Pair(source, target, shared, [c for c in shared if count[target, c, "train"]])


def _task(
    pair: _Pair, draw: int, number: int, classes: Sequence[str], prefix: str
) -> dict[str, Any]:
    """The table of a task with so many seen classes."""
    seen = draw_classes(f"{prefix}/seen/{pair.source}/draw{draw}", pair.trained, number)
    task: dict[str, Any] = {
        "id": pair.name + ("" if draw == 1 else f".draw{draw}"),
        "sources": [pair.source],
        "target": pair.target,
        "seen": seen,
    }
    if len(pair.shared) < len(classes):
        task["missing"] = [name for name in pair.shared if name not in seen]
    return task


def _check_ids(tasks: Sequence[Mapping[str, Any]]) -> None:
    """Check the names of tasks, which come from those of two domains.

    Raises:
        UsageError: one is too long, or two are equal.
    """
    named: dict[str, str] = {}
    for task in tasks:
        name, pair = task["id"], first([*task["sources"], task["target"]])
        if len(name) > MAX_NAME:
            raise UsageError(
                f"the task of the domains {pair} would be named {name!r}, which has {len(name)} "
                f"characters, more than {MAX_NAME}; give the domains shorter names"
            )
        if (other := named.setdefault(name, pair)) != pair:
            raise UsageError(
                f"the tasks of the domains {other} and of {pair} would both be named {name!r}; "
                "rename one of these domains"
            )


def _seen_count(seen: int | Fraction, pair: _Pair) -> int:
    """The number of seen classes of the tasks of a pair.

    A share is of the task's classes, rounded half up; at least one class is seen, and one missing.

    Raises:
        UsageError: there are too few for that many.
    """
    shared, trained = len(pair.shared), len(pair.trained)
    most = min(trained, shared - 1)
    if isinstance(seen, Fraction):
        return max(1, min(most, int(seen * shared + Fraction(1, 2))))
    if seen > most:
        raise UsageError(
            f"--seen {seen} is too many for {pair.name}: {shared} classes have training images in "
            f"the source and test images in the target, {trained} of them also training images in "
            f"the target, and at least one class must be missing; use --seen {most} or a share "
            "such as 0.5"
        )
    return seen
