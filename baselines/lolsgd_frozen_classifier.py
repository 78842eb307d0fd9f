"""Leave-out local SGD under a frozen classifier."""

from __future__ import annotations

from dataclasses import dataclass

from baselines.lolsgd import LOLSGD
from benchmark import Classifier, Run, SourceModel, TargetData, fit


@dataclass(frozen=True)
class LOLSGDFrozenClassifier(LOLSGD):
    """Leave-out local SGD whose local models train the backbone alone.

    A combination that Tu et al., "Holistic Transfer", NeurIPS 2023 (arXiv 2311.01420), study; all
    else, this suite's choices included, is as in ``lolsgd``.
    """

    name = "lolsgd-frozen-classifier"

    def train_locally(
        self, model: Classifier, source: SourceModel, target: TargetData, run: Run, factor: float
    ) -> None:
        """min over the backbone of the mean of CE(z(x), y), the head held at W_S, b_S."""
        fit(
            model,
            target,
            run,
            train=model.backbone,
            steps=self.local_steps,
            rate=lambda _: factor,
        )
