"""Near copies among icons: pairs of one class and domain whose pixels correlate."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_manifests.builders.icons.selection import Icon

MIN_CORRELATION = 0.95  # Pearson, over all pixels and channels


@dataclass(frozen=True)
class Twins:
    """Pairs of near copies, as positions in a list of N icons; the smaller position is first."""

    pairs: tuple[tuple[int, int], ...]

    def designs(self, count: int) -> list[int]:
        """Return one number per icon, equal for icons that are linked by twins."""
        design = list(range(count))

        def root(i: int) -> int:
            while design[i] != i:
                i = design[i]
            return i

        for first, second in self.pairs:
            a, b = sorted((root(first), root(second)))
            design[b] = a
        return [root(i) for i in range(count)]

    def leaked(self, splits: Sequence[str]) -> list[int]:
        """Return the positions of test icons that have a twin in train.

        Args:
            splits: train or test, of every icon.
        """
        ordered = [pair for a, b in self.pairs for pair in ((a, b), (b, a))]
        return sorted({a for a, b in ordered if splits[a] == "test" and splits[b] == "train"})


def find_twins(icons: Sequence[Icon]) -> Twins:
    """Find all pairs of one class and domain with a correlation above MIN_CORRELATION."""
    cells: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for index, icon in enumerate(icons):
        cells[icon.class_name, icon.domain].append(index)
    pairs = []
    for members in cells.values():
        pixels = np.stack([icons[i].pixels.reshape(-1) for i in members]).astype(np.float64)
        above = np.triu(np.corrcoef(pixels) > MIN_CORRELATION, 1)
        pairs += [(members[a], members[b]) for a, b in np.argwhere(above)]
    return Twins(tuple(sorted(pairs)))
