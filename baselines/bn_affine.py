"""Fine-tuning of the BatchNorm layers only."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from baselines.bn_stats import require_batch_norm
from htbench import Method, Run, SourceModel, TargetData, fit


@dataclass(frozen=True)
class BNAffine(Method):
    """Train only the scale and shift of BatchNorm layers; their statistics follow the target.

    After Frankle et al., "Training BatchNorm and Only BatchNorm", ICLR 2021 (arXiv 2003.00152), who
    train these parameters in networks with random weights. This suite's choices: all other weights
    are the source model's, and the recipe and the augmentation are those of ``finetune``.
    """

    name = "bn-affine"
    needs = ("a BatchNorm layer",)
    search = {}

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """Minimise the mean of CE(z(x), y) over seen (x, y), over all scales and shifts."""
        model = source.copy()
        return fit(model, target, run, train=nn.ModuleList(require_batch_norm(model)))
