"""Choose the recipes of icons@1.0 from source data and held-out seen training data alone.

No test image and no image of a missing class of a target is read. A fifth of every class's
training images (at least one, never all) is held out; the image store's pixel-hash order says
which. Every candidate is written to `recipe-search.csv`, the choice to `recipe.toml`.

1. Network and source recipe: each candidate is trained on the kept images of each source and
   scored on the held-out ones. The choice is the cheapest candidate (narrower network, then fewer
   steps) whose mean accuracy is within one point of the best; of the rates, the best.
2. Adaptation recipe: source models are trained with that recipe on all source images, then
   fine-tuned on the kept seen images of each target, and scored on the held-out seen ones. The rate
   is that of the best candidate; the steps are the fewest within one point of the best.
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
from benchmark.images.store import DomainStore, open_store
from benchmark.manifest import Manifest, load_manifest
from benchmark.numerics import ENVIRONMENT
from data_manifests.toml_writer import dumps

if TYPE_CHECKING:
    from benchmark.method import TargetData

HERE = Path(__file__).resolve().parent
WITHIN = 1.0  # points of accuracy that a cheaper candidate may lose to the best
HELD_OUT = 0.2
WIDTHS = (16, 24)
SOURCE_STEPS = (300, 600, 1200)
SOURCE_RATES = (0.1, 0.2, 0.4)
STEPS = (100, 200, 400)
RATES = (0.01, 0.02, 0.05, 0.1, 0.2)
SEEDS = (0, 1, 2)
SGD = {"batch_size": 64, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}


@dataclass(frozen=True)
class Candidate:
    """One training to try: on ``domains`` (of the sources, or one target), with these settings."""

    stage: str  # source or adapt
    task: str  # name of the sources, or id of the task
    domains: tuple[str, ...]
    width: int
    steps: int
    rate: float
    seed: int


@dataclass(frozen=True)
class Settings:
    """What a worker needs besides the candidate."""

    manifest: str
    transforms: dict[str, Any]
    weights: dict[str, bytes]  # trained source models by task; empty in stage 1


def train(
    settings: Settings, candidate: Candidate, *, held_out: bool = True
) -> tuple[float, bytes]:
    """Train a candidate; return its held-out accuracy in per cent and its weights."""
    import safetensors.torch
    import torch

    from benchmark import numerics
    from benchmark.images.augment import Transforms
    from benchmark.method import Recipe, Run
    from benchmark.models import build, weights_of
    from benchmark.training import fit, predict

    numerics.configure()
    manifest = load_manifest(settings.manifest)
    kept, held = _data(manifest, candidate, HELD_OUT if held_out else 0.0)
    recipe = {**SGD, "steps": candidate.steps, "lr": candidate.rate}
    run = Run(
        device=torch.device("cpu"),
        recipe=Recipe.of(recipe),
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
    if len(held):
        right = predict(model, held.images, run).argmax(dim=1) == held.labels
        accuracy = 100 * float(right.double().mean())
    return accuracy, safetensors.torch.save(weights_of(model))


def _data(
    manifest: Manifest, candidate: Candidate, fraction: float
) -> tuple[TargetData, TargetData]:
    """Kept and held-out training images: of all classes for a source, of the seen for a target."""
    import numpy as np
    import torch

    from benchmark.images.tensors import map_images
    from benchmark.method import TargetData

    classes = list(range(len(manifest.classes)))
    if candidate.stage == "adapt":
        classes = np.flatnonzero(manifest.seen_mask(manifest.task(candidate.task))).tolist()
    parts: list[list[Any]] = [[], []]
    for store in (open_store(manifest, domain) for domain in candidate.domains):
        for path, label, count in store.train_files(classes):
            images = _read(path, count, store, map_images)
            out = min(max(1, round(fraction * count)), count - 1) if fraction else 0
            for part, chosen in zip(parts, (images[out:], images[:out]), strict=True):
                part.append((chosen, torch.full((len(chosen),), label)))
    seen = torch.zeros(len(manifest.classes), dtype=torch.bool)
    seen[classes] = True
    kept, held = (
        TargetData(
            torch.cat([images for images, _ in part]),
            torch.cat([labels for _, labels in part]),
            manifest.classes,
            seen,
        )
        for part in parts
    )
    return kept, held


def _read(path: Path, count: int, store: DomainStore, map_images: Any) -> Any:
    with path.open("rb") as file:
        return map_images(file.fileno(), count, store.image_size)


def _accuracy(settings: Settings, candidate: Candidate) -> float:
    return train(settings, candidate)[0]


def _weights(settings: Settings, candidate: Candidate) -> bytes:
    return train(settings, candidate, held_out=False)[1]


def source_candidates(manifest: Manifest) -> list[Candidate]:
    """Stage 1: every source of a task, at every width, length and rate."""
    sources = dict.fromkeys(task.sources for task in manifest.tasks)
    return [
        Candidate("source", "+".join(domains), domains, width, steps, rate, 0)
        for width, steps, rate, domains in itertools.product(
            WIDTHS, SOURCE_STEPS, SOURCE_RATES, sources
        )
    ]


def adapt_candidates(manifest: Manifest, width: int) -> list[Candidate]:
    """Stage 2: every task, at every length, rate and seed."""
    return [
        Candidate("adapt", task.id, (task.target,), width, steps, rate, seed)
        for steps, rate, task, seed in itertools.product(STEPS, RATES, manifest.tasks, SEEDS)
    ]


def choose(results: Iterable[tuple[Candidate, float]]) -> tuple[Candidate, float, float]:
    """The cheapest candidate within ``WITHIN`` points of the best, by mean held-out accuracy.

    In stage 2 the rate is fixed first, as the best candidate's: the rule is about steps alone.

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
    near = {key for key, value in means.items() if value >= means[best] - WITHIN}
    if example[best].stage == "adapt":
        near = {key for key in near if key[2] == best[2]}
    width, steps, _ = min(near)
    chosen = max((k for k in near if k[:2] == (width, steps)), key=lambda key: means[key])
    return example[chosen], means[chosen], means[best]


