"""Leave-out local SGD with selective distillation."""

from __future__ import annotations

from dataclasses import dataclass

from baselines.lolsgd import LOLSGD, Penalty
from baselines.selective_distill import SelectiveDistill, missing_divergence
from htbench import SourceModel, TargetData


@dataclass(frozen=True)
class LOLSGDSelectiveDistill(LOLSGD):
    """Leave-out local SGD with selective distillation of the missing classes.

    A combination that Tu et al., "Holistic Transfer", NeurIPS 2023 (arXiv 2311.01420), study. This
    suite's choices are those of ``lolsgd`` and ``selective-distill``. Classes that a local model
    leaves out do not count as missing: U is the task's for all local models.
    """

    name = "lolsgd-selective-distill"
    weight: float = SelectiveDistill.weight

    def penalties(self, source: SourceModel, target: TargetData) -> list[Penalty]:
        """Add weight * KL(softmax(z_S[U]) || softmax(z[U])) to the local loss."""
        return [missing_divergence(source, target, self.weight)]
