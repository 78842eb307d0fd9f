"""Fine-tuning that preserves the source model's features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from htbench import Batch, Method, Run, SourceModel, TargetData, fit


@dataclass(frozen=True)
class LDIFS(Method):
    """Fine-tune, and penalise the distance of the normalised features from the source model's.

    The L2 distance in feature space of Mukhoti et al., "Fine-Tuning can Cripple your Foundation
    Model; Preserving Features may be the Solution", TMLR 2024 (arXiv 2308.13320). As in the
    authors' code (``loss/ldifs.py`` of github.com/omegafragger/ldifs_code), features are scaled to
    unit length and squared differences are averaged over their dimensions; ``alpha`` is 10, one of
    the values that the paper uses. This suite's choices: only the features of the last layer before
    the head, where the authors' code averages over several layers; and the source model sees the
    same augmented images, as there.
    """

    name = "ldifs"
    search = {"alpha": (1.0, 10.0, 100.0)}
    alpha: float = 10.0

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """Minimise CE(z, y) + alpha / d * ||f(x) / |f(x)| - f_S(x) / |f_S(x)| ||^2, a mean."""
        return fit(source.copy(), target, run, penalties=[feature_distance(source, self.alpha)])


def feature_distance(source: SourceModel, alpha: float) -> Callable[[Batch], Tensor]:
    """Return alpha times the mean squared difference of unit features, over dimensions and batch.

    A feature vector of zeros, which has no direction, counts as zeros.
    """

    def penalty(batch: Batch) -> Tensor:
        with torch.no_grad():
            source_features = normalize(source.features(batch.images))
        return alpha * (normalize(batch.features) - source_features).square().mean()

    return penalty
