"""Fine-tuning of the backbone under a frozen classifier."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from htbench import Method, Run, SourceModel, TargetData, fit


@dataclass(frozen=True)
class FrozenClassifier(Method):
    """Fine-tune the backbone, leave the classifier alone: missing classes keep their weights.

    Tu et al., "Holistic Transfer", NeurIPS 2023, study it as the simplest way to keep the
    relations between classes.
    """

    name = "frozen-classifier"

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """As fine-tuning, with the head held at its source weights."""
        model = source.copy()
        return fit(model, target, run, train=model.backbone)
