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
    Heterogeneous Federated Learning" (FedDecorr), ICLR 2023 (arXiv 2210.00226), as in the authors'
    code (``loss.py`` of github.com/bytedance/FedDecorr), with its weight of 0.1. Tu et al.,
    "Holistic Transfer", NeurIPS 2023, study a regulariser of the features' rank. This suite's
    choice: correlations are computed on the augmented batch.
    """

    name = "feature-rank"
    search = {"weight": (0.01, 0.1, 1.0)}
    weight: float = 0.1

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """Minimise the mean of CE(z, y) + weight * N * (mean of K_ij^2 over i != j).

        K is the matrix of the features' correlations over a batch of N images, times (N - 1) / N.
        """
        return fit(source.copy(), target, run, penalties=[correlation_penalty(self.weight)])


def correlation_penalty(weight: float) -> Callable[[Batch], Tensor]:
    """Return the penalty weight * N * (mean of K_ij^2 over i != j), which maps a batch to a scalar.

    K (d, d) = X^T X / N, where X (N, d) are the features with mean 0 and sample variance 1 (the
    variance with N - 1). It is 0 if all features are uncorrelated, and (N - 1)^2 / N if all are
    perfectly correlated; 0 for a batch of one image or a single feature. Shi et al., ICLR 2023.
    """

    def penalty(batch: Batch) -> Tensor:
        features = batch.features
        count, width = features.shape
        if count == 1 or width == 1:
            return features.new_zeros(())
        centred = features - features.mean(dim=0)
        scaled = centred / (features.var(dim=0) + EPSILON).sqrt()
        products = scaled.T @ scaled
        off_diagonal = products.square().sum() - products.diagonal().square().sum()
        return weight * off_diagonal / (width * (width - 1) * count)

    return penalty
