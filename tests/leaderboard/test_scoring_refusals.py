"""Input that cannot be scored is refused, with the rows and values at fault."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.errors import ScoringError
from leaderboard import calibration_curve, score
from tests.leaderboard.scoring_cases import TINY, arrays

LOGITS, LABELS, SEEN = arrays(*TINY)


def with_value(array, index, value):
    copy = array.copy()
    copy[index] = value
    return copy


REFUSED = {
    "nan": (with_value(LOGITS, (4, 1), np.nan), LABELS, SEEN, r"NaN.* 1 of 6 samples \(rows 4\);"),
    "infinite": (
        with_value(LOGITS, (slice(1, 6), 0), -np.inf),
        LABELS,
        SEEN,
        r"infinite.* 5 of 6 samples \(rows 1, 2, 3 and 2 more\);",
    ),
    "nan and infinite in several blocks": (
        with_value(with_value(np.tile(LOGITS, (20_000, 1)), (70_004, 1), np.nan), (9, 0), np.inf),
        np.tile(LABELS, 20_000),
        SEEN,
        r"infinite.* 2 of 120,000 samples \(rows 9, 70004\);",
    ),
    "too far apart": (
        with_value(LOGITS.astype(np.float64), 3, [1.5e308, 0, -1.5e308, -1.5e308]),
        LABELS,
        SEEN,
        r"overflows float64 in .* \(rows 3\); scale",
    ),
    "list": (LOGITS.tolist(), LABELS, SEEN, r"logits must be a numpy array \(N, C\), not list"),
    "flat logits": (LOGITS.ravel(), LABELS, SEEN, r"logits must have shape \(N, C\), not \(24,\)"),
    "labels 2-d": (LOGITS, LABELS[:, None], SEEN, r"labels must have shape \(N,\), not \(6, 1\)"),
    "seen 2-d": (LOGITS, LABELS, SEEN[None], r"seen must have shape \(C,\), not \(1, 4\)"),
    "integer logits": (LOGITS.astype(int), LABELS, SEEN, r"logits must be float.*not int64"),
    "object logits": (LOGITS.astype(object), LABELS, SEEN, r"logits must be float.*not object"),
    "complex logits": (LOGITS.astype(complex), LABELS, SEEN, r"logits must be float.*complex"),
    "float labels": (LOGITS, LABELS.astype(float), SEEN, r"labels must be integers.*not float64"),
    "bool labels": (LOGITS, LABELS.astype(bool), SEEN, r"labels must be integers.*not bool"),
    "object labels": (LOGITS, LABELS.astype(object), SEEN, r"labels must be integers.*not object"),
    "integer seen": (LOGITS, LABELS, SEEN.astype(int), r"seen must be a boolean mask.*not int64"),
    "object seen": (
        LOGITS,
        LABELS,
        SEEN.astype(object),
        r"seen must be a boolean mask.*not object",
    ),
    "no sample": (LOGITS[:0], LABELS[:0], SEEN, r"no samples to score"),
    "wrong width": (LOGITS[:, :3], LABELS, SEEN, r"3 columns, but the seen mask has 4 entries"),
    "too few labels": (LOGITS, LABELS[:5], SEEN, r"logits have 6 rows but there are 5 labels"),
    "label too big": (
        LOGITS,
        LABELS + 2,
        SEEN,
        r"outside 0\.\.3 \(such as 5\) in 3 .*\(rows 3, 4, 5\)",
    ),
    "label negative": (
        LOGITS,
        LABELS - 1,
        SEEN,
        r"outside 0\.\.3 \(such as -1\) in 2 .*\(rows 0, 2\);",
    ),
    "label huge": (LOGITS, LABELS.astype(np.uint64) + 2**63, SEEN, r"outside 0\.\.3 "),
    "no seen class": (LOGITS, LABELS, np.zeros_like(SEEN), r"there are no seen classes"),
    "no missing class": (LOGITS, LABELS, np.ones_like(SEEN), r"there are no missing classes"),
    "no seen sample": (LOGITS, LABELS % 2 + 2, SEEN, r"no test sample belongs to a seen class"),
    "no missing sample": (LOGITS, LABELS % 2, SEEN, r"no test sample belongs to a missing class"),
}
if np.dtype(np.longdouble).itemsize > 8:  # on some systems it is float64
    REFUSED["long double"] = (LOGITS.astype(np.longdouble), LABELS, SEEN, r"logits must be float")


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("function", [score, calibration_curve])
def test_what_cannot_be_scored(function, case):
    *bad, message = REFUSED[case]
    with pytest.raises(ScoringError, match=message):
        function(*bad)
