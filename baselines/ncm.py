"""Nearest class mean: how good the features of fine-tuning are, whatever its classifier says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from htbench import Classifier, Method, Run, SourceModel, TargetData, predict

NEVER = -2.0  # of a class without an image: below every cosine


@dataclass(frozen=True)
class NCM(Method):
    """Nearest class mean in the fine-tuned features, with target images of all classes.

    Mai et al., "Fine-Tuning is Fine, if Calibrated", NeurIPS 2024 (arXiv 2409.16223), diagnose
    features so; the classifier is that of Mensink et al., TPAMI 2013. With g(x) = f(x) / ||f(x)||,
    the mean of a class is that of g over its training images, normalised again. It is given the
    missing classes' training images, so it says what the features could do, and is never ranked.
    This suite's choices: features of the evaluation transform; a class without an image is never
    predicted.
    """

    name = "ncm"
    base: ClassVar[str | None] = "finetune"
    track = "oracle"
    needs = ("training images of missing classes",)

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """z_c = cos(f(x), m_c), m_c the normalised mean of g(x) over the images of class c."""
        model = self.network(source, run)
        everything = target.with_missing()
        features = predict(model.backbone, everything.images, run)
        return NearestMean(model, class_means(features, everything.labels, len(target.classes)))

    def network(self, source: SourceModel, run: Run) -> Classifier:
        """Whose features are diagnosed."""
        assert run.base is not None
        return run.base


class NearestMean(nn.Module):
    """Cosines of features to class means.

    Args:
        model: gives the features.
        means: (C, d), of length 1, or 0 where there is no mean.
    """

    def __init__(self, model: Classifier, means: Tensor) -> None:
        super().__init__()
        self.model = model
        self.means: Tensor
        self.register_buffer("means", means)

    def forward(self, images: Tensor) -> Tensor:
        """Cosines (N, C)."""
        cosines = F.normalize(self.model.features(images), dim=1) @ self.means.T
        return cosines.masked_fill(~self.means.any(dim=1), NEVER)


def class_means(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """The normalised mean of the normalised features of every class.

    Args:
        features: float (N, d); ``labels``: int64 (N,).
        classes: C.

    Returns:
        float32 (C, d); 0 for a class without a sample.
    """
    unit = F.normalize(features.double(), dim=1)
    ones = F.one_hot(labels, classes).double()
    return F.normalize(ones.T @ unit, dim=1).to(torch.float32)  # a sum points where the mean does
