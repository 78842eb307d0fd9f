"""Fine-tuning with the balanced softmax."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from htbench import Batch, Method, Run, SourceModel, TargetData, fit


@dataclass(frozen=True)
class BalancedSoftmax(Method):
    """Fine-tune with cross-entropy on logits shifted by the log of each class's image count.

    Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020 (arXiv
    2007.10740), equation 4. A missing class has no images, so its shift of log 0 removes it
    from the softmax, and the loss does not affect its logit directly. Logits are not shifted at
    test time.
    """

    name = "balanced-softmax"
    search = {}

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """Minimise the mean of CE(z + log n, y) over seen (x, y); n_c counts images of class c."""
        counts = torch.bincount(target.labels, minlength=len(target.classes))
        return fit(source.copy(), target, run, loss=balanced_cross_entropy(counts))


def balanced_cross_entropy(counts: Tensor) -> Callable[[Batch], Tensor]:
    """Return the balanced cross-entropy as a function that maps a batch to a scalar.

    Args:
        counts: int64 (C,), the number of training images of each class.
    """
    present = counts.nonzero().squeeze(1)
    column_of = torch.full_like(counts, -1)  # class to column among the classes with images
    column_of[present] = torch.arange(len(present), device=counts.device)
    shift = counts[present].to(torch.float32).log()

    def loss(batch: Batch) -> Tensor:
        return F.cross_entropy(batch.logits[:, present] + shift, column_of[batch.labels])

    return loss
