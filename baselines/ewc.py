"""Fine-tuning that protects the weights on which the source model's predictions depend."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.l2_sp import spring_penalty
from htbench import Classifier, Method, Run, SourceModel, TargetData, fit


@dataclass(frozen=True)
class EWC(Method):
    """Elastic weight consolidation: pull weights to the source's, weighted by Fisher information.

    Kirkpatrick et al., "Overcoming Catastrophic Forgetting in Neural Networks", PNAS 2017 (arXiv
    1612.00796), equation 3. Source data is not available during adaptation, so the diagonal of the
    Fisher information is estimated on seen target images, with labels sampled from the source
    model's predictions.

    This suite's choices: at most ``fisher_samples`` images with the evaluation transform, one
    sampled label per image, squared gradients of single images (not of batches); the Fisher
    information is divided by its maximum, because SGD at the recipe's learning rate diverges if a
    penalty is much stiffer than 1 / rate; and the penalty's weight is 1.
    """

    name = "ewc"
    weight: float = 1.0
    fisher_samples: int = 256

    def __post_init__(self) -> None:
        if self.fisher_samples < 1:
            raise ValueError(f"fisher_samples is {self.fisher_samples}; it must be at least 1")

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """Minimise CE + weight/2 * sum_i F_i / max F * (theta_i - theta_S,i)^2.

        F is the diagonal of the Fisher information.
        """
        order = torch.randperm(len(target), generator=run.stream("method"))
        rows = order[: self.fisher_samples].to(target.labels.device)
        images = run.transforms.evaluate(target.rows(rows).images[:].to(run.device))
        model = source.copy()
        fisher = fisher_diagonal(model, images, run.stream("method"))
        largest = max(float(value.max()) for value in fisher.values())
        scale = self.weight / largest if largest else 0.0  # 0 if all predictions are certain
        stiffness = {name: scale * value for name, value in fisher.items()}
        return fit(model, target, run, penalties=[spring_penalty(model, stiffness)])


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
