"""Leave-out local SGD with selective distillation."""

from __future__ import annotations

from dataclasses import dataclass

from baselines.lolsgd import LOLSGD, Penalty
from baselines.selective_distill import SelectiveDistill, missing_divergence
from htbench import SourceModel, TargetData


@dataclass(frozen=True)
class LOLSGDSelectiveDistill(LOLSGD):
    """Leave-out local SGD whose local models keep the source's view of the missing classes.

    A combination that Tu et al., "Holistic Transfer", NeurIPS 2023 (arXiv 2311.01420), study. All
    else, this suite's choices included, is as in ``lolsgd`` and ``selective-distill``: what a local
    model leaves out is not missing, so U is the task's in every one of them.
    """

    name = "lolsgd-selective-distill"
    weight: float = SelectiveDistill.weight

    def penalties(self, source: SourceModel, target: TargetData) -> list[Penalty]:
        """A local loss is CE(z, y) + weight * KL(softmax(z_S[U]) || softmax(z[U]))."""
        return [missing_divergence(source, target, self.weight)]
