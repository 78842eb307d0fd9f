"""Beta moving average of the weights along training."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from baselines.averaging import Mean
from baselines.bn_stats import reestimate
from htbench import Method, Run, SourceModel, TargetData, fit


@dataclass(frozen=True)
class BMA(Method):
    """Fine-tune, and average the weights of all steps, those of the first and last steps most.

    Shu et al., "CLIPood: Generalizing CLIP to Out-of-Distributions", ICML 2023 (arXiv 2302.00864):
    the weights after step t of T, the source model's (t = 0) included, count as the density of the
    distribution Beta(beta, beta) at (t + 0.5) / (T + 1), with beta = 0.5, as released
    (thuml/CLIPood, main.py and engine.py). The paper's loss, a margin in the text features of CLIP,
    has no counterpart here and is replaced by that of ``finetune``. This suite's choice: the
    BatchNorm statistics of the mean are recomputed as in ``swa``; the paper's network has none.
    """

    name = "bma"
    search = {"beta": (0.5, 1.0, 2.0)}
    beta: float = 0.5

    def __post_init__(self) -> None:
        if self.beta <= 0:
            raise ValueError(f"beta is {self.beta}; it must be positive")

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """Return the mean of theta_t, weighted by density(t), over t = 0, ..., T."""
        steps = run.recipe.steps
        model = source.copy()
        mean = Mean()
        mean.add(model.state_dict(), self.density(0, steps))
        fit(
            model,
            target,
            run,
            after_step=lambda step: mean.add(model.state_dict(), self.density(step, steps)),
        )
        model.load_state_dict(mean.state)
        return reestimate(model, target, run, augmented=True)

    def density(self, step: int, steps: int) -> float:
        """The density at a step, without the constant that all steps share."""
        share = (step + 0.5) / (steps + 1)
        return float((share * (1 - share)) ** (self.beta - 1))
