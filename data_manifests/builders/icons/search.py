"""Search the training recipes of icons@1.0 on source data and held-out seen training data.

Test images and target images of missing classes are never read. A fifth of the training images of
each class (at least one, never all) is held out: the first in the image store's pixel-hash order.
All candidates are written to `search.csv`, the chosen recipes to `training.toml`.

1. Network and source recipe: train each candidate on the kept images of each source and score it
   on the held-out ones. Choose the cheapest candidate (narrower network, then fewer steps) whose
   mean accuracy is within one point of the best; of its learning rates, the best.
2. Adaptation recipe: train source models with that recipe on all source images, fine-tune them on
   the kept seen images of each target, and score them on the held-out seen ones. Choose the
   learning rate of the best candidate, and the fewest steps within one point of the best.
"""

from __future__ import annotations

import csv
import io
import itertools
import multiprocessing
import os
import textwrap
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import click

from benchmark.files import write_file
from benchmark.images.store.store import DomainStore, open_store
from benchmark.manifest.catalogue import load_manifest
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.toml import to_toml
from benchmark.numerics import ENVIRONMENT

if TYPE_CHECKING:
    from benchmark.method import TargetData

TOLERANCE = 1.0  # percentage points by which a cheaper candidate may be worse than the best
HELD_OUT_SHARE = 0.2
WIDTHS = (16, 24)
SOURCE_STEPS = (300, 600, 1200)
SOURCE_RATES = (0.1, 0.2, 0.4)
STEPS = (100, 200, 400)
RATES = (0.01, 0.02, 0.05, 0.1, 0.2)
SEEDS = (0, 1, 2)
SGD = {"batch_size": 64, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}


@dataclass(frozen=True)
class Candidate:
    """One training run of the search."""

    stage: str  # source or adapt
    task: str  # joined names of the sources, or task id
    domains: tuple[str, ...]  # sources, or one target
    width: int
    steps: int
    rate: float
    seed: int


@dataclass(frozen=True)
class Settings:
    """Inputs that all candidates of a stage share."""

    manifest: str  # reference
    transforms: dict[str, Any]
    weights: dict[str, bytes]  # source models by task id, as safetensors; empty in stage 1


def train(
    settings: Settings, candidate: Candidate, *, held_out: bool = True
) -> tuple[float, bytes]:
    """Train a candidate.

    Args:
        settings: the shared inputs.
        candidate: what to train.
        held_out: hold out a fifth of the images; otherwise train on all of them.

    Returns:
        Held-out accuracy in percent (0 without held-out images), and the weights as safetensors.
    """
    import safetensors.torch
    import torch

    from benchmark import numerics
    from benchmark.images.augment import Transforms
    from benchmark.method import Run, TrainingRecipe
    from benchmark.networks.build import build, weights_of
    from benchmark.training import fit, predict

    numerics.configure()
    manifest = load_manifest(settings.manifest)
    kept, held_out_data = _data(manifest, candidate, HELD_OUT_SHARE if held_out else 0.0)
    recipe = {**SGD, "steps": candidate.steps, "lr": candidate.rate}
    run = Run(
        device=torch.device("cpu"),
        recipe=TrainingRecipe.from_table(recipe),
        transforms=Transforms(settings.transforms),
        stream=numerics.Streams(candidate.seed),
        scratch=Path(os.devnull),
    )
    torch.manual_seed(numerics.derive(0, "global"))
    model = build({"name": "convnet", "width": candidate.width}, len(manifest.classes))
    if candidate.stage == "adapt":
        model.load_state_dict(safetensors.torch.load(settings.weights[candidate.task]))
    fit(model, kept, run)
    accuracy = 0.0
    if len(held_out_data):
        correct = predict(model, held_out_data.images, run).argmax(dim=1) == held_out_data.labels
        accuracy = 100 * float(correct.double().mean())
    return accuracy, safetensors.torch.save(weights_of(model))


