"""Continued fine-tuning towards weights between the source and the fine-tuned model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from baselines.l2_sp import spring_penalty
from htbench import Batch, Method, Run, SourceModel, TargetData, fit

POINTS = (0.1, 0.3, 0.5, 0.7, 0.9)  # of the path, as released


@dataclass(frozen=True)
class MergeTune(Method):
    """Continue after fine-tuning, so that the paths to the source and to the start are low-loss.

    Wang et al., "MergeTune: Continued Fine-Tuning of Vision-Language Models", ICLR 2026 (arXiv
    2601.10497). The loss on the path to the fine-tuned weights is as released (Surrey-UP-Lab/
    MERGETUNE, mergetune/trainers/kgcoop_coop_LMC.py): cross-entropy at five points, with a weight
    of 1. The path to the source model would need source data, so the paper replaces its loss by a
    quadratic form in the distance from the source model. The released form, of CLIP's text
    features, has no counterpart here: this suite's choices are the squared distance of all weights
    with the stiffness of ``l2-sp``, all weights instead of prompts, and one of the five points per
    step, drawn at random, which has the same expected gradient at a fifth of the cost.
    """

    name = "mergetune"
    base = "finetune"
    search = {"stiffness": (0.01, 0.1, 1.0)}
    path: float = 1.0
    stiffness: float = 0.1

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """Minimise CE(theta) + path * CE(theta_F + t (theta - theta_F)) + stiffness/2 ||theta -
        theta_S||^2 in theta from theta_F, the weights of ``finetune``, with t drawn from POINTS.
        """
        assert run.base is not None
        model = source.copy()
        names = [name for name, _ in model.named_parameters()]
        pull = spring_penalty(model, dict.fromkeys(names, torch.tensor(self.stiffness)))
        model.load_state_dict(run.base.state_dict())
        end = {name: value.detach().clone() for name, value in model.named_parameters()}

        def path(batch: Batch) -> Tensor:
            index = torch.randint(len(POINTS), (), generator=run.stream("method"))
            return self.path * path_loss(end, [POINTS[int(index)]])(batch)

        return fit(model, target, run, penalties=[path, pull])


def path_loss(end: Mapping[str, Tensor], points: Sequence[float]) -> Callable[[Batch], Tensor]:
    """Return the mean cross-entropy at points of the straight path from ``end`` to the model.

    BatchNorm normalises by the batch, and its running statistics do not change.

    Args:
        end: the parameters at t = 0, by name; the model's are at t = 1.
        points: values of t.
    """

    def loss(batch: Batch) -> Tensor:
        model = batch.model
        losses = []
        for t in points:
            state = {name: end[name].lerp(value, t) for name, value in model.named_parameters()}
            state |= {name: value.clone() for name, value in model.named_buffers()}
            logits = functional_call(model, state, (batch.images,))
            losses.append(F.cross_entropy(logits, batch.labels))
        return torch.stack(losses).mean()

    return loss
