"""The training loop shared by all gradient-based methods, and prediction in evaluation mode."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from benchmark.batches import batch_size
from benchmark.checkpoint import Checkpoints
from benchmark.images.store.tensors import LazyImages
from benchmark.method import LOG_ROWS, Run, TargetData, is_logged, log_loss
from benchmark.networks.build import Classifier


@dataclass
class Batch:
    """The input of a loss at one step.

    ``features`` and ``logits`` are computed on first use and then cached, so that several loss
    terms share one forward pass.

    Attributes:
        model: the model that is trained.
        images: float32 (B, 3, H, W), augmented and normalised.
        labels: int64 (B,).

    Example:
        >>> import torch.nn.functional as F
        >>> from htbench import Batch
        >>> def smoothed(batch: Batch) -> torch.Tensor:
        ...     return F.cross_entropy(batch.logits, batch.labels, label_smoothing=0.1)
        >>> images = run.transforms.evaluate(target.images[:4])
        >>> loss = smoothed(Batch(source.copy(), images, target.labels[:4]))
        >>> loss.requires_grad
        True
    """

    model: Classifier
    images: Tensor
    labels: Tensor

    @cached_property
    def features(self) -> Tensor:
        """Features (B, d) of the model, with gradients."""
        return self.model.features(self.images)

    @cached_property
    def logits(self) -> Tensor:
        """Logits (B, C) of the model, with gradients."""
        logits: Tensor = self.model.head(self.features)
        return logits


Loss = Callable[[Batch], Tensor]
BatchNormMode = Literal["update", "update-all", "frozen"]


def cross_entropy(batch: Batch) -> Tensor:
    """Return the mean cross-entropy of a batch over all C classes."""
    return F.cross_entropy(batch.logits, batch.labels)


def cosine(step: int, steps: int) -> float:
    """Return the learning-rate factor of a cosine schedule, from 1 at step 0 to 0 at ``steps``.

    Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017 (arXiv
    1608.03983), equation 5, without restarts.

    Example:
        >>> from htbench import cosine
        >>> [round(cosine(step, 4), 3) for step in range(5)]
        [1.0, 0.854, 0.5, 0.146, 0.0]
    """
    return 0.5 * (1 + math.cos(math.pi * step / steps))


def fit(
    model: Classifier,
    target: TargetData,
    run: Run,
    *,
    train: nn.Module | None = None,
    loss: Loss = cross_entropy,
    penalties: Sequence[Loss] = (),
    batch_norm: BatchNormMode = "update",
    steps: int | None = None,
    rate: Callable[[int], float] | None = None,
    after_step: Callable[[int], None] | None = None,
    checkpoints: Checkpoints | None = None,
) -> Classifier:
    """Train a model in place by SGD, with the settings of the recipe.

    Args:
        model: the model to train.
        target: images and labels to train on.
        run: recipe, random streams and progress.
        train: the part to train, such as ``model.backbone``; default: the whole model. All other
            parts are frozen: they get no gradients and stay in evaluation mode, so their BatchNorm
            statistics do not change either.
        loss: maps a batch to the main loss, a scalar tensor.
        penalties: functions from a batch to a scalar, which are added to the loss.
        batch_norm: ``update`` normalises the trained part by batch statistics and updates the
            running statistics; ``update-all`` does so in the whole model, whatever is trained;
            ``frozen`` normalises by the running statistics and does not change them.
        steps: number of gradient steps; default: the recipe's.
        rate: maps a step, counted from 0, to the factor on the learning rates; default: a cosine
            over ``steps``.
        after_step: called after every step with the number of finished steps.
        checkpoints: saves checkpoints and restores the latest, for training that takes hours.

    Returns:
        ``model``, in evaluation mode.

    Raises:
        FloatingPointError: the loss is not finite.
        TypeError: ``model`` is not a module.
        ValueError: ``batch_norm`` is another word.

    Example:
        >>> from htbench import Batch, fit
        >>> def small_features(batch: Batch) -> torch.Tensor:
        ...     return 0.01 * batch.features.square().mean()
        >>> model = fit(source.copy(), target, run, penalties=[small_features])
        >>> model.training
        False
    """
    if batch_norm not in (modes := get_args(BatchNormMode)):
        raise ValueError(f"batch_norm is {batch_norm!r}; it must be one of {', '.join(modes)}")
    part = model if train is None else train
    steps = run.recipe.steps if steps is None else steps
    optimizer = _sgd(model, part, run)
    _set_modes(model, part, batch_norm)

    def step_loss(index: Tensor) -> Tensor:
        images = run.transforms.augment(target.images[index], run.stream("augmentation"))
        batch = Batch(model, images, target.labels[index])
        return sum((penalty(batch) for penalty in penalties), loss(batch))

    _train(step_loss, optimizer, len(target), run, steps, rate, after_step, checkpoints)
    return model.eval()


def fit_head(model: Classifier, target: TargetData, run: Run) -> Classifier:
    """Train a model's head in place on ``target.features``, by cross-entropy.

    The backbone is neither run nor changed, and images are not augmented.

    Returns:
        ``model``, in evaluation mode.

    Raises:
        ValueError: the method does not declare ``uses_features``.
        FloatingPointError: the loss is not finite.

    Example:
        >>> from htbench import fit_head
        >>> model = fit_head(source.copy(), target, run)  # needs ``uses_features = True``
        >>> torch.equal(model.head.weight, source.head.weight)
        False
    """
    features = target.features
    if features is None:
        raise ValueError("target.features is None; declare `uses_features = True` on the method")
    optimizer = _sgd(model, model.head, run)

    def step_loss(index: Tensor) -> Tensor:
        return F.cross_entropy(model.head(features[index]), target.labels[index])

    _train(step_loss, optimizer, len(target), run, run.recipe.steps, None, None)
    return model.eval()


def _train(
    step_loss: Callable[[Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    count: int,
    run: Run,
    steps: int,
    rate: Callable[[int], float] | None,
    after_step: Callable[[int], None] | None,
    checkpoints: Checkpoints | None = None,
) -> None:
    """Take gradient steps on ``step_loss(indices)``; log, report progress and count the steps."""
    rate = rate or (lambda step: cosine(step, steps))
    base_rates = [group["lr"] for group in optimizer.param_groups]
    # A method may call this many times (local models), so progress is that of the whole run.
    total = max(run.recipe.steps, run.total_steps + steps)
    batches = index_batches(count, run.recipe.batch_size, run.stream("order"))
    first_step = checkpoints.restore(optimizer) if checkpoints is not None else 0
    for _ in range(first_step):
        next(batches)  # skip the batches of the steps before the checkpoint
    for step in range(first_step, steps):
        factor = rate(step)
        for group, base in zip(optimizer.param_groups, base_rates, strict=True):
            group["lr"] = base * factor
        loss = step_loss(next(batches).to(run.device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        run_step = run.total_steps + step + 1
        is_last = step == steps - 1 and steps >= total // LOG_ROWS
        if is_logged(run_step, total) or is_last:
            log_loss(run, loss, run_step, total)
        if after_step is not None:
            after_step(step + 1)
        if checkpoints is not None:
            checkpoints.after_step(step + 1, optimizer)
    run.total_steps += steps
    run.sequential_steps += steps


@torch.inference_mode()
def predict(model: nn.Module, images: Tensor | LazyImages, run: Run) -> Tensor:
    """Return the outputs of a model for all images, under the evaluation transform.

    Args:
        model: maps transformed images, float32 (N, 3, H, W), to logits (N, C) or to other rows; it
            is put into evaluation mode.
        images: uint8 (N, 3, H, W).
        run: transforms and device.

    Returns:
        float32 (N, C), on the run's device.

    Raises:
        TypeError: ``model`` is not a module.

    Example:
        >>> from htbench import predict
        >>> logits = predict(source.copy(), target.images, run)
        >>> tuple(logits.shape) == (len(target), len(target.classes))
        True
    """
    _check_module(model)
    size = batch_size(images.shape[-1])
    batches = [
        predict_batch(model, images[start : start + size], run)
        for start in range(0, len(images), size)
    ]
    return torch.cat(batches).to(torch.float32)


@torch.inference_mode()
def predict_batch(model: nn.Module, images: Tensor, run: Run) -> Any:
    """Return what a model in evaluation mode returns for one batch of images, uint8."""
    model.eval()
    return model(run.transforms.evaluate(images.to(run.device)))


def index_batches(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield batches of indices, int64 (B,), indefinitely.

    Every epoch is a new permutation whose last partial batch is dropped. If there are fewer
    samples than ``size``, every batch holds all of them.

    Args:
        count: number of samples.
        size: samples per batch.
        generator: a generator on the CPU.

    Raises:
        ValueError: there are no samples.
    """
    if count == 0:
        raise ValueError("there are no images to train on")
    size = min(size, count)
    while True:
        order = torch.randperm(count, generator=generator)
        for start in range(0, count - size + 1, size):
            yield order[start : start + size]


def _check_module(model: object) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"the model is a {type(model).__name__} and not a module; give source.copy(), which "
            "can be trained"
        )


def _sgd(model: Classifier, part: nn.Module, run: Run) -> torch.optim.SGD:
    """Return an optimizer of ``part`` only; other parameters require no gradients."""
    _check_module(model)
    recipe = run.recipe
    trained_ids = {id(parameter) for parameter in part.parameters()}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in trained_ids)
    groups = [
        {"params": list(_trainable(model.backbone.parameters())), "lr": recipe.backbone_lr},
        {"params": list(_trainable(model.head.parameters())), "lr": recipe.head_lr},
    ]
    return torch.optim.SGD(
        [group for group in groups if group["params"]],
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
    )


def _trainable(parameters: Iterable[nn.Parameter]) -> Iterator[nn.Parameter]:
    return (parameter for parameter in parameters if parameter.requires_grad)


def _set_modes(model: nn.Module, part: nn.Module, batch_norm: str) -> None:
    model.eval()
    part.train()
    if batch_norm != "update":
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.train(batch_norm == "update-all")
