"""A new classifier on the source model's features."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from htbench import Method, Run, SourceModel, TargetData, fit_head


@dataclass(frozen=True)
class LinearProbe(Method):
    """Train the classifier alone, on features of the source model that never change.

    The usual probe of a representation (Alain and Bengio, 2016, arXiv 1610.01644). This suite's
    choices: the head starts from the source's, and the features are cached, so that there is no
    augmentation and BatchNorm normalises by the source's statistics and leaves them alone.
    """

    name = "linear-probe"
    uses_features = True

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """min over W, b of the mean of CE(W f_S(x) + b, y) over seen (x, y), from W_S, b_S."""
        return fit_head(source.copy(), target, run)
