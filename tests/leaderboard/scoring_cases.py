"""Samples for the tests of scoring: logits, labels and seen classes."""

from __future__ import annotations

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

# A shared machine may stall any example, and a test leaves nothing on disk.
PROPERTY = settings(deadline=None, database=None)


@st.composite
def tied_cases(draw):
    """Small whole-number logits: ties within a row, across the groups, and between margins."""
    n_classes = draw(st.integers(2, 6))
    n_samples = draw(st.integers(2, 24))
    seen = draw(
        st.lists(st.booleans(), min_size=n_classes, max_size=n_classes).filter(
            lambda mask: any(mask) and not all(mask)
        )
    )
    spread = draw(st.sampled_from([0, 1, 3]))
    row = st.lists(st.integers(-spread, spread), min_size=n_classes, max_size=n_classes)
    rows = draw(st.lists(row, min_size=n_samples, max_size=n_samples))
    label = st.integers(0, n_classes - 1)
    rest = draw(st.lists(label, min_size=n_samples - 2, max_size=n_samples - 2))
    return rows, [seen.index(True), seen.index(False), *rest], seen


def arrays(rows, labels, seen, dtype=np.float32):
    return np.array(rows, dtype=dtype), np.array(labels), np.array(seen)


def random_case(n_samples=600, n_classes=12, decimals=None, seed=0):
    """A model that knows something, with long-tailed labels; the last class has no sample."""
    rng = np.random.default_rng(seed)
    labels = rng.geometric(0.25, n_samples) % (n_classes - 1)
    logits = rng.normal(size=(n_samples, n_classes))
    logits[np.arange(n_samples), labels] += 1.5
    seen = np.arange(n_classes) % 2 == 0
    logits[:, seen] += 1.0  # fine-tuning inflates the seen logits
    return logits if decimals is None else logits.round(decimals), labels, seen


# S = {0, 1}, U = {2, 3}; margins 1, -2, 0, 3, -1 and 0, the last two a tie of the groups at 0.
TINY = (
    [
        [5, 1, 4, 0],  # 0: right; best of S is 0; lost when gamma passes 1
        [2, 0, 1, 4],  # 1: taken for 3; wrong in S as well
        [3, 1, 3, 0],  # 0: tie with 2, right by the lower index; lost at 0
        [7, 0, 2, 4],  # 3: taken for 0; right in U; won at 3
        [0, 1, 2, 1],  # 2: right; won at -1
        [1, 2, 2, 0],  # 2: tie with 1, taken for 1; right in U; won at 0
    ],
    [0, 1, 0, 3, 2, 2],
    [True, True, False, False],
)