@click.command()
@click.option("--manifest", default="icons@1.0", show_default=True, help="Whose images to use.")
@click.option("--out", default=HERE, show_default="beside this file",
              type=click.Path(file_okay=False, path_type=Path), help="Where to write.")  # fmt: skip
@click.option("--jobs", default=os.cpu_count(), show_default=True, help="Trainings side by side.")
def main(manifest: str, out: Path, jobs: int) -> None:
    """Search the recipes and write recipe.toml and recipe-search.csv (about 15 minutes on 2 cores).

    \b
    Examples:
      python -m data_manifests.icons.search
      python -m data_manifests.icons.search --out search-again --jobs 4
    """
    os.environ.update(ENVIRONMENT)  # before a worker imports torch
    found = load_manifest(manifest)
    transforms = dict(found.document["transforms"])
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        settings = Settings(manifest, transforms, {})
        stage_1 = _evaluate(pool, settings, source_candidates(found))
        source, source_accuracy, source_best = choose(stage_1)
        trainings = [
            Candidate("source", task.id, task.sources, source.width, source.steps, source.rate, 0)
            for task in found.tasks
        ]
        weights = pool.map(_weights, [settings] * len(trainings), trainings)
        tasks = [task.id for task in found.tasks]
        settings = Settings(manifest, transforms, dict(zip(tasks, weights, strict=True)))
        stage_2 = _evaluate(pool, settings, adapt_candidates(found, source.width))
    adapt, accuracy, best = choose(stage_2)
    _write_csv(out / "recipe-search.csv", [*stage_1, *stage_2])
    rates = {"head_lr": adapt.rate, "backbone_lr": adapt.rate}
    tables: dict[str, Any] = {
        "model": {"name": "convnet", "width": source.width},
        "transforms": transforms,
        "source": {"steps": source.steps, "lr": source.rate, **SGD},
        "recipe": {"steps": adapt.steps, **rates, **SGD},
    }
    tables["source"]["chosen"] = _source_text(source_accuracy, source_best)
    tables["recipe"]["chosen"] = _adapt_text(accuracy, best)
    header = "# Written by `python -m data_manifests.icons.search`; build.py copies it.\n\n"
    write_file(out / "recipe.toml", (header + dumps(tables)).encode())
    click.echo(f"network width {source.width}, source {source.steps} steps at {source.rate}; "
               f"adaptation {adapt.steps} steps at {adapt.rate}; wrote {out}")  # fmt: skip


def _evaluate(
    pool: ProcessPoolExecutor, settings: Settings, candidates: Sequence[Candidate]
) -> list[tuple[Candidate, float]]:
    results = []
    answers = pool.map(_accuracy, [settings] * len(candidates), candidates)
    for number, (candidate, accuracy) in enumerate(zip(candidates, answers, strict=True), start=1):
        results.append((candidate, accuracy))
        click.echo(f"[{number}/{len(candidates)}] {candidate.stage} {candidate.task} "
                   f"width {candidate.width}, {candidate.steps} steps at {candidate.rate}: "
                   f"{accuracy:.2f} %", err=True)  # fmt: skip
    return results


def _source_text(accuracy: float, best: float) -> str:
    return _wrapped(
        "By data_manifests/icons/search.py, from source training images alone: of widths "
        f"{WIDTHS}, steps {SOURCE_STEPS} and rates {SOURCE_RATES}, the narrowest network, then "
        f"the fewest steps, within {WITHIN:g} point of the best accuracy on a held-out fifth of "
        f"the sources' training images (chosen {accuracy:.2f} %, best {best:.2f} %, mean over "
        "three sources)."
    )


def _adapt_text(accuracy: float, best: float) -> str:
    return _wrapped(
        "By data_manifests/icons/search.py, from seen training images of the targets alone: the "
        f"rate of {RATES} that fine-tunes best, and the fewest of {STEPS} steps within {WITHIN:g} "
        "point of the best accuracy on a held-out fifth of the seen classes' training images "
        f"(chosen {accuracy:.2f} %, best {best:.2f} %, mean over three tasks and three seeds). "
        "Target test accuracy played no part. The recipe is the same for every method."
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


if __name__ == "__main__":
    main()
