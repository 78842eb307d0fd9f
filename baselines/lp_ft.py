"""Linear probing, then fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from htbench import Method, Run, SourceModel, TargetData, fit


@dataclass(frozen=True)
class LPFT(Method):
    """Fine-tune everything, from the head that linear probing has found.

    Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform
    Out-of-Distribution", ICLR 2022 (arXiv 2202.10054): with a head that fits already, the features
    move less. This suite's choice: each of the two stages is the recipe's steps long, and the probe
    is the row ``linear-probe``.
    """

    name = "lp-ft"
    base = "linear-probe"

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """min over theta of the mean of CE(z(x), y), from theta_S with the probe's W, b."""
        assert run.base is not None
        return fit(run.base.copy(), target, run)
