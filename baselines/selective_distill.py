"""Fine-tuning with distillation of the source model over the missing classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div

from htbench import Batch, Method, Run, SourceModel, TargetData, fit


@dataclass(frozen=True)
class SelectiveDistill(Method):
    """Fine-tune, and distil the source model's probabilities among the missing classes.

    The idea is from Tu et al., "Holistic Transfer", NeurIPS 2023 (arXiv 2311.01420). This suite's
    choices: the divergence compares softmaxes over the missing columns U only, at temperature 1;
    the source model sees the same augmented images; and the weight is 1.
    """

    name = "selective-distill"
    search = {"weight": (0.3, 1.0, 3.0, 10.0)}
    weight: float = 1.0

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """Minimise the mean of CE(z, y) + weight * KL(softmax(z_S[U]) || softmax(z[U]))."""
        penalty = missing_divergence(source, target, self.weight)
        return fit(source.copy(), target, run, penalties=[penalty])


def missing_divergence(
    source: SourceModel, target: TargetData, weight: float
) -> Callable[[Batch], Tensor]:
    """Return the penalty weight * KL(softmax(z_S[U]) || softmax(z[U])), averaged over a batch."""
    missing = ~target.seen

    def penalty(batch: Batch) -> Tensor:
        with torch.no_grad():
            expected = source.logits(batch.images)[:, missing].log_softmax(dim=1)
        actual = batch.logits[:, missing].log_softmax(dim=1)
        return weight * kl_div(actual, expected, reduction="batchmean", log_target=True)

    return penalty
