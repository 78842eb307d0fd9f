"""The tasks of every ordered pair of domains, with draws of the seen classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import permutations
from typing import Any

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
    tasks, skipped, repeated = [], [], 0
    drawn: dict[tuple[str, str], set[tuple[str, ...]]] = {}
    for draw in range(1, draws + 1):
        for source, target in pairs:
            shared = [c for c in classes if count[source, c, "train"] and count[target, c, "test"]]
            trained = [c for c in shared if count[target, c, "train"]]
            if len(shared) < 2 or not trained:
                skipped += [f"{source}-{target}"] if draw == 1 else []
                continue
            number = _seen_count(seen, f"{source}-{target}", len(shared), len(trained))
            names = draw_classes(f"{prefix}/seen/{source}/draw{draw}", trained, number)
            before = drawn.setdefault((source, target), set())
            repeated += tuple(names) in before
            before.add(tuple(names))
            task: dict[str, Any] = {
                "id": f"{source}-{target}" + ("" if draw == 1 else f".draw{draw}"),
                "sources": [source],
                "target": target,
                "seen": names,
            }
            if len(shared) < len(classes):
                task["missing"] = [name for name in shared if name not in names]
            tasks.append(task)
    if not tasks:
        raise UsageError(
            "no pair of domains has a task: a source and a target need at least two classes with "
            "training images in the source and test images in the target, one of them also with "
            "training images in the target. Add images, or check that classes have the same names "
            "in all domains and that no group has all images of a class"
        )
    _check_ids(tasks)
    notes = []
    if skipped:
        notes.append(
            f"{plural(len(skipped), 'pair')} with too few classes for a task: {first(skipped)}"
        )
    if repeated:
        notes.append(
            f"{plural(repeated, 'task')} with the same seen classes as another draw of the pair, "
            "because there are few classes to draw from"
        )
    return tasks, notes


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


def _seen_count(seen: int | Fraction, pair: str, shared: int, trained: int) -> int:
    """The number of seen classes of a task.

    A share is of the task's classes, rounded half up; at least one class is seen, and one missing.
    """
    most = min(trained, shared - 1)
    if isinstance(seen, Fraction):
        return max(1, min(most, int(seen * shared + Fraction(1, 2))))
    if seen > most:
        raise UsageError(
            f"--seen {seen} is too many for {pair}: {shared} classes have training images in the "
            f"source and test images in the target, {trained} of them also training images in the "
            f"target, and at least one class must be missing; use --seen {most} or a share such "
            "as 0.5"
        )
    return seen
