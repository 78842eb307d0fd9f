"""BatchNorm statistics of the target domain, without gradients."""

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
    """Replace the BatchNorm statistics with those of the seen target images; train nothing.

    Li et al., "Revisiting Batch Normalization for Practical Domain Adaptation", 2016 (arXiv
    1603.04779). The means m_b and variances v_b of the batches are pooled into those of the
    population, as in Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021 (arXiv 2105.07576):
    the mean of the v_b alone would ignore the differences between the m_b.

    This suite's choices: one pass over the training images with the evaluation transform, in random
    order (images are stored by class, so batches in stored order would contain few classes), in
    batches of almost equal size, no larger than the recipe's batch size. Each batch is normalised
    by its own statistics.
    """

    name = "bn-stats"
    needs = ("a BatchNorm layer",)

    def adapt(self, source: SourceModel, target: TargetData, run: Run) -> nn.Module:
        """mean = sum_b w_b m_b, var = sum_b w_b (v_b + m_b^2) - mean^2, w_b = |b| / N."""
        model = source.copy()
        require_batch_norm(model)
        return reestimate(model, target, run)


def reestimate(
    model: Classifier, target: TargetData, run: Run, *, augmented: bool = False
) -> Classifier:
    """Recompute the BatchNorm statistics of a model on the target images, as in ``bn-stats``.

    A network without BatchNorm is left unchanged.

    Args:
        model: the model; it is modified in place.
        target: the images.
        run: provides the transforms, the batch size and the random stream ``order``.
        augmented: use the training augmentation, from the stream ``augmentation``.

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
            images = target.images[batch]
            if augmented:
                model(run.transforms.augment(images, run.stream("augmentation")))
            else:
                model(run.transforms.evaluate(images))
    for layer, hook, moment in zip(layers, hooks, moments, strict=True):
        hook.remove()
        assert layer.running_mean is not None
        assert layer.running_var is not None
        mean, square = moment / len(order)
        layer.running_mean.copy_(mean)
        layer.running_var.copy_((square - mean**2).clamp(min=0))
    return model.eval()


def _pool(moments: Tensor, layer: nn.Module, inputs: tuple[Tensor]) -> None:
    """Add the mean and the mean square of a batch's activations, times its number of images.

    Args:
        moments: float64 (2, channels), modified in place.
        layer: the BatchNorm layer; not used.
        inputs: the layer's input, (N, channels, ...).
    """
    var, mean = torch.var_mean(inputs[0], [0, *range(2, inputs[0].ndim)], correction=0)
    mean, var = mean.double(), var.double()
    moments += len(inputs[0]) * torch.stack([mean, var + mean**2]).to(moments.device)


def batch_norm_layers(model: nn.Module) -> list[_BatchNorm]:
    """Return the BatchNorm layers of a network."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


def require_batch_norm(model: nn.Module) -> list[_BatchNorm]:
    """Return the BatchNorm layers of a network.

    Raises:
        NotApplicable: the network has no BatchNorm layer.
    """
    if not (layers := batch_norm_layers(model)):
        raise NotApplicable("the network has no BatchNorm layer")
    return layers
