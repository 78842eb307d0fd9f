"""Linear probing, then fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from htbench import Method, Run, SourceModel, TargetData, fit


@dataclass(frozen=True)
class LPFT(Method):
    """Fine-tune all parameters, starting from the head of ``linear-probe``.

    Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform
    Out-of-Distribution", ICLR 2022 (arXiv 2202.10054): if the head already fits, fine-tuning
    changes the features less. This suite's choices: each stage takes the recipe's number of steps,
    and the first stage is the run of ``linear-probe``.
    """

    name = "lp-ft"
    base = "linear-probe"
    search = {}

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """Minimise the mean of CE(z(x), y) over seen (x, y), from theta_S with the probe's W, b."""
        assert run.base is not None
        return fit(run.base.copy(), target, run)
