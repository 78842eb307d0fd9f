"""Fine-tuning that keeps the source model's view of all classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div

from htbench import Batch, Method, Run, SourceModel, TargetData, fit


@dataclass(frozen=True)
class LwF(Method):
    """Learning without forgetting: distil the source model's probabilities of all C classes.

    Li and Hoiem, "Learning without Forgetting", ECCV 2016 (arXiv 1606.09282), with its temperature
    of 2. In the form of Hinton et al. (2015): the divergence times T^2, so that its gradient does
    not shrink with T. This suite's choices: the frozen source, in evaluation mode, sees the same
    augmented images, and the weight is 1.
    """

    name = "lwf"
    weight: float = 1.0
    temperature: float = 2.0

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """min of the mean of CE(z, y) + weight * T^2 * KL(softmax(z_S / T) || softmax(z / T))."""
        penalty = divergence(source, self.weight, self.temperature)
        return fit(source.copy(), target, run, penalties=[penalty])


def divergence(source: SourceModel, weight: float, temperature: float) -> Callable[[Batch], Tensor]:
    """The penalty weight * T^2 * KL(softmax(z_S / T) || softmax(z / T)), the mean over a batch."""

    def penalty(batch: Batch) -> Tensor:
        with torch.no_grad():
            kept = (source.logits(batch.images) / temperature).log_softmax(dim=1)
        now = (batch.logits / temperature).log_softmax(dim=1)
        return weight * temperature**2 * kl_div(now, kept, reduction="batchmean", log_target=True)

    return penalty
