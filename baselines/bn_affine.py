"""Fine-tuning of the BatchNorm layers alone."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from baselines.bn_stats import require_batch_norm
from htbench import Method, Run, SourceModel, TargetData, fit


@dataclass(frozen=True)
class BNAffine(Method):
    """Train scale and shift of the BatchNorm layers and let their statistics follow the target.

    Frankle et al., "Training BatchNorm and Only BatchNorm", ICLR 2021 (arXiv 2003.00152), on
    random networks. This suite's choice: every other weight stays at the source's, and the
    recipe and its augmentation are those of fine-tuning.
    """

    name = "bn-affine"
    needs = ("a BatchNorm layer",)

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """min over every layer's scale and shift of the mean of CE(z(x), y) over seen (x, y)."""
        model = source.copy()
        return fit(model, target, run, train=nn.ModuleList(require_batch_norm(model)))
