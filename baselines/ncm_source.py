"""Nearest class mean in the source model's features: the reference for ``ncm``."""

from __future__ import annotations

from dataclasses import dataclass

from baselines.ncm import NCM
from htbench import Classifier, Run, SourceModel


@dataclass(frozen=True)
class NCMSource(NCM):
    """Nearest class mean in the source model's features, using target images of all classes.

    The same as ``ncm``, with f_S instead of f. If ``ncm`` scores higher on missing
    classes, then fine-tuning on seen classes has also improved the features of missing classes, as
    Mai et al., "Fine-Tuning is Fine, if Calibrated", NeurIPS 2024 (arXiv 2409.16223), observe.
    """

    name = "ncm-source"
    base = None

    def network(self, source: SourceModel, run: Run) -> Classifier:
        """Return the source model."""
        return source.copy()
