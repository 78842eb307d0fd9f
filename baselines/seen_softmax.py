"""Fine-tuning with a softmax over the seen classes only."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from baselines.balanced_softmax import balanced_cross_entropy
from htbench import Method, Run, SourceModel, TargetData, fit


@dataclass(frozen=True)
class SeenSoftmax(Method):
    """Fine-tune with cross-entropy over the seen columns; missing logits play no part in the loss.

    The control of ``balanced-softmax``: the same loss without the log of the classes' counts. Which
    part of that method's gain comes from masking the missing classes, and which from balancing?
    """

    name = "seen-softmax"
    search = {}

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """Minimise the mean of CE(z[S], y) over seen (x, y), in theta, from theta_S."""
        return fit(source.copy(), target, run, loss=balanced_cross_entropy(target.seen.long()))
