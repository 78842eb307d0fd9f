"""Low-rank adaptation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization, remove_parametrizations

from htbench import Classifier, Method, Run, SourceModel, TargetData, fit


@dataclass(frozen=True)
class LoRA(Method):
    """Train low-rank changes of the backbone's weights, and the head.

    Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022 (arXiv 2106.09685),
    equation 3. This suite's choices: every linear and convolution layer of the backbone is adapted
    (a kernel as a matrix with a row for each output channel; an attention's queries, keys and
    values as one), all else in it stands still, BatchNorm's statistics too; the head trains as a
    whole; rank and alpha are 8, since at an alpha of 16 SGD at the recipe of icons diverges. At the
    end the changes are added to the weights, so that the network is the source's.
    """

    name = "lora"
    rank: int = 8
    alpha: float = 8.0

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank is {self.rank}; it must be at least 1")

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """W = W_S + (alpha / r) B A with B (out, r) = 0 and A (r, in) random at the start."""
        model = source.copy()
        weights = adapted_weights(model)
        for layer, name in weights:
            weight = getattr(layer, name)
            change = LowRank(weight, self.rank, self.alpha, run.stream("method"))
            register_parametrization(layer, name, change)
        changes = nn.ModuleList(m for m in model.modules() if isinstance(m, LowRank))
        fit(model, target, run, train=nn.ModuleList([changes, model.head]))
        for layer, name in weights:
            remove_parametrizations(layer, name, leave_parametrized=True)
        return model


def adapted_weights(model: Classifier) -> list[tuple[nn.Module, str]]:
    """The layers of a backbone that are adapted, each with the name of its weight."""
    found: list[tuple[nn.Module, str]] = []
    for layer in model.backbone.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            found.append((layer, "weight"))
        elif isinstance(layer, nn.MultiheadAttention):
            found.append((layer, "in_proj_weight"))  # of queries, keys and values together
    return found


class LowRank(nn.Module):
    """Adds (alpha / r) B A to a weight, whose first dimension is that of the outputs.

    Args:
        weight: (out, ...).
        rank: r; ``alpha``: a larger one makes the same B and A count more.
        generator: draws A as a linear layer's weight is drawn (Kaiming uniform).
    """

    def __init__(self, weight: Tensor, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        wide = weight[0].numel()
        bound = 1 / math.sqrt(wide)
        drawn = (2 * torch.rand(rank, wide, generator=generator) - 1) * bound
        self.down = nn.Parameter(drawn.to(weight.device))
        self.up = nn.Parameter(torch.zeros(len(weight), rank, device=weight.device))
        self.scale = alpha / rank

    def forward(self, weight: Tensor) -> Tensor:
        """The changed weight, in the shape of the weight."""
        return weight + self.scale * (self.up @ self.down).view(weight.shape)
