"""Fine-tuning that keeps the features from collapsing onto few directions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from htbench import Batch, Method, Run, SourceModel, TargetData, fit

EPSILON = 1e-8  # of a variance: a feature that a batch does not move is 0, not NaN


@dataclass(frozen=True)
class FeatureRank(Method):
    """Fine-tune, and penalise the correlations between features.

    The regulariser of Shi et al., "Towards Understanding and Mitigating Dimensional Collapse in
    Heterogeneous Federated Learning" (FedDecorr), ICLR 2023 (arXiv 2210.00226), with its weight of
    0.1; Tu et al., "Holistic Transfer", NeurIPS 2023, study a regulariser of the rank of features.
    This suite's choice: correlations are of the augmented batch, with its population variance.
    """

    name = "feature-rank"
    weight: float = 0.1

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """min of the mean of CE(z, y) + weight * ||K||_F^2 / d^2, K the features' correlations."""
        return fit(source.copy(), target, run, penalties=[correlation_penalty(self.weight)])


def correlation_penalty(weight: float) -> Callable[[Batch], Tensor]:
    """The penalty weight * ||K||_F^2 / d^2 of a batch.

    K (d, d) is the matrix of correlations between the d features over the batch. Its squared norm
    is d if no two features go together, and d^2 if all do.
    """

    def penalty(batch: Batch) -> Tensor:
        features = batch.features
        centred = features - features.mean(dim=0)
        scaled = centred / (centred.square().mean(dim=0) + EPSILON).sqrt()
        correlations = scaled.T @ scaled / len(features)
        return weight * correlations.square().mean()

    return penalty
