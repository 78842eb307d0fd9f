"""The two rules by which manifests draw: an order by SHA-256 decides, and no random generator.

Builders of published manifests and `htbench manifest new` use the same functions.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction


def sha256_order(text: str) -> str:
    """The key of an order by SHA-256: the digest (hex) of the text as UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def draw_classes(prefix: str, classes: Sequence[str], count: int) -> list[str]:
    """Return the ``count`` classes with the lowest SHA-256 of ``prefix/class``, in class order."""
    drawn = set(sorted(classes, key=lambda name: sha256_order(f"{prefix}/{name}"))[:count])
    return [name for name in classes if name in drawn]


def groups_in_order(paths: Iterable[str], group_of: Callable[[str], str]) -> list[list[str]]:
    """The paths by group, ordered by the SHA-256 of the group; sorted in a group."""
    members: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted(paths):
        members[group_of(path)].append(path)
    return [members[group] for group in sorted(members, key=sha256_order)]


def first_groups(groups: Iterable[Sequence[str]], count: int) -> list[str]:
    """The images of the first groups that together have at least ``count`` images."""
    images: list[str] = []
    for members in groups:
        if len(images) >= count:
            break
        images += members
    return images


def training_paths(
    paths: Iterable[str], share: Fraction, group_of: Callable[[str], str] = str
) -> set[str]:
    """The training images among those of one class and domain; a group is never divided.

    Of n images, those of the first groups, until these are at least floor(share n) and at least
    one. The last group is not among them, so one group is a test group.

    Args:
        paths: the paths of the images.
        share: above 0 and below 1.
        group_of: the group of a path; by default every image is a group, named by its path.
    """
    groups = groups_in_order(paths, group_of)
    count = sum(map(len, groups))
    return set(first_groups(groups[:-1], max(1, int(share * count))))
