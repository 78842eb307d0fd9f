"""Leave-out local SGD that keeps the features from collapsing."""

from __future__ import annotations

from dataclasses import dataclass

from baselines.feature_rank import FeatureRank, correlation_penalty
from baselines.lolsgd import LOLSGD, Penalty
from htbench import SourceModel, TargetData


@dataclass(frozen=True)
class LOLSGDFeatureRank(LOLSGD):
    """Leave-out local SGD whose local models are penalised for correlated features.

    A combination that Tu et al., "Holistic Transfer", NeurIPS 2023 (arXiv 2311.01420), study. All
    else, this suite's choices included, is as in ``lolsgd`` and ``feature-rank``.
    """

    name = "lolsgd-feature-rank"
    weight: float = FeatureRank.weight

    def penalties(self, source: SourceModel, target: TargetData) -> list[Penalty]:
        """A local loss is CE(z, y) + weight * ||K||_F^2 / d^2, K the features' correlations."""
        return [correlation_penalty(self.weight)]
