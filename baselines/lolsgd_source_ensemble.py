"""An ensemble of the source model and leave-out local SGD."""

from __future__ import annotations

from dataclasses import dataclass

from baselines.source_ensemble import SourceEnsemble


@dataclass(frozen=True)
class LOLSGDSourceEnsemble(SourceEnsemble):
    """Predict with the mean of the probabilities of the source and the ``lolsgd`` model.

    z = log((softmax(z_S) + softmax(z_lolsgd)) / 2), one of the combinations studied by Tu et al.,
    "Holistic Transfer", NeurIPS 2023 (arXiv 2311.01420). This suite's choices are those of
    ``source-ensemble`` and ``lolsgd``.
    """

    name = "lolsgd-source-ensemble"
    base = "lolsgd"
    search = {}
