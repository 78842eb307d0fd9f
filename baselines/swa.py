"""Stochastic weight averaging."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from baselines.averaging import Mean
from baselines.bn_stats import reestimate
from htbench import Method, Run, SourceModel, TargetData, cosine, fit


@dataclass(frozen=True)
class SWA(Method):
    """Fine-tune, and average the weights over the last quarter of training, once per epoch.

    Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", UAI 2018
    (arXiv 1803.05407), algorithm 1 with a constant rate: averaging starts after 75 % of the steps,
    with one snapshot per epoch, and the BatchNorm statistics are recomputed for the mean. This
    suite's choices: the learning rate follows the recipe's cosine until averaging starts, and is
    then constant at 0.15 times the initial rate; and the BatchNorm statistics are pooled as in
    ``bn-stats``, over one pass of images with the training augmentation (as in the authors' code,
    which reads its training batches).
    """

    name = "swa"
    search = {"start": (0.5, 0.75)}
    start: float = 0.75
    epochs: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.start <= 1 or self.epochs <= 0:
            raise ValueError(
                f"start is {self.start} and epochs is {self.epochs}; start must be between 0 and "
                "1, and epochs must be positive"
            )

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """Return the mean of theta_t over t = s, s + c, s + 2c, ... <= T = recipe steps."""
        steps = run.recipe.steps
        snapshots = self.snapshot_steps(steps, len(target), run.recipe.batch_size)
        model = source.copy()
        mean = Mean()

        def average(step: int) -> None:
            if step in snapshots:
                mean.add(model.state_dict())

        def rate(step: int) -> float:
            return cosine(min(step, snapshots.start), steps)

        fit(model, target, run, rate=rate, after_step=average)
        model.load_state_dict(mean.state)
        return reestimate(model, target, run, augmented=True)

    def snapshot_steps(self, steps: int, images: int, batch_size: int) -> range:
        """Return the steps after which the weights are added to the mean; there is at least one."""
        epoch = max(1, images // batch_size)  # the last partial batch is dropped
        return range(
            max(1, round(self.start * steps)), steps + 1, max(1, round(self.epochs * epoch))
        )
