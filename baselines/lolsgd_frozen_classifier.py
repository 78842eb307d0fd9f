"""Leave-out local SGD with a frozen classifier."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from baselines.lolsgd import LOLSGD
from htbench import Classifier


@dataclass(frozen=True)
class LOLSGDFrozenClassifier(LOLSGD):
    """Leave-out local SGD whose local models train the backbone only.

    One of the combinations studied by Tu et al., "Holistic Transfer", NeurIPS 2023 (arXiv
    2311.01420). This suite's choices are those of ``lolsgd``.
    """

    name = "lolsgd-frozen-classifier"

    def part(self, model: Classifier) -> nn.Module:
        """Return the backbone; the head is fixed at W_S, b_S."""
        return model.backbone
