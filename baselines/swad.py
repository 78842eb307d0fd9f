"""Dense stochastic weight averaging over the flat part of training."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch.nn.functional as F
from torch import nn

from baselines.averaging import Mean
from baselines.bn_stats import reestimate
from htbench import (
    Method,
    NotApplicable,
    Run,
    SourceModel,
    TargetData,
    check_share,
    fit,
    predict,
)


@dataclass(frozen=True)
class SWAD(Method):
    """Fine-tune, and average the weights over all steps in the valley of the validation loss.

    Cha et al., "SWAD: Domain Generalization by Seeking Flat Minima", NeurIPS 2021 (arXiv
    2102.08604), algorithm 1 with the paper's N_s = 3, N_e = 6 and r = 1.3. Let E_i be the loss at
    evaluation i. The valley begins at the first s for which E_s is the minimum of E_s ...
    E_(s + N_s - 1). It ends before the first e from which N_e evaluations are all above r times the
    mean of those N_s.

    This suite's choices: 50 evaluations; a fifth of the training images of every seen class is held
    out for validation, and the rest is used for training as in ``finetune``, with its decreasing
    learning rate (constant in the paper); if no valley is found, the steps since the second-to-last
    evaluation are averaged and the leaderboard row has a note; and the BatchNorm statistics are
    recomputed for the mean, as in ``bn-stats`` (the paper freezes them).
    """

    name = "swad"
    needs = ("a seen class with at least two images",)
    search = {}
    converged: int = 3
    tolerated: int = 6
    ratio: float = 1.3
    evaluations: int = 50
    held_out: float = 0.2

    def __post_init__(self) -> None:
        if min(self.converged, self.tolerated, self.evaluations) < 1:
            raise ValueError(
                f"converged is {self.converged}, tolerated is {self.tolerated} and evaluations is "
                f"{self.evaluations}; all must be at least 1"
            )
        if self.ratio < 1:
            raise ValueError(f"ratio is {self.ratio}; it must be at least 1")
        check_share("held_out", self.held_out)

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """Return the mean of theta_t over the steps t of the valley."""
        train_rows, held_out_rows = target.hold_out(self.held_out, run.stream("method"))
        if not len(held_out_rows):
            raise NotApplicable(
                "every seen class has only one training image, so none can be held out for "
                "validation"
            )
        train, validation = target.rows(train_rows), target.rows(held_out_rows)
        steps = run.recipe.steps
        interval = max(1, math.ceil(steps / self.evaluations))
        valley = Valley(self.converged, self.tolerated, self.ratio)
        model, snapshot = source.copy(), source.copy()
        segment = Mean()

        def evaluate(step: int) -> None:
            nonlocal segment
            segment.add(model.state_dict())
            if step % interval == 0 or step == steps:
                snapshot.load_state_dict(model.state_dict())  # predict() would end training mode
                logits = predict(snapshot, validation.images, run)
                valley.add(segment, float(F.cross_entropy(logits, validation.labels)))
                segment = Mean()

        fit(model, train, run, after_step=evaluate)
        if not valley.has_begun:
            run.note(
                "no valley was found in the validation loss, so the steps since the second-to-last "
                "evaluation are averaged"
            )
        model.load_state_dict(valley.mean().state)
        return reestimate(model, target, run)


class Valley:
    """Finds the valley of the validation loss during training.

    A segment is the part of training between two evaluations. Only segments that
    are still undecided are kept, so memory use does not grow during training.

    Args:
        converged: N_s in the paper.
        tolerated: N_e in the paper.
        ratio: r in the paper.
    """

    def __init__(self, converged: int, tolerated: int, ratio: float) -> None:
        self._converged, self._tolerated, self._ratio = converged, tolerated, ratio
        self._undecided: list[tuple[float, Mean]] = []  # losses, and mean weights of the segments
        self._threshold: float | None = None
        self._has_ended = False
        self._mean = Mean()

    @property
    def has_begun(self) -> bool:
        """Return whether the valley has begun."""
        return self._threshold is not None

    def add(self, segment: Mean, loss: float) -> None:
        """Add the mean weights of a segment and the validation loss at its end."""
        if self._has_ended:
            return
        self._undecided.append((loss, segment))
        if self._threshold is None:
            self._begin()
        elif len(self._undecided) >= self._tolerated:
            self._decide(self._threshold)

    def _begin(self) -> None:
        del self._undecided[: -self._converged]
        losses = [loss for loss, _ in self._undecided]
        if len(losses) == self._converged and losses[0] == min(losses):
            self._threshold = self._ratio * sum(losses) / len(losses)
            while len(self._undecided) >= self._tolerated:
                self._decide(self._threshold)

    def _decide(self, threshold: float) -> None:
        """Add the oldest undecided segment to the valley, or end the valley."""
        if min(loss for loss, _ in self._undecided[: self._tolerated]) > threshold:
            self._has_ended = True
            self._undecided.clear()
            return
        _, segment = self._undecided.pop(0)
        self._mean.add(segment.state, segment.weight)

    def mean(self) -> Mean:
        """Return the mean weights of the valley; call it once, after training."""
        if self._threshold is None:
            return self._undecided[-1][1]
        for _, segment in self._undecided:  # too few evaluations to end the valley
            self._mean.add(segment.state, segment.weight)
        return self._mean
