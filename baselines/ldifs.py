"""Fine-tuning that keeps the source model's features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from htbench import Batch, Method, Run, SourceModel, TargetData, fit


@dataclass(frozen=True)
class LDIFS(Method):
    """Fine-tune, and penalise how far the features move from the source model's.

    The L2 distance in feature space of Mukhoti et al., "Fine-Tuning can Cripple your Foundation
    Model; Preserving Features may be the Solution", TMLR 2024 (arXiv 2308.13320), who also take
    features from inside the network. This suite's choices: those that the head sees alone; their
    source, in evaluation mode, sees the same augmented images; the weight, which ``htbench tune``
    can choose.
    """

    name = "ldifs"
    weight: float = 1.0

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """min of the mean of CE(z, y) + weight * ||f(x) - f_S(x)||^2 over seen (x, y)."""
        return fit(source.copy(), target, run, penalties=[feature_distance(source, self.weight)])


def feature_distance(source: SourceModel, weight: float) -> Callable[[Batch], Tensor]:
    """The penalty weight * ||f(x) - f_S(x)||^2, the mean over a batch."""

    def penalty(batch: Batch) -> Tensor:
        with torch.no_grad():
            kept = source.features(batch.images)
        return weight * (batch.features - kept).square().sum(dim=1).mean()

    return penalty
