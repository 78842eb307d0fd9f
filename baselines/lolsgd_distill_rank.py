"""Leave-out local SGD with selective distillation and uncorrelated features."""

from __future__ import annotations

from dataclasses import dataclass

from baselines.feature_rank import FeatureRank, correlation_penalty
from baselines.lolsgd import LOLSGD, Penalty
from baselines.selective_distill import SelectiveDistill, missing_divergence
from htbench import SourceModel, TargetData


@dataclass(frozen=True)
class LOLSGDDistillRank(LOLSGD):
    """Leave-out local SGD with both terms, selective distillation and the rank of the features.

    A combination that Tu et al., "Holistic Transfer", NeurIPS 2023 (arXiv 2311.01420), study. All
    else, this suite's choices included, is as in ``lolsgd``, ``selective-distill`` and
    ``feature-rank``.
    """

    name = "lolsgd-distill-rank"
    distill_weight: float = SelectiveDistill.weight
    rank_weight: float = FeatureRank.weight

    def penalties(self, source: SourceModel, target: TargetData) -> list[Penalty]:
        """A local loss is CE + w_d * KL(softmax(z_S[U]) || softmax(z[U])) + w_r * ||K||^2 / d^2."""
        return [
            missing_divergence(source, target, self.distill_weight),
            correlation_penalty(self.rank_weight),
        ]
