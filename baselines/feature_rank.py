"""Fine-tuning that keeps the features from collapsing to a few dimensions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from htbench import Batch, Method, Run, SourceModel, TargetData, fit

EPSILON = 1e-8  # added to variances, so that a constant feature gives 0 and not NaN


@dataclass(frozen=True)
class FeatureRank(Method):
    """Fine-tune, and penalise correlations between features.

    The regulariser of Shi et al., "Towards Understanding and Mitigating Dimensional Collapse in
    Heterogeneous Federated Learning" (FedDecorr), ICLR 2023 (arXiv 2210.00226), with the paper's
    weight of 0.1. Tu et al., "Holistic Transfer", NeurIPS 2023, study a regulariser of the
    features' rank. This suite's choice: correlations are computed on the augmented batch, with
    population variance.
    """

    name = "feature-rank"
    weight: float = 0.1

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """Minimise the mean of CE(z, y) + weight * ||K||_F^2 / d^2.

        K is the matrix of feature correlations.
        """
        return fit(source.copy(), target, run, penalties=[correlation_penalty(self.weight)])


def correlation_penalty(weight: float) -> Callable[[Batch], Tensor]:
    """Return the penalty weight * ||K||_F^2 / d^2 as a function that maps a batch to a scalar.

    K (d, d) is the correlation matrix of the d features over the batch. Its squared norm is d if
    all features are uncorrelated, and d^2 if all are perfectly correlated. Shi et al., ICLR 2023.
    """

    def penalty(batch: Batch) -> Tensor:
        features = batch.features
        centred = features - features.mean(dim=0)
        scaled = centred / (centred.square().mean(dim=0) + EPSILON).sqrt()
        correlations = scaled.T @ scaled / len(features)
        return weight * correlations.square().mean()

    return penalty
