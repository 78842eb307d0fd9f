"""A classifier trained on the source model's frozen features."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from htbench import Method, Run, SourceModel, TargetData, fit_head


@dataclass(frozen=True)
class LinearProbe(Method):
    """Train only the classifier, on the frozen features of the source model.

    The standard probe of a representation: Alain and Bengio, "Understanding Intermediate Layers
    Using Linear Classifier Probes", 2016 (arXiv 1610.01644). This suite's choices: training starts
    from the source model's head, and features are computed once, so images are not augmented and
    BatchNorm uses the source model's statistics.
    """

    name = "linear-probe"
    uses_features = True
    search = {}

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """Minimise the mean of CE(W f_S(x) + b, y) over seen (x, y), in W and b, from W_S, b_S."""
        return fit_head(source.copy(), target, run)
