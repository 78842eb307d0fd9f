"""What statistics need of a run's test samples: which are right, and their margins."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Outcomes:
    """The outcomes of one run, for the test samples that its task counts, in the manifest's order.

    Attributes:
        right: (N,) bool, whether the prediction among all classes is right.
        within: (N,) bool, whether it is right among the classes of the sample's own group.
        margin: (N,) float32, largest logit of a seen class minus largest logit of a missing class.
            Rounded: for intervals and curves, not for scores.
    """

    right: npt.NDArray[np.bool_]
    within: npt.NDArray[np.bool_]
    margin: npt.NDArray[np.float32]

    def to_bytes(self) -> bytes:
        """The outcomes in N / 4 + 4 N bytes."""
        bits = (np.packbits(part).tobytes() for part in (self.right, self.within))
        return b"".join([*bits, self.margin.astype("<f4").tobytes()])

    @classmethod
    def from_bytes(cls, content: bytes) -> Outcomes | None:
        """Read what :meth:`to_bytes` wrote; None if the size fits no number of samples."""
        n = len(content) * 4 // 17  # the size is 4 n + 2 ceil(n / 8)
        for size in range(max(0, n - 8), n + 9):
            packed = math.ceil(size / 8)
            if 2 * packed + 4 * size == len(content):
                bits = np.frombuffer(content, np.uint8, 2 * packed).reshape(2, packed)
                right, within = np.unpackbits(bits, axis=1, count=size).astype(bool)
                return cls(right, within, np.frombuffer(content, "<f4", size, 2 * packed))
        return None
