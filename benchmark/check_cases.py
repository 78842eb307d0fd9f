"""What the checks of a method run on: a slice of the icons, and harder variants of it."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from benchmark import numerics
from benchmark.images.augment import Transforms
from benchmark.in_process import open_arguments
from benchmark.manifest.catalogue import load_manifest
from benchmark.manifest.manifest import Manifest
from benchmark.method import Run, SourceModel, TargetData, TrainingRecipe
from benchmark.networks.build import Classifier
from benchmark.progress import Silent

if TYPE_CHECKING:
    import pyarrow as pa

MANIFEST = "icons@2.0"
TASK = "slice"
DOMAIN = "outline"  # of the source model, too, so that a method finds most images easy
SEEN = 8  # classes
MISSING = 4
TRAIN = 6  # images of each class
TEST = 3
RECIPE = {"steps": 50, "batch_size": 8}  # divided evenly by methods that train in rounds
PLAIN_RATE = 0.03  # of the recipe's rates, for a network that nothing normalises
MANY = 345  # the classes of DomainNet


@cache
def icons_slice() -> Manifest:
    """The manifest of a task on some icons of some classes, with a few steps of training."""
    icons = load_manifest(MANIFEST)
    names = icons.classes[2 :: len(icons.classes) // (SEEN + MISSING)][: SEEN + MISSING]
    seen, missing = names[:SEEN], names[SEEN:]
    document: Mapping[str, Any] = {
        **icons.document,
        "recipe": {**icons.document["recipe"], **RECIPE},
        "tasks": [
            {
                "id": TASK,
                "sources": [DOMAIN],
                "target": DOMAIN,
                "seen": list(seen),
                "missing": list(missing),
            }
        ],
    }
    return Manifest(icons.root, document, _few_rows(icons, set(names)))


def _few_rows(icons: Manifest, names: set[str]) -> pa.Table:
    """The rows of the first images of each class and split."""
    import pyarrow as pa

    left = {(name, split): n for name in names for split, n in (("train", TRAIN), ("test", TEST))}
    columns = (icons.table[name].to_pylist() for name in ("domain", "class", "split"))
    keep = []
    for domain, name, split in zip(*columns, strict=True):
        keep.append(domain == DOMAIN and left.get((name, split), 0) > 0)
        if keep[-1]:
            left[name, split] -= 1
    return icons.table.filter(pa.array(keep))


@dataclass(frozen=True)
class Case:
    """A source model and target data to adapt it to.

    Attributes:
        model: the source model; each adaptation receives a copy.
        target: training images; ``missing`` is set.
        recipe: steps and rates.
        transforms: the manifest's table.
    """

    model: Classifier
    target: TargetData
    recipe: TrainingRecipe
    transforms: Mapping[str, Any]

    @property
    def images(self) -> Tensor:
        """The images to predict, uint8 (N, 3, H, W): those of seen and of missing classes."""
        assert self.target.missing is not None
        parts = (self.target.images, self.target.missing.images)
        return torch.cat([part[torch.arange(len(part))] for part in parts])

    def source(self) -> SourceModel:
        """A fresh source model."""
        return SourceModel(copy.deepcopy(self.model), "0" * 64)

    def run(self, seed: int, scratch: Path) -> Run:
        """A fresh run."""
        return Run(
            device=torch.device("cpu"),
            recipe=self.recipe,
            transforms=Transforms(self.transforms),
            stream=numerics.Streams(seed),
            scratch=scratch,
        )


@cache
def plain_case() -> Case:
    """The slice as it is."""
    manifest = icons_slice()
    with tempfile.TemporaryDirectory() as folder:
        source, target, run = open_arguments(
            manifest,
            manifest.tasks[0],
            seed=0,
            device="cpu",
            monitor=Silent(),
            scratch=Path(folder),
            missing=True,
        )
    return Case(source.copy(), target, run.recipe, manifest.document["transforms"])


@cache
def base_case() -> Case:
    """The slice with its classes in an order that no sorting gives."""
    case = plain_case()
    count = len(case.target.classes)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    head = nn.Linear(case.model.head.in_features, count)
    with torch.no_grad():
        head.weight.copy_(case.model.head.weight[order])
        head.bias.copy_(case.model.head.bias[order])
    target = case.target
    assert target.missing is not None
    new = torch.argsort(order)  # the new index of each old class
    changes: dict[str, Any] = {
        "classes": tuple(target.classes[index] for index in order.tolist()),
        "seen": target.seen[order],
    }
    missing = replace(target.missing, labels=new[target.missing.labels], **changes)
    target = replace(target, labels=new[target.labels], missing=missing, **changes)
    return replace(case, model=Classifier(case.model.backbone, head), target=target)


def _with_target(case: Case, rows: Tensor) -> Case:
    """The case with some of the training images only; the seen classes are those that are left."""
    target = case.target.rows(rows)
    seen = torch.zeros_like(target.seen)
    seen[target.labels] = True
    assert target.missing is not None
    return replace(
        case, target=replace(target, seen=seen, missing=replace(target.missing, seen=seen))
    )


def one_seen_class() -> Case:
    """Only one class is seen."""
    case = base_case()
    return _with_target(case, (case.target.labels == case.target.labels[0]).nonzero().squeeze(1))


def class_of_one_image() -> Case:
    """One of the seen classes has a single image."""
    case = base_case()
    of_class = (case.target.labels == case.target.labels[0]).nonzero().squeeze(1)
    rows = torch.arange(len(case.target))
    return _with_target(case, rows[~torch.isin(rows, of_class[1:])])


def last_batch_of_one() -> Case:
    """An epoch in batches of the recipe's size ends with a batch of one image."""
    case = base_case()
    size = case.recipe.batch_size
    count = (len(case.target) - 2) // size * size + 1
    every = torch.arange(len(case.target)).view(-1, TRAIN).T.flatten()  # class after class
    return _with_target(case, every[:count].sort().values)


def without_batch_norm() -> Case:
    """The network has no BatchNorm: each is merged into the convolution before it."""
    case = base_case()
    layers: list[nn.Module] = []
    for layer in copy.deepcopy(case.model.backbone).eval().children():
        if isinstance(layer, nn.BatchNorm2d):
            layers[-1] = fuse_conv_bn_eval(layers[-1], layer)  # type: ignore[type-var]
        else:
            layers.append(layer)
    model = Classifier(nn.Sequential(*layers), case.model.head)
    recipe = replace(
        case.recipe,
        head_lr=PLAIN_RATE * case.recipe.head_lr,
        backbone_lr=PLAIN_RATE * case.recipe.backbone_lr,
    )
    return replace(case, model=model, recipe=recipe)


def many_classes() -> Case:
    """345 classes with an untrained head, of which a seventh are seen, with two images each."""
    case = base_case()
    generator = torch.Generator().manual_seed(0)
    head = nn.Linear(case.model.head.in_features, MANY)
    with torch.no_grad():
        head.weight.normal_(std=0.1, generator=generator)
        head.bias.zero_()
    order = torch.randperm(MANY, generator=generator)
    target = case.target
    assert target.missing is not None
    labels = order[torch.arange(len(target)) // 2]
    seen = torch.zeros(MANY, dtype=torch.bool)
    seen[labels] = True
    classes = tuple(f"class-{index}" for index in order.tolist())
    missing = replace(
        target.missing,
        labels=order[-1 - torch.arange(len(target.missing)) // 2],
        classes=classes,
        seen=seen,
    )
    target = replace(target, labels=labels, classes=classes, seen=seen, missing=missing)
    return replace(case, model=Classifier(case.model.backbone, head), target=target)
