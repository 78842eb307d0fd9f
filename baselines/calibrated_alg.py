"""Fine-tuning, then a constant added to the missing classes' logits (ALG)."""

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
    """Fine-tuning plus gamma on the missing classes, gamma the average logit gap on seen data.

    Mai et al., "Fine-Tuning is Fine, if Calibrated", NeurIPS 2024 (arXiv 2409.16223). Gamma uses
    seen *training* samples only, in evaluation mode with the evaluation transform; the released
    code feeds it test logits and labels, which is a leak and not copied.
    """

    name = "calibrated-alg"
    base = "finetune"
    needs = ("two seen classes", "a missing class")

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """argmax over c of z_c + gamma * 1(c in U).

        gamma = mean over seen (x, y) of mean_{c in S, c != y} z_c(x) - mean_{c in U} z_c(x).
        """
        assert run.base is not None
        logits = predict(run.base, target.images, run)
        gamma = average_logit_gap(logits, target.labels, target.seen)
        run.log(gamma=gamma)
        return Calibrated(run.base, ~target.seen, gamma)


class Calibrated(nn.Module):
    """A classifier with a constant added to some columns.

    Args:
        model: the classifier.
        columns: bool (C,), which columns it is added to.
        gamma: the constant.
    """

    def __init__(self, model: Classifier, columns: Tensor, gamma: float) -> None:
        super().__init__()
        self.model = model
        self.shift: Tensor
        self.register_buffer("shift", gamma * columns.to(torch.float32))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, C)."""
        out: Tensor = self.model(images) + self.shift
        return out


def average_logit_gap(logits: Tensor, labels: Tensor, seen: Tensor) -> float:
    """Mean over samples of (mean of z_c over seen c other than the label) - (mean over missing c).

    Args:
        logits: float (N, C); ``labels``: int64 (N,), all of seen classes; ``seen``: bool (C,).

    Raises:
        NotApplicable: with fewer than two seen classes, or no missing one, the gap is not defined.
    """
    count = int(seen.sum())
    if count < 2 or count == len(seen):
        raise NotApplicable(
            f"the average logit gap needs two seen classes and a missing one; there are {count} "
            f"seen and {len(seen) - count} missing"
        )
    values = logits.double()
    own = values.gather(1, labels.unsqueeze(1)).squeeze(1)
    others = (values[:, seen].sum(dim=1) - own) / (count - 1)
    return float((others - values[:, ~seen].mean(dim=1)).mean())
