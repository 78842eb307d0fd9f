"""Seeds of one cell trained together as one batched model, beside one after another.

    python performance/batched_seeds.py
    python performance/batched_seeds.py --device cuda --seeds 3 10

Trains the network of icons on random images with the optimizer of its recipe, on one thread. Each
seed has its own weights and batches. Ways add in different orders, so weights differ a little.

    one after another      a step of each model
    torch.func             ``vmap`` of the gradient over the stacked weights
    grouped convolutions   one network whose layers hold the channels of all models
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from functools import partial
from typing import Protocol

import torch
import torch.nn.functional as F
from measure import ratios, spread, table, take_turns
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from benchmark.errors import UsageError
from benchmark.isolation.server import keep_freed_memory
from benchmark.manifest.catalogue import load_manifest
from benchmark.method import TrainingRecipe
from benchmark.networks.build import Classifier, build
from benchmark.runs.plan import resolve_device

WANTED = 1.5  # times as fast as one after another, at least
TOLERANCE = 1e-5
COMPARED = 3  # steps after which weights are compared
Weights = list[dict[str, Tensor]]  # of each model


def optimizer_of(weights: Sequence[Tensor], recipe: TrainingRecipe) -> torch.optim.Optimizer:
    """SGD as in the recipe, without a schedule."""
    return torch.optim.SGD(
        weights,
        recipe.backbone_lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
    )


class Together(Protocol):
    """A way to train the models of several seeds."""

    def __init__(self, models: Sequence[Classifier], recipe: TrainingRecipe) -> None: ...

    def step(self, images: Tensor, labels: Tensor) -> None:
        """Take a step of each model, with images (K, N, 3, H, W) and labels (K, N)."""

    def weights(self) -> Weights:
        """The weights of each model."""


class OneAfterAnother:
    """Separate models."""

    def __init__(self, models: Sequence[Classifier], recipe: TrainingRecipe) -> None:
        self._models = copy.deepcopy(models)
        self._optimizers = [optimizer_of([*m.parameters()], recipe) for m in self._models]

    def step(self, images: Tensor, labels: Tensor) -> None:
        """Take a step of each model."""
        for model, optimizer, *batch in zip(
            self._models, self._optimizers, images, labels, strict=True
        ):
            loss = F.cross_entropy(model(channels_last(batch[0])), batch[1])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    def weights(self) -> Weights:
        """Of each model."""
        return [dict(model.named_parameters()) for model in self._models]


class Stacked:
    """``vmap`` of one model's gradient over stacked weights."""

    def __init__(self, models: Sequence[Classifier], recipe: TrainingRecipe) -> None:
        self._weights, self._buffers = stack_module_state([*models])
        self._optimizer = optimizer_of([*self._weights.values()], recipe)
        template = copy.deepcopy(models[0]).to("meta")

        def loss(
            weights: dict[str, Tensor], buffers: dict[str, Tensor], images: Tensor, labels: Tensor
        ) -> Tensor:
            return F.cross_entropy(functional_call(template, (weights, buffers), images), labels)

        self._gradients = vmap(grad(loss))

    def step(self, images: Tensor, labels: Tensor) -> None:
        """Take a step of all models."""
        detached = {name: value.detach() for name, value in self._weights.items()}
        gradients = self._gradients(detached, self._buffers, images, labels)
        for name, weight in self._weights.items():
            weight.grad = gradients[name]
        self._optimizer.step()

    def weights(self) -> Weights:
        """Of each model."""
        count = len(next(iter(self._weights.values())))
        return [{name: w[k] for name, w in self._weights.items()} for k in range(count)]


class Grouped:
    """One network with the channels of all models: convolutions in groups, and a product of heads.

    Its gradients are those of the sum of all losses, so each model has its own.
    """

    def __init__(self, models: Sequence[Classifier], recipe: TrainingRecipe) -> None:
        self._names = [name for name, _ in models[0].named_parameters()]
        layers = zip(*(model.backbone.children() for model in models), strict=True)
        self._backbone = nn.Sequential(*map(joined, layers)).to(memory_format=torch.channels_last)
        heads = [model.head for model in models]
        self._head = nn.Parameter(torch.stack([head.weight.detach() for head in heads]))
        self._bias = nn.Parameter(torch.stack([head.bias.detach() for head in heads]))
        self._all = [*self._backbone.parameters(), self._head, self._bias]
        self._optimizer = optimizer_of(self._all, recipe)

    def step(self, images: Tensor, labels: Tensor) -> None:
        """Take a step of all models."""
        count, batch = labels.shape
        features = self._backbone(channels_last(images.transpose(0, 1).flatten(1, 2)))
        by_model = features.view(batch, count, -1).transpose(0, 1)
        logits = torch.baddbmm(self._bias[:, None], by_model, self._head.transpose(1, 2))
        loss = count * F.cross_entropy(logits.flatten(0, 1), labels.flatten())
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()

    def weights(self) -> Weights:
        """Of each model."""
        count = len(self._head)
        parts = [w.view(count, -1, *w.shape[1:]) for w in self._all[:-2]]
        parts += [self._head, self._bias]
        return [dict(zip(self._names, (p[k] for p in parts), strict=True)) for k in range(count)]


