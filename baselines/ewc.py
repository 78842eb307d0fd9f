"""Fine-tuning tied to the source weights where its predictions depend on them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.l2_sp import spring_penalty
from htbench import Classifier, Method, Run, SourceModel, TargetData, fit


@dataclass(frozen=True)
class EWC(Method):
    """Elastic weight consolidation: springs as stiff as the source model's Fisher information.

    Kirkpatrick et al., "Overcoming Catastrophic Forgetting in Neural Networks", PNAS 2017 (arXiv
    1612.00796), equation 3. Source data are not available while adapting, so the diagonal of the
    Fisher information is estimated on the seen target images with labels that the source model
    draws itself. This suite's choices: one drawn label for an image, squared gradients of single
    images (never of a batch), in evaluation mode with the evaluation transform, of at most
    ``fisher_samples`` images; the Fisher information is divided by its largest value, since SGD at
    the recipe's rate diverges where a spring is much stiffer than 1 / rate; the weight is 1.
    """

    name = "ewc"
    weight: float = 1.0
    fisher_samples: int = 256

    def __post_init__(self) -> None:
        if self.fisher_samples < 1:
            raise ValueError(f"fisher_samples is {self.fisher_samples}; there must be one at least")

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """min of CE + weight/2 * sum_i F_i / max F (theta_i - theta_S,i)^2, F Fisher's diagonal."""
        order = torch.randperm(len(target), generator=run.stream("method"))
        rows = order[: self.fisher_samples].to(target.labels.device)
        images = run.transforms.evaluate(target.rows(rows).images[:].to(run.device))
        model = source.copy()
        fisher = fisher_diagonal(model, images, run.stream("method"))
        largest = max(float(value.max()) for value in fisher.values())
        scale = self.weight / largest if largest else 0.0  # all 0 if the source is never in doubt
        springs = {name: scale * value for name, value in fisher.items()}
        return fit(model, target, run, penalties=[spring_penalty(model, springs)])


def fisher_diagonal(
    model: Classifier, images: Tensor, generator: torch.Generator
) -> dict[str, Tensor]:
    """Mean over images of the squared gradient of log p(y | x), y drawn from p(. | x).

    Args:
        model: a classifier; it is put into evaluation mode.
        images: prepared, (N, 3, H, W).
        generator: draws the labels, on the CPU.

    Returns:
        For each parameter's name a tensor of its shape.
    """
    model.eval()
    parameters = dict(model.named_parameters())
    fisher = {name: torch.zeros_like(value) for name, value in parameters.items()}
    for index in range(len(images)):
        logits = model(images[index : index + 1])
        chances = logits.detach().softmax(dim=1).cpu()
        label = torch.multinomial(chances, 1, generator=generator).squeeze(1).to(logits.device)
        loss = F.cross_entropy(logits, label)
        slopes = torch.autograd.grad(loss, list(parameters.values()))
        for name, slope in zip(parameters, slopes, strict=True):
            fisher[name] += slope.square() / len(images)
    return fisher
