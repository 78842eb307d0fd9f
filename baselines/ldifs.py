"""Fine-tuning that preserves the source model's features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from htbench import Batch, Method, Run, SourceModel, TargetData, fit


@dataclass(frozen=True)
class LDIFS(Method):
    """Fine-tune, and penalise the distance of the features from the source model's.

    The L2 distance in feature space of Mukhoti et al., "Fine-Tuning can Cripple your Foundation
    Model; Preserving Features may be the Solution", TMLR 2024 (arXiv 2308.13320), who also use
    features of intermediate layers. This suite's choices: only the features of the last layer
    before the head; the source model sees the same augmented images; and the weight is 1.
    """

    name = "ldifs"
    weight: float = 1.0

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """Minimise the mean of CE(z, y) + weight * ||f(x) - f_S(x)||^2 over seen (x, y)."""
        return fit(source.copy(), target, run, penalties=[feature_distance(source, self.weight)])


def feature_distance(source: SourceModel, weight: float) -> Callable[[Batch], Tensor]:
    """Return the penalty weight * ||f(x) - f_S(x)||^2, averaged over a batch."""

    def penalty(batch: Batch) -> Tensor:
        with torch.no_grad():
            source_features = source.features(batch.images)
        return weight * (batch.features - source_features).square().sum(dim=1).mean()

    return penalty
