"""Fine-tuning on target data of all classes: an upper bound."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from htbench import Method, Run, SourceModel, TargetData, fit


@dataclass(frozen=True)
class OracleFinetune(Method):
    """Fine-tune on the target's training data of all classes, missing ones too.

    The upper bound of Tu et al., "Holistic Transfer", NeurIPS 2023 (arXiv 2311.01420): no user has
    these data, so it is shown and never ranked. The recipe is that of fine-tuning: the same number
    of steps over more images.
    """

    name = "oracle-finetune"
    track = "oracle"
    needs = ("training images of missing classes",)

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """min over theta of the mean of CE(z(x), y) over seen and missing (x, y), from theta_S."""
        return fit(source.copy(), target.with_missing(), run)
