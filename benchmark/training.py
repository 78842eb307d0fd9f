"""The one training loop that every gradient method uses, and prediction in evaluation mode."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from benchmark.checkpoint import Checkpoints
from benchmark.images.tensors import LazyImages
from benchmark.method import Run, TargetData
from benchmark.models import Classifier

PREDICT_BATCH = 256  # images at once, of up to PREDICT_PIXELS in all
PREDICT_PIXELS = 4 << 20  # a network's activations at 224 x 224 pixels are large
LOG_ROWS = 50  # rows of the training curve, whatever the number of steps


@dataclass
class Batch:
    """What a loss sees at one step.

    Attributes:
        model: the model in training.
        images: float32 (B, 3, H, W), augmented and normalised.
        labels: int64 (B,).
        features: (B, d), ``logits``: (B, C), both of the model, with gradients.
    """

    model: Classifier
    images: Tensor
    labels: Tensor

    @cached_property
    def features(self) -> Tensor:
        """Features (B, d), computed once."""
        return self.model.features(self.images)

    @cached_property
    def logits(self) -> Tensor:
        """Logits (B, C), computed once."""
        out: Tensor = self.model.head(self.features)
        return out


Loss = Callable[[Batch], Tensor]


def cross_entropy(batch: Batch) -> Tensor:
    """Mean cross-entropy over all C columns."""
    return F.cross_entropy(batch.logits, batch.labels)


def cosine(step: int, steps: int) -> float:
    """Cosine from 1 at step 0 towards 0 at ``steps`` (Loshchilov and Hutter, 2017, no restart)."""
    return 0.5 * (1 + math.cos(math.pi * step / steps))


def fit(
    model: Classifier,
    target: TargetData,
    run: Run,
    *,
    train: nn.Module | None = None,
    loss: Loss = cross_entropy,
    penalties: Sequence[Loss] = (),
    batch_norm: Literal["update", "frozen"] = "update",
    steps: int | None = None,
    rate: Callable[[int], float] | None = None,
    after_step: Callable[[int], None] | None = None,
    checkpoints: Checkpoints | None = None,
) -> Classifier:
    """Train a model in place by SGD with Nesterov momentum, as the recipe says.

    Args:
        model: the model; it is changed and returned in evaluation mode.
        target: images and labels to train on.
        run: recipe, random streams, progress.
        train: the part whose parameters train, such as ``model.backbone``; default the whole.
            Every other part is truly frozen: no gradient, evaluation mode, so that its BatchNorm
            statistics stand still too.
        loss: the main loss of a batch.
        penalties: further terms, added to it.
        batch_norm: ``update`` normalises the trained part by batch statistics and moves its
            running ones; ``frozen`` uses the running ones and leaves them alone.
        steps: gradient steps; default the recipe's.
        rate: factor on the learning rates at a step; default a cosine over ``steps``.
        after_step: called after every step with the number of steps done.
        checkpoints: keeps them, and brings back the last; for trainings that take hours.

    Returns:
        ``model``.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    part = model if train is None else train
    steps = run.recipe.steps if steps is None else steps
    optimizer = _sgd(model, part, run)
    _set_modes(model, part, batch_norm)

    def step_loss(index: Tensor) -> Tensor:
        images = run.transforms.augment(target.images[index], run.stream("augmentation"))
        batch = Batch(model, images, target.labels[index])
        return sum((penalty(batch) for penalty in penalties), loss(batch))

    _descend(step_loss, optimizer, len(target), run, steps, rate, after_step, checkpoints)
    return model.eval()


def fit_head(model: Classifier, target: TargetData, run: Run) -> Classifier:
    """Train a model's head in place on ``target.features``, as the recipe says, by cross-entropy.

    The backbone is not called, so it is truly frozen, and there is no augmentation.

    Returns:
        ``model``, in evaluation mode.

    Raises:
        ValueError: the method did not declare ``uses_features``.
        FloatingPointError: the loss is not finite.
    """
    features = target.features
    if features is None:
        raise ValueError("there are no features; declare `uses_features = True` on the method")
    optimizer = _sgd(model, model.head, run)

    def step_loss(index: Tensor) -> Tensor:
        return F.cross_entropy(model.head(features[index]), target.labels[index])

    _descend(step_loss, optimizer, len(target), run, run.recipe.steps, None, None)
    return model.eval()


def _descend(
    step_loss: Callable[[Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    count: int,
    run: Run,
    steps: int,
    rate: Callable[[int], float] | None,
    after_step: Callable[[int], None] | None,
    checkpoints: Checkpoints | None = None,
) -> None:
    """Gradient steps on the loss of index batches, with logging, progress and step counts."""
    rate = rate or (lambda step: cosine(step, steps))
    base_rates = [group["lr"] for group in optimizer.param_groups]
    # A method may call this many times (local models): its whole run is what is told and logged.
    total = max(run.recipe.steps, run.total_steps + steps)
    every = max(1, total // LOG_ROWS)
    batches = index_batches(count, run.recipe.batch_size, run.stream("order"))
    begin = checkpoints.restore(optimizer) if checkpoints is not None else 0
    for _ in range(begin):
        next(batches)  # those that the steps before it had
    for step in range(begin, steps):
        factor = rate(step)
        for group, base in zip(optimizer.param_groups, base_rates, strict=True):
            group["lr"] = base * factor
        value = step_loss(next(batches).to(run.device))
        optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        done = run.total_steps + step + 1
        if (done - 1) % every == 0 or (step == steps - 1 and steps >= every):
            _note(run, value, done, total)
        if after_step is not None:
            after_step(step + 1)
        if checkpoints is not None:
            checkpoints.after_step(step + 1, optimizer)
    run.total_steps += steps
    run.sequential_steps += steps


@torch.inference_mode()
def predict(model: nn.Module, images: Tensor | LazyImages, run: Run) -> Tensor:
    """Logits (N, C) float32 of uint8 images (N, 3, H, W), in evaluation mode, transform applied.

    Every image counts: the last batch may be smaller.
    """
    model.eval()
    size = max(1, min(PREDICT_BATCH, PREDICT_PIXELS // images.shape[-1] ** 2))
    parts = [
        model(run.transforms.evaluate(images[start : start + size].to(run.device)))
        for start in range(0, len(images), size)
    ]
    return torch.cat(parts).to(torch.float32)


def index_batches(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Endless batches of indices: a fresh permutation each epoch, its last partial batch dropped.

    With fewer samples than a batch holds, every batch is all of them.
    """
    if count == 0:
        raise ValueError("there is no image to train on")
    size = min(size, count)
    while True:
        order = torch.randperm(count, generator=generator)
        for start in range(0, count - size + 1, size):
            yield order[start : start + size]


def _sgd(model: Classifier, part: nn.Module, run: Run) -> torch.optim.SGD:
    """SGD over the parameters of ``part``, the head's at the head's rate."""
    recipe = run.recipe
    chosen = {id(p) for p in part.parameters()}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in chosen)
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
    if batch_norm == "frozen":
        for module in part.modules():
            if isinstance(module, _BatchNorm):
                module.eval()


def _note(run: Run, value: Tensor, done: int, total: int) -> None:
    number = float(value.detach())
    if not math.isfinite(number):
        raise FloatingPointError(f"the loss is {number} at step {done} of {total}")
    run.log(step=done, loss=number)
    run.progress(done, total)
