"""Fine-tuning with an L2 penalty on the distance from the source weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from htbench import Batch, Method, Run, SourceModel, TargetData, fit


@dataclass(frozen=True)
class L2SP(Method):
    """Fine-tune with an L2 penalty centred on the source weights instead of on 0.

    Li et al., "Explicit Inductive Bias for Transfer Learning with Convolutional Networks", ICML
    2018 (arXiv 1802.01483). In the paper, the head is new and pulled towards 0. Here it has
    the same classes as the source model's head, so it is pulled towards that head. All parameters
    are penalised, including scale and shift of BatchNorm, and the recipe's weight decay remains.
    ``alpha`` and ``beta`` are within the range searched in the paper; they are not tuned on this
    suite's data (use ``htbench tune`` for that).
    """

    name = "l2-sp"
    search = {"alpha": (0.01, 0.1, 1.0)}
    alpha: float = 0.1
    beta: float = 0.01

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """Minimise CE + alpha/2 ||theta_B - theta_B,S||^2 + beta/2 ||theta_H - theta_H,S||^2.

        theta_B are the weights of the backbone and theta_H those of the head.
        """
        model = source.copy()
        stiffness = {
            name: torch.tensor(self.beta if name.startswith("head.") else self.alpha)
            for name, _ in model.named_parameters()
        }
        return fit(model, target, run, penalties=[spring_penalty(model, stiffness)])


def spring_penalty(model: nn.Module, stiffness: Mapping[str, Tensor]) -> Callable[[Batch], Tensor]:
    """Return the penalty sum over i of s_i / 2 (theta_i - theta_0,i)^2 as a function of a batch.

    Args:
        model: the model, whose current parameters become theta_0.
        stiffness: s_i by parameter name, each a scalar or a tensor of the parameter's shape.
    """
    start = {name: value.detach().clone() for name, value in model.named_parameters()}

    def penalty(batch: Batch) -> Tensor:
        terms = [
            (stiffness[name].to(value.device) * (value - start[name]).square()).sum()
            for name, value in batch.model.named_parameters()
        ]
        return torch.stack(terms).sum() / 2

    return penalty
