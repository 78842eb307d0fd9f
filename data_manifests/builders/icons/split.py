"""Split the icons into train and test: whole families, and no near copy across.

1. Split number n orders the families by the hexadecimal SHA-256 of the UTF-8 string
   "icons/2.0/split/<n>/<family>". In this order a family becomes a test family unless more than
   TEST_SHARE of all icons would then be test icons.
2. Plain shapes (a star, a heart, a bookmark) look the same whoever draws them, so families alone
   leave near copies across the split. Icons that twins link, directly or through others, are one
   design. A design with an icon in a train family is in train as a whole: its other icons join that
   family, as `group` says.
3. The split is the first n = 0, 1, 2, ... for which every domain has a share of test icons within
   DOMAIN_SHARE, and every class has at least MIN_TEST test and MIN_TRAIN train icons in every
   domain.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

from benchmark.errors import DataError
from data_manifests.builders.icons import VERSION
from data_manifests.builders.icons.families import family_of, unmerged_sets
from data_manifests.builders.icons.selection import DOMAINS, Icon
from data_manifests.builders.icons.twins import MIN_CORRELATION, Twins

TEST_SHARE = 0.3
DOMAIN_SHARE = (0.25, 0.35)
MIN_TEST, MIN_TRAIN = 3, 5


@dataclass(frozen=True)
class Split:
    """The split of N icons.

    Attributes:
        number: n of the rule.
        splits: train or test, of every icon.
        groups: the family of every icon.
        moved: positions of the icons in train although their set is of a test family.
    """

    number: int
    splits: tuple[str, ...]
    groups: tuple[str, ...]
    moved: tuple[int, ...]


def split_icons(icons: Sequence[Icon], twins: Twins) -> Split:
    """Split all icons of the data set by the rule of this module.

    Raises:
        DataError: two sets that share many near copies are in different families.
    """
    if unmerged := unmerged_sets(icons, twins):
        raise DataError(
            "these sets share many near copies; put each pair in one family, in FAMILIES: "
            + ", ".join(f"{a} and {b} ({n} of {total} cells)" for a, b, n, total in unmerged)
        )
    families = [family_of(icon.icon_set) for icon in icons]
    designs = twins.designs(len(icons))
    names, rows = np.unique(families, return_inverse=True)
    cells, columns = np.unique(
        [f"{icon.class_name}/{icon.domain}" for icon in icons], return_inverse=True
    )
    counts = np.zeros((len(names), len(cells)), np.int64)
    np.add.at(counts, (rows, columns), 1)
    sizes = dict(zip(names.tolist(), counts.sum(axis=1).tolist(), strict=True))
    for number in count():
        tests = draw_test_families(number, sizes)
        # Near copies only take test icons away, so most numbers need no closer look.
        if counts[[name in tests for name in sizes]].sum(axis=0).min() >= MIN_TEST:
            split = assign(number, families, designs)
            if _is_balanced(icons, split.splits):
                return split
    raise AssertionError  # `count` never ends


def draw_test_families(number: int, sizes: Mapping[str, int]) -> set[str]:
    """Return the test families of split ``number``.

    Args:
        number: n of the rule.
        sizes: the number of icons of every family.
    """

    def key(family: str) -> str:
        return hashlib.sha256(f"icons/{VERSION}/split/{number}/{family}".encode()).hexdigest()

    drawn, size = set(), 0
    limit = TEST_SHARE * sum(sizes.values())
    for family in sorted(sizes, key=key):
        if size + sizes[family] <= limit:
            drawn.add(family)
            size += sizes[family]
    return drawn


def assign(number: int, families: Sequence[str], designs: Sequence[int]) -> Split:
    """Return split ``number``, balanced or not.

    Args:
        number: n of the rule.
        families: the family of every icon.
        designs: equal numbers for icons that twins link; see `Twins.designs`.
    """
    tests = draw_test_families(number, Counter(families))
    # The first train family of every design, in the order of the icons.
    train_family: dict[int, str] = {}
    for family, design in zip(families, designs, strict=True):
        if family not in tests:
            train_family.setdefault(design, family)
    groups = tuple(
        train_family.get(design, family) if family in tests else family
        for family, design in zip(families, designs, strict=True)
    )
    splits = tuple("test" if group in tests else "train" for group in groups)
    moved = tuple(i for i, (a, b) in enumerate(zip(families, groups, strict=True)) if a != b)
    return Split(number, splits, groups, moved)


def _is_balanced(icons: Sequence[Icon], splits: Sequence[str]) -> bool:
    cells: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    domains: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for icon, split in zip(icons, splits, strict=True):
        cells[icon.class_name, icon.domain][split] += 1
        domains[icon.domain][split] += 1
    low, high = DOMAIN_SHARE
    return all(low <= c["test"] / c.total() <= high for c in domains.values()) and all(
        c["test"] >= MIN_TEST and c["train"] >= MIN_TRAIN for c in cells.values()
    )


def compared_splits(icons: Sequence[Icon], split: Split) -> dict[str, list[str]]:
    """Return train or test of every icon in version 1.0, by family alone, and in this version."""
    sizes = Counter(family_of(icon.icon_set) for icon in icons)
    tests = draw_test_families(split.number, sizes)
    return {
        "1.0": [_version_1(icon.icon_set) for icon in icons],
        "families": ["test" if family_of(icon.icon_set) in tests else "train" for icon in icons],
        VERSION: list(split.splits),
    }


def report(icons: Sequence[Icon], twins: Twins, split: Split) -> list[str]:
    """Return lines with the share of test icons that have a twin in train, in three splits."""
    lines = [f"Test icons with a train icon of their class and domain at r > {MIN_CORRELATION}:"]
    for name, values in compared_splits(icons, split).items():
        leaked = Counter(icons[i].domain for i in twins.leaked(values))
        counts = Counter(
            icon.domain for icon, value in zip(icons, values, strict=True) if value == "test"
        )
        parts = [f"{domain} {leaked[domain]} of {counts[domain]}" for domain in DOMAINS]
        share = leaked.total() / counts.total()
        lines.append(f"  split {name}: {share:.2%} ({', '.join(parts)})")
    lines.append(
        f"Split number {split.number}; {len(split.moved)} icons of test families are in train, "
        "as near copies"
    )
    return lines


def _version_1(icon_set: str) -> str:
    digest = hashlib.md5(f"{icon_set}/split".encode(), usedforsecurity=False).hexdigest()
    return "test" if int(digest, 16) % 1000 < 420 else "train"
