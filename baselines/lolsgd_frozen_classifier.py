"""Leave-out local SGD under a frozen classifier."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from baselines.lolsgd import LOLSGD
from htbench import Classifier


@dataclass(frozen=True)
class LOLSGDFrozenClassifier(LOLSGD):
    """Leave-out local SGD whose local models train the backbone alone.

    A combination that Tu et al., "Holistic Transfer", NeurIPS 2023 (arXiv 2311.01420), study; all
    else, this suite's choices included, is as in ``lolsgd``.
    """

    name = "lolsgd-frozen-classifier"

    def part(self, model: Classifier) -> nn.Module:
        """min over the backbone of the mean of CE(z(x), y), the head held at W_S, b_S."""
        return model.backbone
