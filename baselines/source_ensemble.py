"""An ensemble of the source model and the fine-tuned model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from htbench import Method, Run, SourceModel, TargetData


@dataclass(frozen=True)
class SourceEnsemble(Method):
    """Predict with the mean of the probabilities of the source and the fine-tuned model.

    Studied by Tu et al., "Holistic Transfer", NeurIPS 2023 (arXiv 2311.01420). Equally weighted
    ensembles follow Lakshminarayanan et al., "Simple and Scalable Predictive Uncertainty Estimation
    Using Deep Ensembles", NeurIPS 2017 (arXiv 1612.01474). This suite's choice: softmaxes over all
    C columns at temperature 1. Each prediction needs a forward pass of both networks.
    """

    name = "source-ensemble"
    base = "finetune"
    search = {}

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> Ensemble:
        """Return z = log((softmax(z_S) + softmax(z_finetune)) / 2)."""
        assert run.base is not None
        return Ensemble(source.copy(), run.base)


class Ensemble(nn.Module):
    """The logarithm of the mean probabilities of several models."""

    def __init__(self, *models: nn.Module) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(self, images: Tensor) -> Tensor:
        """Return log-probabilities (N, C) of transformed images (N, 3, H, W)."""
        log_probabilities = torch.stack([model(images).log_softmax(dim=1) for model in self.models])
        return log_probabilities.logsumexp(dim=0) - math.log(len(self.models))
