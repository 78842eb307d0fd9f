"""Generalized logit adjustment: an ensemble of source and fine-tuned model without priors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from htbench import Method, Run, SourceModel, TargetData


@dataclass(frozen=True)
class GLA(Method):
    """Add the logits of the source and the fine-tuned model, and subtract the log of the priors.

    Zhu et al., "Generalized Logit Adjustment: Calibrating Fine-tuned Models by Removing Label Bias
    in Foundation Models", NeurIPS 2023 (arXiv 2310.08106). The formula is the paper's; the authors'
    code (BeierZhu/GLA) is in archives that we have not compared with. The fine-tuned model's prior
    is that of its training images; the paper estimates the other model's prior from labelled images
    of all classes. Here only images of seen classes are available, and every class takes part in
    training the source model. So this suite's choices are a uniform prior of the source model and,
    for the fine-tuned one, at least ``floor`` images of every class, since with a prior of 0 every
    prediction would be a missing class. Each prediction needs a forward pass of both networks.
    """

    name = "gla"
    base = "finetune"
    search = {"floor": (0.1, 1.0, 10.0)}
    floor: float = 1.0

    def __post_init__(self) -> None:
        if self.floor <= 0:
            raise ValueError(f"floor is {self.floor}; it must be positive")

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> AdjustedSum:
        """Return z = z_S + z_finetune - log p with p_c = max(n_c, floor) / sum of these."""
        assert run.base is not None
        counts = torch.bincount(target.labels, minlength=len(target.classes))
        images = counts.to(torch.float32).clamp(min=self.floor)
        return AdjustedSum(source.copy(), run.base, -(images / images.sum()).log())


class AdjustedSum(nn.Module):
    """The sum of the logits of two models and a constant for each class."""

    shift: Tensor

    def __init__(self, one: nn.Module, two: nn.Module, shift: Tensor) -> None:
        super().__init__()
        self.one, self.two = one, two
        self.register_buffer("shift", shift)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, C) of transformed images (N, 3, H, W)."""
        total: Tensor = self.one(images) + self.two(images) + self.shift
        return total
