"""Calibration of a fine-tuned model by the average logit gap (ALG)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from htbench import (
    Classifier,
    Method,
    NotApplicable,
    Run,
    SourceModel,
    TargetData,
    predict,
)


@dataclass(frozen=True)
class CalibratedALG(Method):
    """Fine-tune, then add gamma, the average logit gap on seen data, to the missing-class logits.

    Mai et al., "Fine-Tuning is Fine, if Calibrated", NeurIPS 2024 (arXiv 2409.16223). Gamma is
    computed on seen *training* images only, with the evaluation transform. (The released code
    computes it on test logits and labels, which leaks test data.)
    """

    name = "calibrated-alg"
    base = "finetune"
    needs = ("at least two seen classes", "a missing class")
    search = {}

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> Calibrated:
        """Predict argmax over c of z_c + gamma * 1(c in U), for seen classes S and missing U.

        gamma = mean over seen (x, y) of mean_{c in S, c != y} z_c(x) - mean_{c in U} z_c(x).
        """
        assert run.base is not None
        logits = predict(run.base, target.images, run)
        gamma = average_logit_gap(logits, target.labels, target.seen)
        run.log(gamma=gamma)
        return Calibrated(run.base, ~target.seen, gamma)


class Calibrated(nn.Module):
    """A classifier that adds a constant to some of its logits.

    Args:
        model: the classifier.
        columns: bool (C,), the columns to shift.
        gamma: the constant.
    """

    def __init__(self, model: Classifier, columns: Tensor, gamma: float) -> None:
        super().__init__()
        self.model = model
        self.shift: Tensor
        self.register_buffer("shift", gamma * columns.to(torch.float32))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, C) of transformed images (N, 3, H, W)."""
        logits: Tensor = self.model(images) + self.shift
        return logits


def average_logit_gap(logits: Tensor, labels: Tensor, seen: Tensor) -> float:
    """Return the mean gap between the logits of wrong seen classes and of missing classes.

    It is the mean over samples of (mean of z_c over seen c other than the label) - (mean of z_c
    over missing c). Mai et al., "Fine-Tuning is Fine, if Calibrated", NeurIPS 2024.

    Args:
        logits: float (N, C).
        labels: int64 (N,), seen classes only.
        seen: bool (C,).

    Raises:
        NotApplicable: there are fewer than two seen classes, or no missing class.
    """
    count = int(seen.sum())
    if count < 2 or count == len(seen):
        raise NotApplicable(
            f"the average logit gap needs at least two seen classes and one missing class; the "
            f"task has {count} seen and {len(seen) - count} missing"
        )
    values = logits.double()
    at_label = values.gather(1, labels.unsqueeze(1)).squeeze(1)
    others = (values[:, seen].sum(dim=1) - at_label) / (count - 1)
    return float((others - values[:, ~seen].mean(dim=1)).mean())
