"""Fine-tuning as shallow as leave-out local SGD."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from baselines.lolsgd import LOLSGD
from htbench import Method, Run, SourceModel, TargetData, fit


@dataclass(frozen=True)
class FinetuneShort(Method):
    """Fine-tune for as many steps as ``lolsgd`` takes one after the other.

    This suite's own control: ``lolsgd`` spreads the recipe's T steps over M local models, so its
    weights are only T / M steps deep, and shallow training alone does less harm. The cosine runs
    over these steps.
    """

    name = "finetune-short"
    local_models: int = LOLSGD.local_models

    def __post_init__(self) -> None:
        if self.local_models < 1:
            raise ValueError(f"local_models is {self.local_models}; there must be one at least")

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """As fine-tuning, with T // M gradient steps (at least one)."""
        steps = max(1, run.recipe.steps // self.local_models)
        return fit(source.copy(), target, run, steps=steps)
