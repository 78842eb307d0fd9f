"""What every metric needs from the logits, found in one pass over them.

The pass works on blocks of rows that stay in a processor's cache, so the logits are read from
memory once, and no array as large as the logits is written.
"""

from __future__ import annotations

from typing import Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from leaderboard.scoring_input import BoolArray, FloatArray, Truth, refuse_rows

# Four such arrays of float32 fit a second-level cache of 1 MiB.
BLOCK_BYTES = 1 << 18
# Of less than 16 blocks: allocators return larger arrays to the kernel, which fills new pages with
# zeros, and that takes longer than a small test set.
SMALL_BLOCK_BYTES = BLOCK_BYTES // 2


class Picks(NamedTuple):
    """The best column of both groups, compared with the label and with each other; each (N,)."""

    right_seen: BoolArray  # the best column of S is the label
    right_missing: BoolArray  # the best column of U is the label
    seen_first: BoolArray  # the best column of S has the lower index, so it wins a tie
    margin: FloatArray  # max_S z - max_U z: the gamma at which the sample flips

    def seen_wins(self, gamma: float) -> BoolArray:
        """Whether the argmax over all columns is in S, with gamma added to those of U.

        Computed without rounding errors. An exact tie of the two groups goes to the lower index.
        """
        wins: BoolArray = (self.margin > gamma) | ((self.margin == gamma) & self.seen_first)
        return wins

    def right(self, gamma: float) -> BoolArray:
        """Whether the argmax over all columns is the label, with gamma added to those of U."""
        wins = self.seen_wins(gamma)
        return (self.right_seen & wins) | (self.right_missing & ~wins)


def pick(logits: npt.NDArray[np.floating[Any]], truth: Truth) -> Picks:
    """Find the best column of both groups for each sample, the lowest in a tie.

    Args:
        logits: (N, C) float16, float32 or float64.
        truth: the labels and the groups.

    Raises:
        ScoringError: A logit is NaN or infinite, or a margin overflows float64.
    """
    n_samples, n_classes = logits.shape
    row_bytes = 4 * n_classes
    is_small = n_samples * row_bytes < 16 * BLOCK_BYTES
    block_bytes = SMALL_BLOCK_BYTES if is_small else BLOCK_BYTES
    size = min(n_samples, max(1, block_bytes // row_bytes))
    dtype = np.result_type(logits.dtype, np.float32)
    of_seen, of_missing = np.empty((2, n_samples), np.intp)
    top_seen, top_missing = np.empty((2, n_samples), dtype)
    # Adding 0 or -inf hides the other group's columns: faster than copying some of the columns, if
    # the mask is as large as the block.
    mask_seen, mask_missing = truth.masks(dtype, size)
    groups = (mask_seen, of_seen, top_seen), (mask_missing, of_missing, top_missing)
    masked, lows = np.empty((size, n_classes), dtype), []
    row_starts = np.arange(0, size * n_classes, n_classes)
    with np.errstate(over="ignore", invalid="ignore"):  # refused below
        for start in range(0, n_samples, size):
            block = logits[start : start + size].astype(dtype, copy=False)
            count = len(block)
            part = slice(start, start + count)
            hidden, flat, at = masked[:count], block.ravel(), row_starts[:count]
            lows.append(np.minimum.reduce(flat))  # first: the fastest way to fetch it from memory
            for mask, of_group, top in groups:
                best = of_group[part]
                np.add(block, mask[:count], out=hidden).argmax(axis=1, out=best)
                flat.take(at + best, out=top[part], mode="clip")  # faster than block[rows, best]
        margin = np.subtract(top_seen, top_missing, dtype=np.float64)
    # NaN and infinity reach the margin, and negative infinity the minimum.
    if not (np.isfinite(lows).all() and np.isfinite(margin).all()):
        _refuse(logits, margin)
    return Picks(
        right_seen=of_seen == truth.labels,
        right_missing=of_missing == truth.labels,
        seen_first=of_seen < of_missing,
        margin=margin,
    )


def _refuse(logits: npt.NDArray[np.floating[Any]], margin: FloatArray) -> NoReturn:
    finite = np.isfinite(logits).all(axis=1)
    if not finite.all():
        refuse_rows("NaN or infinite logits", ~finite, "fix the model's outputs")
    overflows = ~np.isfinite(margin)
    refuse_rows("the range of the logits overflows float64", overflows, "scale all logits down")
