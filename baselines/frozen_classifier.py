"""Fine-tuning with a frozen classifier."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from htbench import Method, Run, SourceModel, TargetData, fit


@dataclass(frozen=True)
class FrozenClassifier(Method):
    """Fine-tune the backbone and freeze the classifier, so missing classes keep their weights.

    Tu et al., "Holistic Transfer", NeurIPS 2023 (arXiv 2311.01420), study it as the simplest way to
    preserve the relations between classes.
    """

    name = "frozen-classifier"
    search = {}

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """Minimise the loss of ``finetune`` in the backbone, with the head fixed at W_S, b_S."""
        model = source.copy()
        return fit(model, target, run, train=model.backbone)
