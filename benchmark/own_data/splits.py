"""Decide which images are in train and in test, by a rule without a random generator."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from benchmark.errors import UsageError
from benchmark.manifest.draws import sha256_order, training_paths
from benchmark.own_data.listing import Entry, some


def group_by(entries: Sequence[Entry], pattern: str) -> list[Entry]:
    """Give every image the group that a regular expression finds in its path.

    The group is the first parenthesis of the expression, or the whole match if it has none.

    Raises:
        UsageError: the expression is not valid, does not match every path, or there are groups
            already.
    """
    if any(entry.group is not None for entry in entries):
        raise UsageError("--group-by cannot be combined with a column group; leave out one of them")
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UsageError(
            f"--group-by {pattern!r} is not a valid regular expression: {error}"
        ) from None
    groups = [_group(expression, entry.path) for entry in entries]
    if unmatched := [e.path for e, group in zip(entries, groups, strict=True) if not group]:
        raise UsageError(
            f"--group-by {pattern!r} finds no group in {len(unmatched)} of {len(entries)} paths: "
            f"{some(unmatched)}; extend the expression so that it matches every path"
        )
    return [replace(entry, group=group) for entry, group in zip(entries, groups, strict=True)]


def _group(expression: re.Pattern[str], path: str) -> str | None:
    match = expression.search(path)
    return match[min(1, expression.groups)] if match else None


def assign_splits(entries: Sequence[Entry], share: Fraction) -> list[Entry]:
    """Assign every image to ``train`` or ``test``.

    Args:
        entries: images; either all have a split already, or none.
        share: of training images, for images that have no split.

    Raises:
        UsageError: the given splits have a group on both sides.
    """
    if entries[0].split is not None:
        _check_groups(entries)
        return list(entries)
    if any(entry.group is not None for entry in entries):
        train = _training_groups(entries, share)
        return [_placed(entry, _group_of(entry) in train) for entry in entries]
    cells: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for entry in entries:
        cells[entry.domain, entry.class_name].append(entry.path)
    train = {path for paths in cells.values() for path in training_paths(paths, share)}
    return [_placed(entry, entry.path in train) for entry in entries]


def _placed(entry: Entry, is_train: bool) -> Entry:
    return replace(entry, split="train" if is_train else "test")


def _group_of(entry: Entry) -> str:
    return entry.path if entry.group is None else entry.group


def _training_groups(entries: Sequence[Entry], share: Fraction) -> set[str]:
    """The groups in train.

    Groups are placed one after the other, the largest first, and those of one size by the SHA-256
    of their name. For each class and domain with n images, of which t are in train and e in test so
    far, an image adds (share e - (1 - share) t) / n; a group whose images add up to 0 or more goes
    to train, and to test otherwise.
    """
    groups: defaultdict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    for entry in entries:
        groups[_group_of(entry)][entry.domain, entry.class_name] += 1
    total = Counter((entry.domain, entry.class_name) for entry in entries)
    train: Counter[tuple[str, str]] = Counter()
    test: Counter[tuple[str, str]] = Counter()
    names = set()
    for name in sorted(groups, key=lambda name: (-groups[name].total(), sha256_order(name))):
        need = sum(
            count * (share * test[cell] - (1 - share) * train[cell]) / total[cell]
            for cell, count in groups[name].items()
        )
        if need >= 0:
            names.add(name)
        (train if need >= 0 else test).update(groups[name])
    return names


def _check_groups(entries: Sequence[Entry]) -> None:
    sides: defaultdict[str, set[str | None]] = defaultdict(set)
    for entry in entries:
        if entry.group is not None:
            sides[entry.group].add(entry.split)
    if both := sorted(group for group, splits in sides.items() if len(splits) > 1):
        raise UsageError(
            f"{len(both)} groups have images in train and in test: {some(both)}; correct the "
            "split or the groups"
        )
