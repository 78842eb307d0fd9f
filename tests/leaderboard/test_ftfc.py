"""AUSUC agrees with the curve of the evaluator that "Fine-Tuning is Fine, if Calibrated" released.

``data/ftfc_curves.json`` holds the numbers that the evaluator gave (github.com/OSU-MLB/
Fine-Tuning-Is-Fine-If-Calibrated, py/util/evaluate.py) for ten seeded inputs: the points of its
trade-off curve in its own order (gamma in logits, accuracies in per cent), and the accuracies of
the unshifted logits, which it reports beside the curve. Its curve has this point of gamma = 0 only
where all margins have the same sign. The evaluator orders points by seen accuracy alone and leaves
ties open, so that its area depends on how they are sorted.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from leaderboard.scoring import calibration_curve, score

CURVES = json.loads(Path(__file__).with_name("data").joinpath("ftfc_curves.json").read_text())


def seeded_input(seed: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], Any]:
    """Logits (N, C) in which no two margins are equal, labels (N,) and the mask of seen classes."""
    rng = np.random.default_rng(seed)
    samples, classes = int(rng.integers(40, 81)), int(rng.integers(5, 13))
    labels = rng.integers(classes, size=samples)
    logits = rng.normal(size=(samples, classes))
    logits[np.arange(samples), labels] += 1.5
    seen = np.zeros(classes, dtype=np.bool_)
    seen[rng.permutation(classes)[: int(rng.integers(2, classes - 1))]] = True
    logits[:, seen] += 1
    return logits.astype(np.float32), labels, seen


def area(seen: npt.NDArray[np.float64], missing: npt.NDArray[np.float64]) -> float:
    """Trapezoid area under points in per cent, with falling seen accuracy."""
    steps = (seen[:-1] - seen[1:]) * (missing[:-1] + missing[1:]) / 2
    return float(steps.sum()) / 100**2


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: f"seed {curve['seed']}")
class TestReleasedCurve:
    def test_its_points_by_gamma_give_our_area(self, curve: dict[str, Any]) -> None:
        logits, labels, seen = seeded_input(curve["seed"])
        inputs = logits.tobytes() + labels.tobytes() + seen.tobytes()
        assert hashlib.sha256(inputs).hexdigest() == curve["sha256"], "other inputs: not comparable"
        unshifted_seen, unshifted_missing = curve["unshifted"]
        _, by_gamma = np.unique([*curve["gamma"], 0.0], return_index=True)
        points = np.array(
            [[*curve["seen"], unshifted_seen], [*curve["missing"], unshifted_missing]]
        )[:, by_gamma]
        assert area(*points) == pytest.approx(score(logits, labels, seen).ausuc, abs=1e-12)
        ours = calibration_curve(logits, labels, seen)
        np.testing.assert_allclose(points, 100 * np.stack([ours.seen, ours.missing]), atol=1e-9)
