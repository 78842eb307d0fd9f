"""Train source models of the icons, and try an adaptation recipe on held-out training images.

Test images and target images of missing classes are never read. A fifth of the training images of
each seen class (at least one, never all) is held out: the first in the image store's order, which
follows a hash of their pixels.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.images.store.store import DomainStore, open_store
from benchmark.manifest.catalogue import load_manifest
from benchmark.manifest.manifest import Manifest, Task

if TYPE_CHECKING:
    from benchmark.method import Run, TargetData

HELD_OUT_SHARE = 0.2
SGD = {"batch_size": 64, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}


@dataclass(frozen=True)
class Candidate:
    """One run of the search: a recipe, a task and a seed."""

    task: str
    steps: int
    rate: float
    seed: int


@dataclass(frozen=True)
class SourceModel:
    """One source model: its domains in the manifest's order, and its seed."""

    domains: tuple[str, ...]
    seed: int

    @property
    def file(self) -> str:
        """Name of its checkpoint."""
        return f"{'+'.join(self.domains)}-{self.seed}.safetensors"


def train_source(reference: str, source: SourceModel) -> tuple[bytes, float]:
    """Train a source model on all training images of its domains, as `htbench source train` does.

    Args:
        reference: of the manifest, whose ``[model]``, ``[transforms]`` and ``[source]`` are used.
        source: the source model.

    Returns:
        The weights as safetensors, and the accuracy on the test images of its domains in per cent.
    """
    import safetensors.torch
    import torch

    from benchmark import numerics
    from benchmark.images.store.tensors import map_images
    from benchmark.networks.build import build, weights_of
    from benchmark.training import fit, predict

    manifest = load_manifest(reference)
    run = _run(manifest, manifest.document["source"], source.seed)
    data, _ = _data(manifest, source.domains, range(len(manifest.classes)), 0.0)
    torch.manual_seed(numerics.derive(source.seed, "global"))
    model = build(manifest.model, len(manifest.classes))
    fit(model, data, run)
    samples = manifest.samples(source.domains, "test")
    label = dict(zip(samples.ids, samples.labels.tolist(), strict=True))
    right = []
    for store in (open_store(manifest, domain) for domain in source.domains):
        images = _read(store.test_file, len(store.test_ids), store, map_images)
        predictions = predict(model, images, run).argmax(dim=1).tolist()
        right += [p == label[i] for p, i in zip(predictions, store.test_ids, strict=True)]
    return safetensors.torch.save(weights_of(model)), 100 * sum(right) / len(right)


def try_candidate(reference: str, candidate: Candidate, weights: bytes) -> list[bool]:
    """Fine-tune a source model with a candidate's recipe.

    Args:
        reference: of the manifest.
        candidate: the recipe, task and seed.
        weights: of the source model, as safetensors.

    Returns:
        For every held-out image, in the order of `held_out_ids`, whether its prediction is right.
    """
    import safetensors.torch
    import torch

    from benchmark import numerics
    from benchmark.networks.build import build
    from benchmark.training import fit, predict

    manifest = load_manifest(reference)
    task = manifest.task(candidate.task)
    run = _run(manifest, {**SGD, "steps": candidate.steps, "lr": candidate.rate}, candidate.seed)
    kept, held_out = _data(manifest, (task.target,), _seen(manifest, task), HELD_OUT_SHARE)
    torch.manual_seed(numerics.derive(candidate.seed, "global"))
    model = build(manifest.model, len(manifest.classes))
    model.load_state_dict(safetensors.torch.load(weights))
    fit(model, kept, run)
    predictions = predict(model, held_out.images, run).argmax(dim=1)
    right: list[bool] = (predictions == held_out.labels).tolist()
    return right


def held_out_ids(manifest: Manifest, task: Task) -> list[str]:
    """Return the ids of a task's held-out images."""
    store = open_store(manifest, task.target)
    return [
        image_id
        for _, label, count in store.train_files(_seen(manifest, task))
        for image_id in store.index["train"][str(label)][: _held_out(count, HELD_OUT_SHARE)]
    ]


def _seen(manifest: Manifest, task: Task) -> list[int]:
    return [index for index, seen in enumerate(manifest.seen_mask(task)) if seen]


def _held_out(count: int, share: float) -> int:
    return min(max(1, round(share * count)), count - 1) if share else 0


def _run(manifest: Manifest, recipe: dict[str, Any], seed: int) -> Run:
    import torch

    from benchmark import numerics
    from benchmark.images.augment import Transforms
    from benchmark.method import Run, TrainingRecipe

    numerics.configure()
    return Run(
        device=torch.device("cpu"),
        recipe=TrainingRecipe.from_table(recipe),
        transforms=Transforms(manifest.document["transforms"]),
        stream=numerics.Streams(seed),
        scratch=Path(os.devnull),
    )


def _data(
    manifest: Manifest, domains: Sequence[str], classes: Sequence[int], held_out_share: float
) -> tuple[TargetData, TargetData]:
    """Return the kept and the held-out training images of some classes of some domains."""
    import torch

    from benchmark.images.store.tensors import map_images
    from benchmark.method import TargetData

    parts: list[list[Any]] = [[], []]
    for store in (open_store(manifest, domain) for domain in domains):
        for path, label, count in store.train_files(list(classes)):
            images = _read(path, count, store, map_images)
            out = _held_out(count, held_out_share)
            for part, chosen in zip(parts, (images[out:], images[:out]), strict=True):
                part.append((chosen, torch.full((len(chosen),), label)))
    seen = torch.zeros(len(manifest.classes), dtype=torch.bool)
    seen[list(classes)] = True
    kept, held_out = (
        TargetData(
            torch.cat([images for images, _ in part]),
            torch.cat([labels for _, labels in part]),
            manifest.classes,
            seen,
        )
        for part in parts
    )
    return kept, held_out


def _read(path: Path, count: int, store: DomainStore, map_images: Any) -> Any:
    with path.open("rb") as file:
        return map_images(file.fileno(), count, store.image_size)
