"""BatchNorm statistics of the target domain, no gradient."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import ceil

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from htbench import Classifier, Method, NotApplicable, Run, SourceModel, TargetData


@dataclass(frozen=True)
class BNStats(Method):
    """Replace the BatchNorm statistics by those of the seen target images; no weight trains.

    Li et al., "Revisiting Batch Normalization for Practical Domain Adaptation", 2016 (arXiv
    1603.04779). The moments m_b, v_b of the batches are pooled as populations, like Wu and
    Johnson, "Rethinking 'Batch' in BatchNorm", 2021 (arXiv 2105.07576): the mean of the v_b alone
    would leave out how the m_b differ.

    This suite's choices: one pass over the training images with the evaluation transform, in
    random order (an ordered batch would hold few classes), each image once, in batches of the
    recipe's size or just under, so that none is small; each batch is normalised by its own moments
    while it passes.
    """

    name = "bn-stats"
    needs = ("a BatchNorm layer",)

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """mean = sum_b w_b m_b, var = sum_b w_b (v_b + m_b^2) - mean^2, w_b = |b| / N."""
        model = source.copy()
        require_batch_norm(model)
        return reestimate(model, target, run)


def reestimate(model: Classifier, target: TargetData, run: Run) -> Classifier:
    """Give every BatchNorm layer of a model the statistics of the images, as ``bn-stats`` does.

    A network without one is left as it is.

    Returns:
        ``model``, in evaluation mode.
    """
    layers = batch_norm_layers(model)
    moments = [torch.zeros(2, layer.num_features, dtype=torch.float64) for layer in layers]
    hooks = [
        layer.register_forward_pre_hook(partial(_pool, moment))
        for layer, moment in zip(layers, moments, strict=True)
    ]
    model.eval()
    for layer in layers:
        layer.train()
    order = torch.randperm(len(target), generator=run.stream("order")).to(run.device)
    batches = order.tensor_split(ceil(len(order) / run.recipe.batch_size)) if layers else ()
    with torch.no_grad():
        for batch in batches:
            model(run.transforms.evaluate(target.images[batch]))
    for layer, hook, moment in zip(layers, hooks, moments, strict=True):
        hook.remove()
        assert layer.running_mean is not None
        assert layer.running_var is not None
        mean, square = moment / len(order)
        layer.running_mean.copy_(mean)
        layer.running_var.copy_((square - mean**2).clamp(min=0))
    return model.eval()


def _pool(moments: Tensor, layer: nn.Module, inputs: tuple[Tensor]) -> None:
    """Add the mean and the mean square of a batch's activations, times its images."""
    var, mean = torch.var_mean(inputs[0], [0, *range(2, inputs[0].ndim)], correction=0)
    mean, var = mean.double(), var.double()
    moments += len(inputs[0]) * torch.stack([mean, var + mean**2]).to(moments.device)


def batch_norm_layers(model: nn.Module) -> list[_BatchNorm]:
    """The BatchNorm layers of a network."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


def require_batch_norm(model: nn.Module) -> list[_BatchNorm]:
    """The BatchNorm layers of a network that must have one.

    Raises:
        NotApplicable: it has none.
    """
    if not (layers := batch_norm_layers(model)):
        raise NotApplicable("the network has no BatchNorm layer")
    return layers
