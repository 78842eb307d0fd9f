"""Which images are predicted together: all in order, or shuffled with some of them asked twice.

Loads no torch.
"""

from __future__ import annotations

import math
import random

MOST_IMAGES = 256  # per batch
MOST_PIXELS = 4 << 20  # per batch: activations at 224 x 224 are large
REPEATED = 0.05  # the share of the images that is asked twice
FEWEST_REPEATED = 32  # unless there are fewer images
FEWEST_BATCHES = 4  # few batches would repeat an image in almost the same company
ROWS = 16  # full batches are a multiple of this, which matrix kernels compute without a remainder


def batch_size(side: int) -> int:
    """The most images of ``side`` x ``side`` pixels in a batch."""
    return max(1, min(MOST_IMAGES, MOST_PIXELS // side**2))


def in_order(count: int, side: int) -> list[list[int]]:
    """Batches of the indices 0 to ``count`` - 1, in order."""
    size = batch_size(side)
    return [list(range(start, min(start + size, count))) for start in range(0, count, size)]


def shuffled(count: int, side: int, key: str) -> list[list[int]]:
    """Batches of the indices 0 to ``count`` - 1 in random order, some of them asked twice.

    All batches have the same size, because a matrix kernel may compute a row differently in
    batches of other sizes, and predictions would then depend on the order. A batch holds an index
    once. A repeated index comes at a random place of a later batch, among other images.

    Args:
        count: the number of images.
        side: their side in pixels.
        key: the order depends on it and on nothing else, so a repeated run gives equal bytes.
    """
    draw = random.Random(f"order of test images {key}")
    order = draw.sample(range(count), count)
    size, number = _shape(count, batch_size(side))
    batches, asked = [], 0
    for left in range(number, 0, -1):
        new = min(size, count) if not asked else math.ceil((count - asked) / left)
        batch = order[asked : asked + new] + draw.sample(order[:asked], size - new)
        draw.shuffle(batch)
        batches.append(batch)
        asked += new
    return batches


def _shape(count: int, most: int) -> tuple[int, int]:
    """Size and number of the batches for ``count`` images and their repeats."""
    asks = count + min(count, max(FEWEST_REPEATED, math.ceil(REPEATED * count)))
    most = most // ROWS * ROWS or most
    size = math.ceil(asks / max(FEWEST_BATCHES, math.ceil(asks / most)))
    if size >= ROWS:
        size = math.ceil(size / ROWS) * ROWS
    return size, math.ceil(asks / max(size, 1))
