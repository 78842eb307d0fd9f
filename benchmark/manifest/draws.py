"""The two rules by which manifests draw: an order by SHA-256 decides, and no random generator.

Builders of published manifests and `htbench manifest new` use the same functions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from fractions import Fraction


def sha256_order(text: str) -> str:
    """The key of an order by SHA-256: the digest (hex) of the text as UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def draw_classes(prefix: str, classes: Sequence[str], count: int) -> list[str]:
    """Return the ``count`` classes with the lowest SHA-256 of ``prefix/class``, in class order."""
    drawn = set(sorted(classes, key=lambda name: sha256_order(f"{prefix}/{name}"))[:count])
    return [name for name in classes if name in drawn]


def training_paths(paths: Iterable[str], share: Fraction) -> set[str]:
    """The training images among those of one class and domain.

    Of n images, ordered by the SHA-256 of their path, the first floor(share n), and at least one of
    two or more.

    Args:
        paths: the paths of the images.
        share: above 0 and below 1.
    """
    ordered = sorted(paths, key=sha256_order)
    return set(ordered[: max(int(share * len(ordered)), min(1, len(ordered) - 1))])
