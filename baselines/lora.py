"""Low-rank adaptation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization, remove_parametrizations

from htbench import Classifier, Method, Run, SourceModel, TargetData, fit


@dataclass(frozen=True)
class LoRA(Method):
    """Train low-rank updates of the backbone's weights, and the head.

    Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022 (arXiv 2106.09685),
    equation 3. This suite's choices: all linear and convolutional layers of the backbone get an
    update (convolution kernels are treated as matrices with one row per output channel; an
    attention layer has one update for queries, keys and values together). Everything else in the
    backbone is frozen, except for BatchNorm's statistics, which follow the target as they do for
    other trained methods (``batch_norm="frozen"`` keeps the source's); the whole head trains; rank
    and alpha are both 8, because with the recipe of icons, SGD diverges for alpha = 16. At the end,
    the updates are merged into the weights, so the network has the source model's architecture.
    """

    name = "lora"
    search = {"alpha": (2.0, 8.0, 32.0)}
    rank: int = 8
    alpha: float = 8.0
    batch_norm: str = "update-all"

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank is {self.rank}; it must be at least 1")
        if self.batch_norm not in ("update-all", "frozen"):
            raise ValueError(f"batch_norm is {self.batch_norm!r}; it must be update-all or frozen")

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """Train W = W_S + (alpha / r) B A, with B (out, r) starting at 0, A (r, in) at random."""
        model = source.copy()
        weights = adapted_weights(model)
        for layer, name in weights:
            weight = getattr(layer, name)
            update = LowRank(weight, self.rank, self.alpha, run.stream("method"))
            register_parametrization(layer, name, update)
        updates = nn.ModuleList(m for m in model.modules() if isinstance(m, LowRank))
        trained = nn.ModuleList([updates, model.head])
        statistics: Any = self.batch_norm
        fit(model, target, run, train=trained, batch_norm=statistics)
        for layer, name in weights:
            remove_parametrizations(layer, name, leave_parametrized=True)
        return model


def adapted_weights(model: Classifier) -> list[tuple[nn.Module, str]]:
    """Return the layers of the backbone that get an update, each with its weight's name."""
    weights: list[tuple[nn.Module, str]] = []
    for layer in model.backbone.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            weights.append((layer, "weight"))
        elif isinstance(layer, nn.MultiheadAttention):
            weights.append((layer, "in_proj_weight"))  # queries, keys and values
    return weights


class LowRank(nn.Module):
    """A parametrization that adds (alpha / r) B A to a weight.

    Args:
        weight: the weight, (out, ...), whose first dimension is the outputs.
        rank: r.
        alpha: scale of the update.
        generator: a CPU generator, used to initialise A like a linear layer's weight (Kaiming
            uniform).
    """

    def __init__(self, weight: Tensor, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        inputs = weight[0].numel()
        bound = 1 / math.sqrt(inputs)
        uniform = (2 * torch.rand(rank, inputs, generator=generator) - 1) * bound
        self.down = nn.Parameter(uniform.to(weight.device))
        self.up = nn.Parameter(torch.zeros(len(weight), rank, device=weight.device))
        self.scale = alpha / rank

    def forward(self, weight: Tensor) -> Tensor:
        """Return the updated weight, in the shape of ``weight``."""
        return weight + self.scale * (self.up @ self.down).view(weight.shape)
