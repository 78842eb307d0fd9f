"""A small source model, target data, and a simple training loop as a reference."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import baselines
from baselines.finetune import Finetune
from benchmark.images.augment import Transforms
from benchmark.method import TrainingRecipe
from benchmark.networks.build import build
from benchmark.numerics import Streams
from htbench import Classifier, Method, Run, SourceModel, TargetData, predict

CLASSES = ("bell", "bug", "house", "key", "star", "tree")
SEEN = (0, 2, 3, 5)
MISSING = (1, 4)
TRANSFORMS = {
    "mean": [0.5, 0.4, 0.3],
    "std": [0.25, 0.25, 0.2],
    "train": [
        {"op": "affine", "degrees": 10.0, "translate": 0.1, "scale": [0.9, 1.1]},
        {"op": "horizontal-flip", "p": 0.5},
    ],
}
RECIPE = TrainingRecipe(
    steps=12,
    batch_size=8,
    head_lr=0.1,
    backbone_lr=0.03,
    momentum=0.9,
    nesterov=True,
    weight_decay=0.01,
)


def every_method() -> Iterator[type[Method]]:
    """Yield the methods that the modules of the package define, without those that they import."""
    for info in pkgutil.iter_modules(baselines.__path__, "baselines."):
        for item in vars(importlib.import_module(info.name)).values():
            if isinstance(item, type) and issubclass(item, Method) and item.__module__ == info.name:
                yield item


METHODS = sorted(every_method(), key=lambda method: method.name)

NewRun = Callable[..., Run]
NaiveFit = Callable[..., None]


@pytest.fixture
def source() -> SourceModel:
    """The icons' network, four channels wide, with BatchNorm layers that are not the identity."""
    torch.manual_seed(0)
    model = build({"name": "convnet", "width": 4}, len(CLASSES))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    for _ in range(5):
        model(torch.randn(16, 3, 16, 16))
    return SourceModel(model, "0" * 64)


def images_of(classes: tuple[int, ...], each: int) -> tuple[Tensor, Tensor]:
    """Return ``each`` noisy images of every class and their labels, class by class as in a run."""
    generator = torch.Generator().manual_seed(sum(classes))
    labels = torch.tensor(classes).repeat_interleave(each)
    colour = torch.rand(len(CLASSES), 3, 1, 1, generator=generator)[labels]
    noise = torch.rand(len(labels), 3, 16, 16, generator=generator)
    return ((colour + noise) * 127).to(torch.uint8), labels


@pytest.fixture
def target() -> TargetData:
    """44 images of four seen classes; in batches of 8, an epoch ends with a partial batch."""
    images, labels = images_of(SEEN, 11)
    seen = torch.zeros(len(CLASSES), dtype=torch.bool)
    seen[list(SEEN)] = True
    return TargetData(images, labels, CLASSES, seen)


@pytest.fixture
def whole_target(source: SourceModel, target: TargetData, new_run: NewRun) -> TargetData:
    """The same with everything that a method can use: features and data of missing classes."""
    images, labels = images_of(MISSING, 7)
    with torch.no_grad():
        features = source.features(new_run().transforms.evaluate(target.images))
    missing = TargetData(images, labels, CLASSES, target.seen)
    return replace(target, features=features, missing=missing)


@pytest.fixture
def new_run(tmp_path: Path) -> NewRun:
    """Creates runs, such as ``new_run(seed=1, base=model, steps=4)``."""

    def create(seed: int = 0, base: Classifier | None = None, **recipe: Any) -> Run:
        return Run(
            device=torch.device("cpu"),
            recipe=replace(RECIPE, **recipe),
            transforms=Transforms(TRANSFORMS),
            stream=Streams(seed),
            scratch=tmp_path,
            base=base,
        )

    return create


@pytest.fixture
def tuned(source: SourceModel, target: TargetData, new_run: NewRun) -> nn.Module:
    """The fine-tuned model, as a base run provides it."""
    return Finetune().adapt(source, target, new_run())


