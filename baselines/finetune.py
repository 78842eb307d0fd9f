"""Plain fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from htbench import Method, Run, SourceModel, TargetData, fit


@dataclass(frozen=True)
class Finetune(Method):
    """Cross-entropy over all C columns on seen target data; every parameter trains.

    The baseline of Tu et al., "Holistic Transfer", NeurIPS 2023: it lifts the seen classes and
    destroys the missing ones.
    """

    name = "finetune"

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """min over theta of the mean of CE(z(x), y) over seen (x, y), from theta_S."""
        return fit(source.copy(), target, run)
