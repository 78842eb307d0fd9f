"""The rows that a child answers with, batch by batch: checked, put in order and compared.

A child has the images of one batch at a time, and has answered it before it gets the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from benchmark.batches import in_order, shuffled

TOLERANCE = 1e-3  # of the distance from an image's largest logit to its median
ROUNDING = 4 * float(np.finfo(np.float32).eps)  # of the logit itself


class Images(Protocol):
    """Encoded images; see ``benchmark/images/store/encoded.py``.

    Attributes:
        size: the side of an image in pixels.
    """

    size: int

    def __len__(self) -> int:
        """The number of images."""

    def read(self, index: int) -> bytes:
        """The bytes of an image."""


@dataclass(frozen=True)
class HandOut:
    """What a child gets after it has adapted, and what it answers.

    Attributes:
        images: the images, encoded.
        batches: indices of images; see ``benchmark/batches.py``.
        width: numbers in the row that answers an image.
    """

    images: Images
    batches: Sequence[Sequence[int]]
    width: int

    @classmethod
    def in_order(cls, images: Images, width: int) -> Self:
        """All images once, in their order."""
        return cls(images, in_order(len(images), images.size), width)

    @classmethod
    def shuffled(cls, images: Images, width: int, key: str) -> Self:
        """All images in an order that depends on ``key``, and some of them twice."""
        return cls(images, shuffled(len(images), images.size, key), width)


class BadAnswer(Exception):
    """An answer that breaks the contract; the message says how."""


class Answers:
    """The rows of all images so far.

    Attributes:
        rows: float32 (N, width); of an image that is asked twice, the first answer.
    """

    def __init__(self, hand_out: HandOut) -> None:
        count = len(hand_out.images)
        self.rows = np.zeros((count, hand_out.width), np.float32)
        self._known = np.zeros(count, bool)

    def add(self, batch: Sequence[int], data: bytes | bytearray) -> None:
        """Add the answer to a batch, float32 (B, width) as bytes.

        Raises:
            BadAnswer: a number is not finite, or an image that was asked before has another
                answer now.
        """
        rows = np.frombuffer(data, np.float32).reshape(len(batch), -1)
        if not np.isfinite(rows).all():
            raise BadAnswer("the run returned logits that are NaN or infinite")
        indices = np.array(batch)
        again = self._known[indices]
        self._compare(self.rows[indices[again]], rows[again])
        self.rows[indices[~again]] = rows[~again]
        self._known[indices] = True

    @staticmethod
    def _compare(before: NDArray[Any], now: NDArray[Any]) -> None:
        """The allowed gap follows each image's own logits: no scale and no offset hides one."""
        before, now = before.astype(np.float64), now.astype(np.float64)
        gap = np.abs(now - before)
        height = before.max(axis=1, initial=-np.inf) - np.median(before, axis=1)
        is_other = gap > TOLERANCE * height[:, None] + ROUNDING * np.abs(before)
        if is_other.any():
            raise BadAnswer(
                "predictions depend on the other images in the batch or on earlier ones: of "
                f"{len(gap)} images that were asked again among others, the logits of "
                f"{is_other.any(axis=1).sum()} changed, by up to {gap[is_other].max():.3g}. Return "
                "a model whose layers use running statistics in evaluation mode, whose forward() "
                "draws no random numbers, and that computes and keeps nothing from test images"
            )
