"""Fine-tuning with distillation of the source model over all classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div

from htbench import Batch, Method, Run, SourceModel, TargetData, fit


@dataclass(frozen=True)
class LwF(Method):
    """Learning without forgetting: distil the source model's probabilities over all C classes.

    Li and Hoiem, "Learning without Forgetting", ECCV 2016 (arXiv 1606.09282), with the paper's
    temperature of 2 and weight of 1. The divergence is not multiplied by T^2, as Hinton et al.,
    "Distilling the Knowledge in a Neural Network", 2015 (arXiv 1503.02531), do. The paper's
    cross-entropy of the two distributions differs from the divergence by a constant. This suite's
    choice: the source model sees the same augmented images.
    """

    name = "lwf"
    search = {"weight": (0.3, 1.0, 3.0, 10.0)}
    weight: float = 1.0
    temperature: float = 2.0

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """Minimise mean CE(z, y) + weight * KL(softmax(z_S / T) || softmax(z / T))."""
        penalty = distillation_penalty(source, self.weight, self.temperature)
        return fit(source.copy(), target, run, penalties=[penalty])


def distillation_penalty(
    source: SourceModel, weight: float, temperature: float
) -> Callable[[Batch], Tensor]:
    """Return the penalty weight * KL(softmax(z_S / T) || softmax(z / T)), a batch mean."""

    def penalty(batch: Batch) -> Tensor:
        with torch.no_grad():
            expected = (source.logits(batch.images) / temperature).log_softmax(dim=1)
        actual = (batch.logits / temperature).log_softmax(dim=1)
        divergence = kl_div(actual, expected, reduction="batchmean", log_target=True)
        return weight * divergence

    return penalty
