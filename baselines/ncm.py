"""Nearest class mean: evaluates the fine-tuned features independently of the classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from htbench import Classifier, Method, Run, SourceModel, TargetData, predict

NO_IMAGES = -2.0  # score of a class without images: below every cosine


@dataclass(frozen=True)
class NCM(Method):
    """Nearest class mean in the fine-tuned features, using target images of all classes.

    Mai et al., "Fine-Tuning is Fine, if Calibrated", NeurIPS 2024 (arXiv 2409.16223), evaluate
    features this way, with the classifier of Mensink et al., "Distance-Based Image Classification:
    Generalizing to New Classes at Near-Zero Cost", TPAMI 2013. With g(x) = f(x) / ||f(x)||, the
    mean of a class is the mean of g over its training images, normalised again.
    The method uses training images of missing classes, so it shows the potential of the features
    and is not ranked. This suite's choices: features use the evaluation transform, and a class
    without training images is never predicted.
    """

    name = "ncm"
    base: ClassVar[str | None] = "finetune"
    track = "oracle"
    needs = ("training images of missing classes",)

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> NearestMean:
        """Return z_c = cos(f(x), m_c), where m_c is the normalised mean of g(x) over class c."""
        model = self.network(source, run)
        all_classes = target.with_missing()
        features = predict(model.backbone, all_classes.images, run)
        return NearestMean(model, class_means(features, all_classes.labels, len(target.classes)))

    def network(self, source: SourceModel, run: Run) -> Classifier:
        """Return the model whose features are used: the fine-tuned one."""
        assert run.base is not None
        return run.base


class NearestMean(nn.Module):
    """A classifier whose logits are the cosines between features and class means.

    Args:
        model: the model that computes the features.
        means: float32 (C, d), rows of length 1; a row of zeros for a class without images.
    """

    def __init__(self, model: Classifier, means: Tensor) -> None:
        super().__init__()
        self.model = model
        self.means: Tensor
        self.register_buffer("means", means)

    def forward(self, images: Tensor) -> Tensor:
        """Return cosines (N, C) of transformed images (N, 3, H, W)."""
        cosines = F.normalize(self.model.features(images), dim=1) @ self.means.T
        return cosines.masked_fill(~self.means.any(dim=1), NO_IMAGES)


def class_means(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return the normalised mean of the normalised features of every class.

    Args:
        features: float (N, d).
        labels: int64 (N,).
        classes: the number of classes C.

    Returns:
        float32 (C, d), with zeros for a class without samples.
    """
    unit = F.normalize(features.double(), dim=1)
    one_hot = F.one_hot(labels, classes).double()
    # The sum suffices: it has the direction of the mean.
    return F.normalize(one_hot.T @ unit, dim=1).to(torch.float32)
