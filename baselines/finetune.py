"""Plain fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from htbench import Method, Run, SourceModel, TargetData, fit


@dataclass(frozen=True)
class Finetune(Method):
    """Fine-tune all parameters with cross-entropy over all C classes, on seen target data.

    The baseline of Tu et al., "Holistic Transfer", NeurIPS 2023 (arXiv 2311.01420): accuracy rises
    on seen classes and collapses on missing ones.
    """

    name = "finetune"
    search = {}

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """Minimise the mean of CE(z(x), y) over seen (x, y), in theta, from theta_S."""
        return fit(source.copy(), target, run)