def joined(layers: Sequence[nn.Module]) -> nn.Module:
    """A layer that computes those of all models, on their channels side by side."""
    first, count = layers[0], len(layers)
    if isinstance(first, nn.Conv2d):
        layer: nn.Module = nn.Conv2d(
            count * first.in_channels,
            count * first.out_channels,
            first.kernel_size,  # type: ignore[arg-type]
            first.stride,  # type: ignore[arg-type]
            first.padding,  # type: ignore[arg-type]
            groups=count,
            bias=first.bias is not None,
        )
    elif isinstance(first, nn.BatchNorm2d):
        layer = nn.BatchNorm2d(count * first.num_features)
    else:
        return copy.deepcopy(first)
    states = [layer.state_dict() for layer in layers]
    layer.load_state_dict(
        {n: torch.cat([s[n] for s in states]) if v.dim() else v for n, v in states[0].items()}
    )
    return layer.to(next(first.parameters()).device)


def channels_last(images: Tensor) -> Tensor:
    """The layout in which runs train."""
    return images.contiguous(memory_format=torch.channels_last)


WAYS: dict[str, type[Together]] = {
    "one after another": OneAfterAnother,
    "torch.func": Stacked,
    "grouped convolutions": Grouped,
}


def difference(first: Weights, second: Weights) -> float:
    """The largest difference of two weights."""
    pairs = ((a[name], b[name]) for a, b in zip(first, second, strict=True) for name in a)
    return max(float((one - other).detach().abs().max()) for one, other in pairs)


def train(way: Together, images: Tensor, labels: Tensor) -> None:
    """Take a step with each batch, and wait for a GPU."""
    for batch in zip(images, labels, strict=True):
        way.step(*batch)
    if images.is_cuda:
        torch.cuda.synchronize()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seeds", type=int, nargs="+", default=[3], help="models at once  [3]")
    parser.add_argument("--steps", type=int, default=10, help="of a turn  [10]")
    parser.add_argument("--turns", type=int, default=9)
    args = parser.parse_args()
    try:
        resolve_device(args.device)
    except UsageError as error:
        parser.error(str(error))
    torch.set_num_threads(1)
    keep_freed_memory()
    device = torch.device(args.device)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # as in runs
    manifest = load_manifest("icons@2.0")
    recipe = TrainingRecipe.from_table(manifest.document["recipe"])
    rows = []
    for seeds in args.seeds:
        torch.manual_seed(0)
        size, classes = manifest.image_size, len(manifest.classes)
        models = [build(manifest.model, classes, size).to(device) for _ in range(seeds)]
        shape = (args.steps, seeds, recipe.batch_size)
        images = torch.randn(*shape, 3, size, size, device=device)
        labels = torch.randint(classes, shape, device=device)
        ways = {name: way(models, recipe) for name, way in WAYS.items()}
        for way in ways.values():
            train(way, images[:COMPARED], labels[:COMPARED])
        alone, *_ = ways.values()
        differences = [difference(alone.weights(), way.weights()) for way in ways.values()]
        work = {name: partial(train, way, images, labels) for name, way in ways.items()}
        times = take_turns(work, args.turns)
        base = times["one after another"]
        for (name, each), off in zip(times.items(), differences, strict=True):
            per_step = [1000 * seconds / args.steps / seeds for seconds in each.wall]
            gain = spread(ratios(base.wall, each.wall))
            rows.append([f"{seeds}", name, spread(per_step), gain, f"{off:.0e}"])
    headers = ["seeds", "way", "ms of a step of one model", "times as fast", "difference"]
    print(table(rows, headers))
    print(
        f"\nWall time on {args.device}, batches of {recipe.batch_size}, {args.turns} turns of"
        f" {args.steps} steps, and the largest difference of a weight after {COMPARED} steps."
        f" Wanted: at least {WANTED} times as fast, with the same weights to {TOLERANCE:g}."
    )


if __name__ == "__main__":
    main()
