"""Stochastic weight averaging densely, over the flat part of training."""

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
    """Fine-tune, and average the weights of all steps in the valley of the validation loss.

    Cha et al., "SWAD: Domain Generalization by Seeking Flat Minima", NeurIPS 2021 (arXiv
    2102.08604), algorithm 1 with its N_s = 3, N_e = 6 and r = 1.3. With E_i the loss at evaluation
    i, the valley begins at the first s whose E_s is the least of E_s ... E_(s + N_s - 1), and ends
    before the first e from which N_e evaluations all lie above r times the mean of those N_s.

    This suite's choices: 50 evaluations; training, its falling rate included, is that of
    ``finetune`` on what is not held out, while the paper's rate is constant; the images held out to
    validate are seen training images, a fifth of every class; where no valley begins the mean is of
    the last evaluation's steps, and the row says so; BatchNorm statistics are computed anew for the
    mean as in ``bn-stats`` (the paper freezes them).
    """

    name = "swad"
    needs = ("a class with two images",)
    converged: int = 3
    tolerated: int = 6
    ratio: float = 1.3
    evaluations: int = 50
    held_out: float = 0.2

    def __post_init__(self) -> None:
        if min(self.converged, self.tolerated, self.evaluations) < 1:
            raise ValueError("converged, tolerated and evaluations count from 1")
        if self.ratio < 1:
            raise ValueError(f"ratio is {self.ratio}; below 1 the valley ends where it begins")
        check_share("held_out", self.held_out)

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """theta = mean of theta_t over the steps t of the valley."""
        kept, held = target.hold_out(self.held_out, run.stream("method"))
        if not len(held):
            raise NotApplicable("no class has a second image that could be held out to validate")
        train, validation = target.rows(kept), target.rows(held)
        steps = run.recipe.steps
        every = max(1, math.ceil(steps / self.evaluations))
        valley = Valley(self.converged, self.tolerated, self.ratio)
        model, judge = source.copy(), source.copy()
        segment = Mean()

        def follow(done: int) -> None:
            nonlocal segment
            segment.add(model.state_dict())
            if done % every == 0 or done == steps:
                judge.load_state_dict(model.state_dict())  # the model itself stays in training mode
                logits = predict(judge, validation.images, run)
                valley.close(segment, float(F.cross_entropy(logits, validation.labels)))
                segment = Mean()

        fit(model, train, run, after_step=follow)
        if not valley.begun:
            run.note(
                "the validation loss never settled: the mean is of the last evaluation's steps"
            )
        model.load_state_dict(valley.end().state)
        return reestimate(model, target, run)


class Valley:
    """Finds the valley of the validation loss while training goes on.

    Only the segments of training that are not decided yet are kept, so that the memory it takes
    does not grow with training.

    Args:
        converged: N_s; ``tolerated``: N_e; ``ratio``: r.
    """

    def __init__(self, converged: int, tolerated: int, ratio: float) -> None:
        self._converged, self._tolerated, self._ratio = converged, tolerated, ratio
        self._open: list[tuple[float, Mean]] = []  # loss, and the weights of the steps before it
        self._threshold: float | None = None
        self._over = False
        self._mean = Mean()

    @property
    def begun(self) -> bool:
        """Whether the loss has reached its valley."""
        return self._threshold is not None

    def close(self, segment: Mean, loss: float) -> None:
        """Take the mean of a segment's weights, and the validation loss at its end."""
        if self._over:
            return
        self._open.append((loss, segment))
        if self._threshold is None:
            self._begin()
        elif len(self._open) >= self._tolerated:
            self._decide(self._threshold)

    def _begin(self) -> None:
        del self._open[: -self._converged]
        losses = [loss for loss, _ in self._open]
        if len(losses) == self._converged and losses[0] == min(losses):
            self._threshold = self._ratio * sum(losses) / len(losses)
            while len(self._open) >= self._tolerated:
                self._decide(self._threshold)

    def _decide(self, threshold: float) -> None:
        """Take the oldest open segment into the valley, or end it."""
        if min(loss for loss, _ in self._open[: self._tolerated]) > threshold:
            self._over = True
            self._open.clear()
            return
        _, segment = self._open.pop(0)
        self._mean.add(segment.state, segment.weight)

    def end(self) -> Mean:
        """The mean over the valley once training is over."""
        if self._threshold is None:
            return self._open[-1][1]
        for _, segment in self._open:  # fewer than N_e evaluations end nothing
            self._mean.add(segment.state, segment.weight)
        return self._mean
