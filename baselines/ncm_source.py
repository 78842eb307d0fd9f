"""Nearest class mean in the features of the source model: what ``ncm`` is to be compared with."""

from __future__ import annotations

from dataclasses import dataclass

from baselines.ncm import NCM
from htbench import Classifier, Run, SourceModel


@dataclass(frozen=True)
class NCMSource(NCM):
    """Nearest class mean in the source model's features, with target images of all classes.

    As ``ncm``, with f_S in the place of f: where ``ncm`` is above it, fine-tuning on some classes
    made the features better for the others too, which is the finding of Mai et al., "Fine-Tuning
    is Fine, if Calibrated", NeurIPS 2024 (arXiv 2409.16223).
    """

    name = "ncm-source"
    base = None

    def network(self, source: SourceModel, run: Run) -> Classifier:
        """The source model."""
        return source.copy()
