"""Fine-tuning under the balanced softmax."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from htbench import Batch, Method, Run, SourceModel, TargetData, fit


@dataclass(frozen=True)
class BalancedSoftmax(Method):
    """Cross-entropy of logits shifted by the logarithm of each class's number of images.

    Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020 (arXiv
    2007.10740), equation 4. A missing class has no image and log 0 takes it out of the softmax: so
    nothing pushes its logit down, and nothing holds it. Test logits are not shifted.
    """

    name = "balanced-softmax"

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """min of the mean of CE(z + log n, y) over seen (x, y), n_c the images of class c."""
        counts = torch.bincount(target.labels, minlength=len(target.classes))
        return fit(source.copy(), target, run, loss=balanced_cross_entropy(counts))


def balanced_cross_entropy(counts: Tensor) -> Callable[[Batch], Tensor]:
    """The loss of a batch, given the number of training images of each class, int64 (C,)."""
    present = counts.nonzero().squeeze(1)
    place = torch.full_like(counts, -1)
    place[present] = torch.arange(len(present), device=counts.device)
    shift = counts[present].to(torch.float32).log()

    def loss(batch: Batch) -> Tensor:
        return F.cross_entropy(batch.logits[:, present] + shift, place[batch.labels])

    return loss