def _data(
    manifest: Manifest, candidate: Candidate, held_out_share: float
) -> tuple[TargetData, TargetData]:
    """Return kept and held-out training data: all classes of sources, seen classes of a target."""
    import numpy as np
    import torch

    from benchmark.images.store.tensors import map_images
    from benchmark.method import TargetData

    classes = list(range(len(manifest.classes)))
    if candidate.stage == "adapt":
        classes = np.flatnonzero(manifest.seen_mask(manifest.task(candidate.task))).tolist()
    parts: list[list[Any]] = [[], []]
    for store in (open_store(manifest, domain) for domain in candidate.domains):
        for path, label, count in store.train_files(classes):
            images = _read(path, count, store, map_images)
            out = min(max(1, round(held_out_share * count)), count - 1) if held_out_share else 0
            for part, chosen in zip(parts, (images[out:], images[:out]), strict=True):
                part.append((chosen, torch.full((len(chosen),), label)))
    seen = torch.zeros(len(manifest.classes), dtype=torch.bool)
    seen[classes] = True
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


def _accuracy(settings: Settings, candidate: Candidate) -> float:
    return train(settings, candidate)[0]


def _weights(settings: Settings, candidate: Candidate) -> bytes:
    return train(settings, candidate, held_out=False)[1]


def source_candidates(manifest: Manifest) -> list[Candidate]:
    """Stage 1: all sources with all widths, numbers of steps and learning rates."""
    sources = dict.fromkeys(task.sources for task in manifest.tasks)
    return [
        Candidate("source", "+".join(domains), domains, width, steps, rate, 0)
        for width, steps, rate, domains in itertools.product(
            WIDTHS, SOURCE_STEPS, SOURCE_RATES, sources
        )
    ]


def adapt_candidates(manifest: Manifest, width: int) -> list[Candidate]:
    """Stage 2: all tasks with all numbers of steps, learning rates and seeds."""
    return [
        Candidate("adapt", task.id, (task.target,), width, steps, rate, seed)
        for steps, rate, task, seed in itertools.product(STEPS, RATES, manifest.tasks, SEEDS)
    ]


def choose(results: Iterable[tuple[Candidate, float]]) -> tuple[Candidate, float, float]:
    """Choose the cheapest candidate within ``TOLERANCE`` points of the best mean held-out accuracy.

    In stage 2 the learning rate is that of the best candidate, and only the steps are chosen.

    Returns:
        A candidate with the chosen width, steps and rate; its mean accuracy; the best mean.
    """
    scores: dict[tuple[int, int, float], list[float]] = {}
    example: dict[tuple[int, int, float], Candidate] = {}
    for candidate, accuracy in results:
        key = (candidate.width, candidate.steps, candidate.rate)
        scores.setdefault(key, []).append(accuracy)
        example.setdefault(key, candidate)
    means = {key: mean(values) for key, values in scores.items()}
    best = max(means, key=lambda key: means[key])
    near = {key for key, value in means.items() if value >= means[best] - TOLERANCE}
    if example[best].stage == "adapt":
        near = {key for key in near if key[2] == best[2]}
    width, steps, _ = min(near)
    chosen = max((k for k in near if k[:2] == (width, steps)), key=lambda key: means[key])
    return example[chosen], means[chosen], means[best]


