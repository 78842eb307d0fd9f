"""Fine-tuning that protects the weights on which the source model's predictions depend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from htbench import Classifier, Method, Run, SourceModel, TargetData, cosine, fit


@dataclass(frozen=True)
class EWC(Method):
    """Elastic weight consolidation: pull weights to the source's, weighted by Fisher information.

    Kirkpatrick et al., "Overcoming Catastrophic Forgetting in Neural Networks", PNAS 2017 (arXiv
    1612.00796), equation 3. Source data is not available during adaptation, so the diagonal of the
    Fisher information is estimated on seen target images, with labels sampled from the source
    model's predictions.

    This suite's choices: at most ``fisher_samples`` images with the evaluation transform, one
    sampled label per image, squared gradients of single images (not of batches). The penalty is not
    part of the loss, because SGD diverges if a penalty is much stiffer than 1 / rate; after each
    step of SGD on the cross-entropy an implicit step of the penalty follows, which is stable for
    every stiffness. ``weight`` is lambda on the raw Fisher information, 400: the Fisher multiplier
    of the paper's Atari experiments (unconfirmed; not chosen on this suite's data).
    """

    name = "ewc"
    search = {"weight": (40.0, 400.0, 4000.0)}
    weight: float = 400.0
    fisher_samples: int = 256

    def __post_init__(self) -> None:
        if self.fisher_samples < 1:
            raise ValueError(f"fisher_samples is {self.fisher_samples}; it must be at least 1")

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """Minimise CE + weight/2 * sum_i F_i (theta_i - theta_S,i)^2, by SGD and implicit steps.

        F is the diagonal of the Fisher information.
        """
        order = torch.randperm(len(target), generator=run.stream("method"))
        rows = order[: self.fisher_samples].to(target.labels.device)
        images = run.transforms.evaluate(target.rows(rows).images[:].to(run.device))
        model = source.copy()
        fisher = fisher_diagonal(model, images, run.stream("method"))
        stiffness = {name: self.weight * value for name, value in fisher.items()}
        start = {name: value.detach().clone() for name, value in model.named_parameters()}

        def pull(step: int) -> None:
            factor = cosine(step - 1, run.recipe.steps)  # of the step that was just taken
            rates = {
                "head": factor * run.recipe.head_lr,
                "backbone": factor * run.recipe.backbone_lr,
            }
            implicit_step(model, start, stiffness, rates)

        return fit(model, target, run, after_step=pull)


def implicit_step(
    model: Classifier,
    start: Mapping[str, Tensor],
    stiffness: Mapping[str, Tensor],
    rates: Mapping[str, float],
) -> None:
    """Take an implicit gradient step of sum_i s_i / 2 (theta_i - theta_0,i)^2, in place.

    theta <- (theta + r s theta_0) / (1 + r s) minimises |theta' - theta|^2 / (2 r) plus the penalty
    at theta', so the result lies between theta and theta_0 for every stiffness.

    Args:
        model: the model.
        start: theta_0 by parameter name; ``stiffness``: s by parameter name, of the same shapes.
        rates: the learning rates r of ``backbone`` and ``head``.
    """
    with torch.no_grad():
        for name, value in model.named_parameters():
            pull = rates[name.partition(".")[0]] * stiffness[name]
            value.add_(pull * start[name]).div_(1 + pull)


def fisher_diagonal(
    model: Classifier, images: Tensor, generator: torch.Generator
) -> dict[str, Tensor]:
    """Estimate the diagonal of the Fisher information.

    It is the mean over images of the squared gradient of log p(y | x), with y sampled from
    p(. | x). Kirkpatrick et al., PNAS 2017.

    Args:
        model: the classifier; it is put into evaluation mode.
        images: transformed images, float32 (N, 3, H, W).
        generator: a CPU generator, used to sample the labels.

    Returns:
        A dict from parameter name to a tensor of the parameter's shape.
    """
    model.eval()
    parameters = dict(model.named_parameters())
    fisher = {name: torch.zeros_like(value) for name, value in parameters.items()}
    for index in range(len(images)):
        logits = model(images[index : index + 1])
        probabilities = logits.detach().softmax(dim=1).cpu()
        label = torch.multinomial(probabilities, 1, generator=generator).squeeze(1)
        loss = F.cross_entropy(logits, label.to(logits.device))
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        for name, gradient in zip(parameters, gradients, strict=True):
            fisher[name] += gradient.square() / len(images)
    return fisher
