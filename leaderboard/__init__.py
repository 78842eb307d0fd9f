"""From predictions to a table: metrics, results and the board. Loads no torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leaderboard.scoring import (
        CalibrationCurve,
        Scores,
        calibration_curve,
        match_samples,
        score,
        score_at_best_gamma,
    )

__all__ = [
    "CalibrationCurve",
    "Scores",
    "calibration_curve",
    "match_samples",
    "score",
    "score_at_best_gamma",
]

# Resolved on first use (PEP 562), so that `import leaderboard` does not load numpy.
_HOME = dict.fromkeys(__all__, "leaderboard.scoring")


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
