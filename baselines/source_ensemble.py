"""The source and the fine-tuned model, averaged in the space of predictions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from htbench import Method, Run, SourceModel, TargetData


@dataclass(frozen=True)
class SourceEnsemble(Method):
    """Predict with the mean of the source's and the fine-tuned model's probabilities.

    Tu et al., "Holistic Transfer", NeurIPS 2023 (arXiv 2311.01420), study it; ensembles of equal
    weights are those of Lakshminarayanan et al., NeurIPS 2017 (arXiv 1612.01474). This suite's
    choice: softmaxes over all C columns at temperature 1. Both networks are run to predict.
    """

    name = "source-ensemble"
    base = "finetune"

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """z = log((softmax(z_S) + softmax(z_finetune)) / 2)."""
        assert run.base is not None
        return Ensemble(source.copy(), run.base)


class Ensemble(nn.Module):
    """The logarithm of the mean of several models' probabilities."""

    def __init__(self, *models: nn.Module) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(self, images: Tensor) -> Tensor:
        """Log-probabilities (N, C)."""
        logs = torch.stack([model(images).log_softmax(dim=1) for model in self.models])
        return logs.logsumexp(dim=0) - math.log(len(self.models))
