"""Prior-shifted cross-entropy with distillation among the missing classes (FedVLS)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.selective_distill import missing_divergence
from htbench import Batch, Method, Run, SourceModel, TargetData, fit

EPSILON = 1e-9  # in every logarithm of a prior, as released


@dataclass(frozen=True)
class VLS(Method):
    """Fine-tune on prior-shifted logits, and distil the source model among the missing classes.

    Guo et al., "Exploring Vacant Classes in Label-Skewed Federated Learning" (FedVLS), AAAI 2025
    (arXiv 2401.02329), where a client has no images of some classes and the global model is the
    teacher. As released (krumpguo/FedVLS, system/flcore/clients/clientvls.py): both losses, with
    its default weight of 1 (system/main.py; its example for CIFAR-10 has 0.1). Its third loss,
    which lowers the logits of classes that an image does not belong to, is off by default here; its
    released weight is 0.005. The distillation is that of ``selective-distill``; this suite's choice
    is that the source model sees the same augmented images, as there.
    """

    name = "vls"
    search = {"weight": (0.1, 1.0, 10.0)}
    weight: float = 1.0
    suppression: float = 0.0

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """Minimise CE(z + log p, y) + weight * KL(softmax(z_S[U]) || softmax(z[U])), p the priors.

        With ``suppression`` s it adds s * sum over c of p_c (log sum over n of exp(z_nc - log p_c -
        log C, or 0 where y_n = c) - log N), n over the N images of a batch.
        """
        counts = torch.bincount(target.labels, minlength=len(target.classes))
        prior = counts / counts.sum()
        penalties = [missing_divergence(source, target, self.weight)]
        if self.suppression:
            penalties.append(suppression(prior, self.suppression))
        return fit(source.copy(), target, run, loss=shifted(prior), penalties=penalties)


def shifted(prior: Tensor) -> Callable[[Batch], Tensor]:
    """Return the cross-entropy of z + log(prior + 1e-9); ``prior`` is float32 (C,)."""
    shift = (prior + EPSILON).log()
    return lambda batch: F.cross_entropy(batch.logits + shift, batch.labels)


def suppression(prior: Tensor, weight: float) -> Callable[[Batch], Tensor]:
    """Return the loss that lowers the logits of classes that an image does not belong to.

    Args:
        prior: float32 (C,), the share of each class in the training images.
        weight: of the loss.
    """
    shift = math.log(1 / len(prior) + EPSILON) - (prior + EPSILON).log()

    def penalty(batch: Batch) -> Tensor:
        own = F.one_hot(batch.labels, len(prior)).bool()
        spread = (batch.logits + shift).masked_fill(own, 0.0).logsumexp(dim=0)
        return weight * (prior * (spread - math.log(len(batch.labels)))).sum()

    return penalty
