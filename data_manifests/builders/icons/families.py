"""Families of icon sets: sets of one author, and ports of one design.

A family is the unit of the split and of resampling. Three rules make a family; the table lists what
they give, so that nothing is computed when it is read:

1. Sets of one author, as ATTRIBUTION.csv names them: weights, sizes and styles of one design.
2. Ports, forks and extensions of another author's design, by their descriptions.
3. Sets that share many near copies: at least MIN_TWIN_CELLS cells (class and domain) in which both
   sets have an icon hold a pair of twins, and these are at least MIN_TWIN_SHARE of such cells. The
   thresholds were fixed from the pixels alone, before any model was trained on the split.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from fnmatch import fnmatchcase

from data_manifests.builders.icons.selection import Icon
from data_manifests.builders.icons.twins import Twins

MIN_TWIN_CELLS = 3
MIN_TWIN_SHARE = 0.1

# Name of a family: patterns of its icon sets. A set that matches none is a family by itself.
FAMILIES: dict[str, tuple[str, ...]] = {
    "boxicons": ("boxicons", "bx", "bxs", "mage", "mingcute"),  # mage and mingcute by rule 3
    "emojione": ("emojione", "emojione-*"),
    "fluent": ("fluent", "fluent-*"),
    "font-awesome": ("fa-*", "fa6-*", "fa7-*"),
    "glyphs": ("glyphs", "glyphs-*"),
    "heroicons": ("heroicons", "heroicons-*", "sidekickicons"),  # sidekickicons extends heroicons
    "icon-park": ("icon-park", "icon-park-*"),
    "icons8": ("icons8", "wpf", "la", "flat-color-icons"),
    "ionicons": ("ion", "famicons"),  # famicons is a fork
    "lucide": ("lucide", "lucide-*", "feather"),  # lucide is a fork of feather
    "majesticons": ("majesticons", "pixelarticons"),
    # mdi, by the author of memory, includes Google's icons; eos-icons extends them.
    "material": ("ic", "material-symbols", "material-symbols-*", "mdi", "memory", "eos-icons"),
    "mono-icons": ("mono-icons", "mi"),
    "mynaui": ("mynaui", "vadivam"),
    "noto": ("noto", "noto-*"),
    "pepicons": ("pepicons", "pepicons-*"),
    "streamline": ("streamline", "streamline-*", "guidance"),
    "unicons": ("uil", "uim", "uis", "uit"),
}


def family_of(icon_set: str) -> str:
    """Return the name of the family of an icon set."""
    for family, patterns in FAMILIES.items():
        if any(fnmatchcase(icon_set, pattern) for pattern in patterns):
            return family
    return icon_set


def unmerged_sets(icons: Sequence[Icon], twins: Twins) -> list[tuple[str, str, int, int]]:
    """Return the pairs of sets in different families that rule 3 would merge.

    Args:
        icons: all icons of the data set.
        twins: their near copies.

    Returns:
        Two sets, the number of cells with twins, and the number of cells that both sets have.
    """
    cells: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
    for icon in icons:
        cells[icon.icon_set].add((icon.class_name, icon.domain))
    shared: defaultdict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
    for first, second in twins.pairs:
        a, b = sorted((icons[first].icon_set, icons[second].icon_set))
        shared[a, b].add((icons[first].class_name, icons[first].domain))
    return [
        (a, b, len(twin_cells), len(cells[a] & cells[b]))
        for (a, b), twin_cells in sorted(shared.items())
        if family_of(a) != family_of(b)
        and len(twin_cells) >= MIN_TWIN_CELLS
        and len(twin_cells) >= MIN_TWIN_SHARE * len(cells[a] & cells[b])
    ]
