"""Leave-out local SGD with selective distillation."""

from __future__ import annotations

from dataclasses import dataclass

from baselines.lolsgd import LOLSGD, Penalty
from baselines.selective_distill import SelectiveDistill, missing_divergence
from htbench import SourceModel, TargetData


@dataclass(frozen=True)
class LOLSGDSelectiveDistill(LOLSGD):
    """Leave-out local SGD with selective distillation of the missing classes.

    One of the combinations studied by Tu et al., "Holistic Transfer", NeurIPS 2023 (arXiv
    2311.01420). This suite's choices are those of ``lolsgd`` and ``selective-distill``. Classes
    left out by a local model do not count as missing: all local models use the task's missing
    classes U.
    """

    name = "lolsgd-selective-distill"
    search = {"weight": (0.3, 1.0, 3.0, 10.0)}
    weight: float = SelectiveDistill.weight

    def penalties(self, source: SourceModel, target: TargetData) -> list[Penalty]:
        """Add weight * KL(softmax(z_S[U]) || softmax(z[U])) to the local loss."""
        return [missing_divergence(source, target, self.weight)]
