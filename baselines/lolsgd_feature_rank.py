"""Leave-out local SGD with the feature-rank penalty."""

from __future__ import annotations

from dataclasses import dataclass

from baselines.feature_rank import FeatureRank, correlation_penalty
from baselines.lolsgd import LOLSGD, Penalty
from htbench import SourceModel, TargetData


@dataclass(frozen=True)
class LOLSGDFeatureRank(LOLSGD):
    """Leave-out local SGD whose local models are penalised for correlated features.

    One of the combinations studied by Tu et al., "Holistic Transfer", NeurIPS 2023 (arXiv
    2311.01420). This suite's choices are those of ``lolsgd`` and ``feature-rank``.
    """

    name = "lolsgd-feature-rank"
    search = {"weight": (0.01, 0.1, 1.0)}
    weight: float = FeatureRank.weight

    def penalties(self, source: SourceModel, target: TargetData) -> list[Penalty]:
        """Add the penalty of ``feature-rank`` to the local loss."""
        return [correlation_penalty(self.weight)]
