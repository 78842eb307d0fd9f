"""Leave-out local SGD with selective distillation and the feature-rank penalty."""

from __future__ import annotations

from dataclasses import dataclass

from baselines.feature_rank import FeatureRank, correlation_penalty
from baselines.lolsgd import LOLSGD, Penalty
from baselines.selective_distill import SelectiveDistill, missing_divergence
from htbench import SourceModel, TargetData


@dataclass(frozen=True)
class LOLSGDDistillRank(LOLSGD):
    """Leave-out local SGD with both selective distillation and the feature-rank penalty.

    One of the combinations studied by Tu et al., "Holistic Transfer", NeurIPS 2023 (arXiv
    2311.01420). This suite's choices are those of ``lolsgd``, ``selective-distill`` and
    ``feature-rank``.
    """

    name = "lolsgd-distill-rank"
    search = {"distill_weight": (0.3, 1.0, 3.0, 10.0)}
    distill_weight: float = SelectiveDistill.weight
    rank_weight: float = FeatureRank.weight

    def penalties(self, source: SourceModel, target: TargetData) -> list[Penalty]:
        """Add w_d * KL(softmax(z_S[U]) || softmax(z[U])) and the penalty of ``feature-rank``."""
        return [
            missing_divergence(source, target, self.distill_weight),
            correlation_penalty(self.rank_weight),
        ]