@pytest.fixture
def logits_of(
    source: SourceModel, whole_target: TargetData, new_run: NewRun
) -> Callable[..., tuple[Tensor, Run, nn.Module]]:
    """Adapts with a seed; returns the logits of the missing images, the run and the model."""

    def adapt(method: type[Method], seed: int = 0) -> tuple[Tensor, Run, nn.Module]:
        target = whole_target
        if not method.uses_features:
            target = replace(target, features=None)
        if method.track != "oracle":
            target = replace(target, missing=None)
        base = Finetune().adapt(source, target, new_run(seed)) if method.base else None
        run = new_run(seed, base)
        is_local = {"local_models", "local_steps"} <= {f.name for f in fields(method)}
        settings = {"local_models": 2, "local_steps": 3} if is_local else {}
        model = method(**settings).adapt(source, target, run)
        assert whole_target.missing is not None
        return predict(model, whole_target.missing.images, run), run, model

    return adapt


@pytest.fixture
def naive_fit() -> NaiveFit:
    """SGD with Nesterov momentum and weight decay, without ``torch.optim`` and ``fit``.

    ``factors`` holds a factor on the learning rates for every step. Parameters with
    ``trains(name)`` are trained; modules with ``in_training(module)`` are in training mode.
    ``extra(images, features, logits)`` is added to the loss; ``after_step(factor)`` is called after
    each step, without gradients. ``shift`` is added to the logits in the cross-entropy.
    """

    def fit(
        model: Classifier,
        target: TargetData,
        run: Run,
        factors: list[float],
        *,
        trains: Callable[[str], bool] = lambda name: True,
        in_training: Callable[[nn.Module], bool] = lambda module: True,
        extra: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
        after_step: Callable[[float], None] | None = None,
        shift: Tensor | float = 0.0,
    ) -> None:
        for module in model.modules():
            module.training = in_training(module)
        weights = {name: p for name, p in model.named_parameters() if trains(name)}
        velocity: dict[str, Tensor] = {}
        batches = naive_batches(len(target), run)
        for factor in factors:
            rows = next(batches)
            images = run.transforms.augment(target.images[rows], run.stream("augmentation"))
            features = model.features(images)
            logits = model.head(features)
            shifted = logits + shift
            at_label = shifted[range(len(rows)), target.labels[rows]]
            loss = (shifted.exp().sum(dim=1).log() - at_label).sum() / len(rows)
            if extra is not None:
                loss = loss + extra(images, features, logits)
            gradients = torch.autograd.grad(loss, list(weights.values()))
            with torch.no_grad():
                for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
                    g = gradient + run.recipe.weight_decay * weight
                    v = g + run.recipe.momentum * velocity.get(name, 0)
                    velocity[name] = v
                    rates = run.recipe.head_lr, run.recipe.backbone_lr
                    rate = rates[0] if name.startswith("head") else rates[1]
                    weight -= factor * rate * (g + run.recipe.momentum * v)
                if after_step is not None:
                    after_step(factor)
        model.eval()

    return fit


def naive_batches(count: int, run: Run) -> Iterator[list[int]]:
    size = min(run.recipe.batch_size, count)
    order: list[int] = []
    while True:
        if len(order) < size:
            order = torch.randperm(count, generator=run.stream("order")).tolist()
        batch, order = order[:size], order[size:]
        yield batch


@pytest.fixture
def same() -> Callable[[nn.Module, nn.Module], None]:
    """Asserts that two models have the same values, except for rounding."""

    def check(one: nn.Module, other: nn.Module) -> None:
        torch.testing.assert_close(
            dict(one.state_dict()), dict(other.state_dict()), rtol=1e-3, atol=2e-5
        )

    return check


@pytest.fixture
def changed() -> Callable[[nn.Module, nn.Module], set[str]]:
    """Returns the names of the values that differ between two models by at least one bit."""

    def names(one: nn.Module, other: nn.Module) -> set[str]:
        before: Mapping[str, Tensor] = one.state_dict()
        after: Mapping[str, Tensor] = other.state_dict()
        assert before.keys() == after.keys()
        return {name for name in before if not torch.equal(before[name], after[name])}

    return names
