"""Interpolation between the source and the fine-tuned model in weight space."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from baselines.averaging import interpolate_
from htbench import Method, Run, SourceModel, TargetData


@dataclass(frozen=True)
class WiSEFT(Method):
    """Interpolate weights between the source (alpha = 0) and the fine-tuned model (alpha = 1).

    Wortsman et al., "Robust Fine-Tuning of Zero-Shot Models", CVPR 2022 (arXiv 2109.01903), who
    recommend alpha = 0.5 if it cannot be tuned. This suite's choice: BatchNorm's running mean and
    variance are interpolated like weights; counters are the fine-tuned model's.
    """

    name = "wise-ft"
    base = "finetune"
    search = {"alpha": (0.25, 0.5, 0.75)}
    alpha: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha is {self.alpha}; it must be between 0 and 1")

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """Return a model with theta = (1 - alpha) theta_S + alpha theta_finetune."""
        assert run.base is not None
        model = source.copy()
        interpolate_(model.state_dict(), run.base.state_dict(), self.alpha)
        return model
