"""Draw test icons beside their near copies in train."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from data_manifests.builders.icons.selection import Icon
from data_manifests.builders.icons.twins import Twins

# Lengths in pixels.
ICON = 64  # twice the size of the images
GAP = 12
COLUMNS = 10  # pairs per row


def draw_twins(icons: Sequence[Icon], twins: Twins, splits: Sequence[str]) -> Image.Image:
    """Draw every test icon that has a twin in train, with its first twin to the right.

    Args:
        icons: all icons of the data set.
        twins: their near copies.
        splits: train or test, of every icon.
    """
    train_twin: dict[int, int] = {}
    for pair in twins.pairs:
        for test, train in (pair, pair[::-1]):
            if splits[test] == "test" and splits[train] == "train":
                train_twin.setdefault(test, train)
    by_class = sorted(train_twin, key=lambda i: (icons[i].domain, icons[i].class_name))
    rows = [by_class[i : i + COLUMNS] for i in range(0, len(by_class), COLUMNS)]
    step = 2 * ICON + GAP
    size = (COLUMNS * step + GAP, max(1, len(rows)) * (ICON + GAP) + GAP)
    sheet = Image.new("RGB", size, "#d8dee4")
    for y, row in enumerate(rows):
        for x, test in enumerate(row):
            for side, index in enumerate((test, train_twin[test])):
                image = Image.fromarray(icons[index].pixels).resize((ICON, ICON))
                sheet.paste(image, (GAP + x * step + side * ICON, GAP + y * (ICON + GAP)))
    return sheet
