"""Decide which images are in train and in test, by a rule without a random generator."""

from __future__ import annotations

import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from benchmark.errors import UsageError
from benchmark.manifest.draws import sha256_order, training_paths
from benchmark.own_data.listing import Entry, some
from benchmark.text import plural

Cell = tuple[str, str]  # domain, class

# The rules in words; an image without a group is a group, named by its path.
GIVEN = "Train and test: as the folders or the CSV file say."
ALONE = (
    "Train and test: sort the images of each class and domain by the hexadecimal SHA-256 of their "
    "path (the column `path`, in UTF-8). Of n images, the first floor({share} n) are training "
    "images, at least one; the last one is a test image."
)
IN_CELLS = (
    "Train and test: no group is in both. Sort the groups of each class and domain by the "
    "hexadecimal SHA-256 of their name (the column `group`, in UTF-8). Of n images, those of the "
    "first groups are training images, until these are at least floor({share} n) and at least one; "
    "the last group is a test group."
)
ACROSS_CELLS = (
    "Train and test: no group is in both. Groups have images of several classes or domains, so "
    "they are placed one after the other, the largest first, and those of one size by the "
    "hexadecimal SHA-256 of their name (the column `group`, in UTF-8). For each class and domain "
    "with n images, of which t are in train and e in test so far, an image adds "
    "({share} e - (1 - {share}) t) / n. A group whose images add up to 0 or more goes to train, "
    "and to test otherwise."
)


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
            f"--group-by {shlex.quote(pattern)} is not a valid regular expression: {error}"
        ) from None
    groups = [_group(expression, entry.path) for entry in entries]
    if unmatched := [e.path for e, group in zip(entries, groups, strict=True) if not group]:
        raise UsageError(
            f"--group-by {shlex.quote(pattern)} finds no group in {len(unmatched)} of "
            f"{plural(len(entries), 'path')}: {some(unmatched)}; extend the expression so that it "
            "matches every path"
        )
    return [replace(entry, group=group) for entry, group in zip(entries, groups, strict=True)]


def _group(expression: re.Pattern[str], path: str) -> str | None:
    match = expression.search(path)
    return match[min(1, expression.groups)] if match else None


def assign_splits(entries: Sequence[Entry], share: Fraction) -> tuple[list[Entry], str]:
    """Assign every image to ``train`` or ``test``.

    Args:
        entries: images; either all have a split already, or none.
        share: of training images, for images that have no split.

    Returns:
        The images with their splits, and the rule in words.

    Raises:
        UsageError: the given splits have a group on both sides.
    """
    if entries[0].split is not None:
        _check_groups(entries)
        return list(entries), GIVEN
    cells: defaultdict[Cell, list[str]] = defaultdict(list)
    cells_of: defaultdict[str, set[Cell]] = defaultdict(set)
    for entry in entries:
        cells[_cell(entry)].append(entry.path)
        cells_of[_group_of(entry)].add(_cell(entry))
    if any(len(where) > 1 for where in cells_of.values()):
        names = _training_groups(entries, share)
        train = {entry.path for entry in entries if _group_of(entry) in names}
        rule = ACROSS_CELLS
    else:
        groups = {entry.path: _group_of(entry) for entry in entries}
        parts = (training_paths(paths, share, groups.__getitem__) for paths in cells.values())
        train = set().union(*parts)
        rule = IN_CELLS if any(entry.group for entry in entries) else ALONE
    split = [replace(e, split="train" if e.path in train else "test") for e in entries]
    return split, rule.format(share=f"{float(share)}")


def _cell(entry: Entry) -> Cell:
    return entry.domain, entry.class_name


def _group_of(entry: Entry) -> str:
    return entry.path if entry.group is None else entry.group


def _training_groups(entries: Sequence[Entry], share: Fraction) -> set[str]:
    """The groups in train, by the rule ``ACROSS_CELLS``."""
    groups: defaultdict[str, Counter[Cell]] = defaultdict(Counter)
    for entry in entries:
        groups[_group_of(entry)][_cell(entry)] += 1
    total = Counter(map(_cell, entries))
    train: Counter[Cell] = Counter()
    test: Counter[Cell] = Counter()
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
            f"{plural(len(both), 'group')} with images in train and in test: {some(both)}; correct "
            "the split or the groups"
        )
