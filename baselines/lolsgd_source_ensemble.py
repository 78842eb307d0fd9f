"""Leave-out local SGD, averaged with the source model in the space of predictions."""

from __future__ import annotations

from dataclasses import dataclass

from baselines.source_ensemble import SourceEnsemble


@dataclass(frozen=True)
class LOLSGDSourceEnsemble(SourceEnsemble):
    """Predict with the mean of the source's and the ``lolsgd`` model's probabilities.

    z = log((softmax(z_S) + softmax(z_lolsgd)) / 2): a combination that Tu et al., "Holistic
    Transfer", NeurIPS 2023 (arXiv 2311.01420), study; this suite's choices are those of
    ``source-ensemble`` and of ``lolsgd``.
    """

    name = "lolsgd-source-ensemble"
    base = "lolsgd"
