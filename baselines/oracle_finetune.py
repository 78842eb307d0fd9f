"""Fine-tuning on target data of all classes: an upper bound."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from htbench import Method, Run, SourceModel, TargetData, fit


@dataclass(frozen=True)
class OracleFinetune(Method):
    """Fine-tune on the target's training data of all classes, including missing ones.

    The upper bound of Tu et al., "Holistic Transfer", NeurIPS 2023 (arXiv 2311.01420). In practice
    this data is not available, so the method is shown but not ranked. The recipe is that of
    ``finetune``: the same number of steps, on more images.
    """

    name = "oracle-finetune"
    track = "oracle"
    needs = ("training images of missing classes",)

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """Minimise the mean of CE(z(x), y) over seen and missing (x, y), in theta, from theta_S."""
        return fit(source.copy(), target.with_missing(), run)