def search(reference: str, out: Path, jobs: int) -> str:
    """Search the recipes; write training.toml and search.csv.

    Args:
        reference: of the manifest, such as ``icons@1.0``.
        out: the output folder.
        jobs: number of parallel trainings.

    Returns:
        One sentence that states the chosen recipes.
    """
    os.environ.update(ENVIRONMENT)  # before a worker imports torch
    manifest = load_manifest(reference)
    transforms = dict(manifest.document["transforms"])
    # Not the pool of benchmark/images/pool.py: that one sizes itself by the number of images,
    # yields results in order of completion, and serves functions that need no torch. Here `--jobs`
    # sets the number of workers, and results keep the order of the candidates.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        settings = Settings(reference, transforms, {})
        stage_1 = _evaluate(pool, settings, source_candidates(manifest))
        source, source_accuracy, source_best = choose(stage_1)
        trainings = [
            Candidate("source", task.id, task.sources, source.width, source.steps, source.rate, 0)
            for task in manifest.tasks
        ]
        weights = pool.map(_weights, [settings] * len(trainings), trainings)
        tasks = [task.id for task in manifest.tasks]
        settings = Settings(reference, transforms, dict(zip(tasks, weights, strict=True)))
        stage_2 = _evaluate(pool, settings, adapt_candidates(manifest, source.width))
    adapt, accuracy, best = choose(stage_2)
    _write_csv(out / "search.csv", [*stage_1, *stage_2])
    rates = {"head_lr": adapt.rate, "backbone_lr": adapt.rate}
    tables: dict[str, Any] = {
        "model": {"name": "convnet", "width": source.width},
        "transforms": transforms,
        "source": {"steps": source.steps, "lr": source.rate, **SGD},
        "recipe": {"steps": adapt.steps, **rates, **SGD},
    }
    tables["source"]["chosen"] = _source_text(source_accuracy, source_best)
    tables["recipe"]["chosen"] = _adapt_text(accuracy, best)
    header = (
        "# Written by `python -m data_manifests.builders icons-search`; build.py copies it.\n\n"
    )
    write_file(out / "training.toml", (header + to_toml(tables)).encode())
    return (
        f"network width {source.width}; source: {source.steps} steps, learning rate {source.rate}; "
        f"adaptation: {adapt.steps} steps, learning rate {adapt.rate}; written to {out}"
    )


def _evaluate(
    pool: ProcessPoolExecutor, settings: Settings, candidates: Sequence[Candidate]
) -> list[tuple[Candidate, float]]:
    results = []
    answers = pool.map(_accuracy, [settings] * len(candidates), candidates)
    for number, (candidate, accuracy) in enumerate(zip(candidates, answers, strict=True), start=1):
        results.append((candidate, accuracy))
        click.echo(
            f"[{number}/{len(candidates)}] {candidate.stage} {candidate.task} "
            f"width {candidate.width}, {candidate.steps} steps, rate {candidate.rate}: "
            f"{accuracy:.2f} %",
            err=True,
        )
    return results


# The published manifest quotes these texts, so they name this module by its path at that time.


def _source_text(accuracy: float, best: float) -> str:
    return _wrapped(
        "By data_manifests/icons/search.py, from source training images alone: of widths "
        f"{WIDTHS}, steps {SOURCE_STEPS} and rates {SOURCE_RATES}, the narrowest network, then "
        f"the fewest steps, within {TOLERANCE:g} point of the best accuracy on a held-out fifth of "
        f"the sources' training images (chosen {accuracy:.2f} %, best {best:.2f} %, mean over "
        "three sources)."
    )


def _adapt_text(accuracy: float, best: float) -> str:
    return _wrapped(
        "By data_manifests/icons/search.py, from seen training images of the targets alone: the "
        f"rate of {RATES} that fine-tunes best, and the fewest of {STEPS} steps within "
        f"{TOLERANCE:g} point of the best accuracy on a held-out fifth of the seen classes' "
        f"training images (chosen {accuracy:.2f} %, best {best:.2f} %, mean over three tasks and "
        "three seeds). Target test accuracy played no part. The recipe is the same for every "
        "method."
    )


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.wrap(text, 96))


def _write_csv(path: Path, results: Iterable[tuple[Candidate, float]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ("stage", "task", "domains", "width", "steps", "rate", "seed", "held_out_accuracy")
    writer.writerow(names)
    for candidate, accuracy in results:
        stage, task, domains, *rest = astuple(candidate)
        writer.writerow([stage, task, "+".join(domains), *rest, f"{accuracy:.4f}"])
    write_file(path, text.getvalue().encode())
