"""Fine-tuning for as few sequential steps as leave-out local SGD."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from baselines.lolsgd import LOLSGD
from htbench import Method, Run, SourceModel, TargetData, fit


@dataclass(frozen=True)
class FinetuneShort(Method):
    """Fine-tune for only as many steps as ``lolsgd`` takes in sequence.

    A control of this suite: ``lolsgd`` distributes the recipe's T steps over M local models, so
    only T / M of them are sequential, and shorter training alone already does less harm. The cosine
    schedule covers these T / M steps.
    """

    name = "finetune-short"
    search = {}
    local_models: int = LOLSGD.local_models

    def __post_init__(self) -> None:
        if self.local_models < 1:
            raise ValueError(f"local_models is {self.local_models}; it must be at least 1")

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """Minimise the loss of ``finetune`` by T // M gradient steps (at least one)."""
        steps = max(1, run.recipe.steps // self.local_models)
        return fit(source.copy(), target, run, steps=steps)
