"""Fine-tuning tied to the source weights by springs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from htbench import Batch, Method, Run, SourceModel, TargetData, fit


@dataclass(frozen=True)
class L2SP(Method):
    """Fine-tune with an L2 penalty whose centre is the source model instead of 0.

    Li et al., "Explicit Inductive Bias for Transfer Learning with Convolutional Networks", ICML
    2018 (arXiv 1802.01483). There the head is new and is pulled to 0; here its classes are the
    source's, so this suite pulls it to the source's head. Every weight counts, BatchNorm's scales
    and shifts too. The recipe's weight decay stays as it is for all methods. The two weights are of
    the size that the paper searches, and not chosen on these data: ``htbench tune`` does that.
    """

    name = "l2-sp"
    alpha: float = 0.1
    beta: float = 0.01

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """min of CE + alpha/2 ||theta_B - theta_B,S||^2 + beta/2 ||theta_H - theta_H,S||^2.

        theta_B are the weights of the backbone, theta_H those of the head.
        """
        model = source.copy()
        springs = {
            name: torch.tensor(self.beta if name.startswith("head.") else self.alpha)
            for name, _ in model.named_parameters()
        }
        return fit(model, target, run, penalties=[spring_penalty(model, springs)])


def spring_penalty(model: nn.Module, springs: Mapping[str, Tensor]) -> Callable[[Batch], Tensor]:
    """The penalty sum over i of s_i / 2 (theta_i - theta_i,0)^2.

    Args:
        model: theta_0 is what its parameters are now.
        springs: s by name of a parameter: a number, or one for each of its values.
    """
    start = {name: value.detach().clone() for name, value in model.named_parameters()}

    def penalty(batch: Batch) -> Tensor:
        terms = [
            (springs[name].to(value.device) * (value - start[name]).square()).sum()
            for name, value in batch.model.named_parameters()
        ]
        return torch.stack(terms).sum() / 2

    return penalty
