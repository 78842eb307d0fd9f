"""Search the adaptation recipe of pacs@1.0 on held-out seen training images of the targets.

Test images and target images of missing classes are never read. A fifth of the training images of
each seen class is held out: whole groups, the last ones in the order of the split. Every candidate
fine-tunes the source model, trained by the manifest's ``[source]`` recipe, on the other images.

``search.csv`` records every run, with one bit per held-out image. A search that was interrupted
continues there. The choice follows from that file by the one-standard-error rule, and goes to
``recipe.toml``, which the builder reads.
"""

from __future__ import annotations

import csv
import io
import itertools
import multiprocessing
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import numpy as np

from benchmark.errors import DataError
from benchmark.files import digest_json, write_file
from benchmark.folders import data_folder
from benchmark.folds import held_out_count
from benchmark.images.store.store import ImageNeed, open_store
from benchmark.manifest.catalogue import load_manifest
from benchmark.manifest.draws import first_groups, groups_in_order
from benchmark.manifest.manifest import Manifest, Task
from benchmark.manifest.toml import to_toml
from benchmark.numerics import ENVIRONMENT
from benchmark.sources.pretrained import pretrained_path
from data_manifests.builders.one_standard_error import (
    Candidate,
    Comparison,
    choose,
    compare,
)
from data_manifests.builders.pacs.build import group_of

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.method import Run, TargetData
    from benchmark.networks.build import Classifier

REFERENCE = "pacs@1.0"
HELD_OUT_SHARE = 0.2
# Tasks of the suite with different targets, since a run takes minutes.
TASKS = ("photo-art_painting", "art_painting-cartoon", "photo-sketch")
SEEDS = (0,)
# Of backbone and head, each a third of the next.
RATES = (0.0001, 0.0003, 0.0009, 0.0027, 0.0081, 0.0243)
# More steps are recorded but are not candidates: the suite must run on a CPU.
STEPS = (100, 200)
COLUMNS = ("task", "seed", "rate", "steps", "device", "held_out_accuracy", "correct")


class SearchRun(NamedTuple):
    """One training run of the search, in the order in which runs are done."""

    task: str
    seed: int
    steps: int
    rate: float


class Outcome(NamedTuple):
    """What a run found: the name of its device, and the bits of :func:`pack`."""

    device: str
    correct: str


def planned() -> list[SearchRun]:
    """The runs of all candidates, task by task, so that an interrupted search has whole tasks."""
    runs = itertools.product(SEEDS, TASKS, STEPS, RATES)
    return [SearchRun(task, seed, steps, rate) for seed, task, steps, rate in runs]


def held_out_ids(manifest: Manifest, task: Task) -> list[str]:
    """Ids of the held-out training images of a task's seen classes, class by class."""
    samples = manifest.samples(task.target, "train")
    paths = dict(zip(manifest.ids.tolist(), manifest.table["path"].to_pylist(), strict=True))
    ids = []
    for label in np.flatnonzero(manifest.seen_mask(task)):
        members = {
            paths[image_id]: image_id
            for image_id, own in zip(samples.ids, samples.labels, strict=True)
            if own == label
        }
        groups = reversed(groups_in_order(members, group_of))
        held_out = first_groups(groups, held_out_count(len(members), HELD_OUT_SHARE))
        ids += [members[path] for path in reversed(held_out)]
    return ids


def pack(correct: Iterable[bool]) -> str:
    """Write one bit per image as hexadecimal digits, first image first, padded with zeros."""
    return np.packbits(np.fromiter(correct, dtype=bool)).tobytes().hex()


def unpack(text: str, count: int) -> list[bool]:
    """Read what :func:`pack` wrote for ``count`` images.

    Raises:
        DataError: the text has another number of bits.
    """
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(text), dtype=np.uint8))
    if len(bits) != 8 * -(-count // 8):
        raise DataError(f"{len(bits)} bits are recorded for {count} held-out images")
    return [bool(bit) for bit in bits[:count]]


def read_runs(path: Path) -> dict[SearchRun, Outcome]:
    """Read the outcomes of finished runs; none if the file does not exist."""
    if not path.exists():
        return {}
    with path.open() as file:
        return {
            SearchRun(
                row["task"], int(row["seed"]), int(row["steps"]), float(row["rate"])
            ): Outcome(row["device"], row["correct"])
            for row in csv.DictReader(file)
        }


def comparisons(manifest: Manifest, runs: Mapping[SearchRun, Outcome]) -> list[Comparison]:
    """Compare the candidates on all tasks and seeds that every candidate has finished.

    Raises:
        DataError: no task is finished, or an outcome does not fit its task.
    """
    candidates = [Candidate(rate, steps) for rate, steps in itertools.product(RATES, STEPS)]
    cells = [
        (task, seed)
        for task, seed in itertools.product(TASKS, SEEDS)
        if all(SearchRun(task, seed, steps, rate) in runs for rate, steps in candidates)
    ]
    if not cells:
        raise DataError("no task of the search has runs of all candidates; continue the search")
    group = dict(zip(manifest.ids.tolist(), manifest.table["group"].to_pylist(), strict=True))
    tasks: list[str] = []
    groups: list[str] = []
    correct: list[list[bool]] = [[] for _ in candidates]
    for task, seed in cells:
        ids = held_out_ids(manifest, manifest.task(task))
        tasks += [task] * len(ids)
        groups += [group[image_id] for image_id in ids]
        for row, (rate, steps) in zip(correct, candidates, strict=True):
            row += unpack(runs[SearchRun(task, seed, steps, rate)].correct, len(ids))
    return compare(candidates, correct, tasks, groups)


def search(path: Path, jobs: int, device: str = "cpu") -> dict[SearchRun, Outcome]:
    """Do the runs of candidates that are not in ``search.csv`` yet; return all outcomes.

    Args:
        path: of ``search.csv``, rewritten after every run.
        jobs: number of parallel runs, each on one core.
        device: ``cpu`` or ``cuda``.

    Raises:
        DataError: the images or the pretrained weights are not in the data folder.
    """
    os.environ.update(ENVIRONMENT)  # before a worker imports torch
    manifest = load_manifest(REFERENCE)
    runs = read_runs(path)
    remaining = [run for run in planned() if run not in runs]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        sources = sorted({manifest.task(run.task).sources[0] for run in remaining})
        list(pool.map(train_source, sources, itertools.repeat(device)))
        futures = {pool.submit(outcome, run, device): run for run in remaining}
        for future in as_completed(futures):
            runs[futures[future]] = future.result()
            _write_csv(path, manifest, runs)
            finished = sum(run in runs for run in planned())
            click.echo(f"[{finished}/{len(planned())}] {futures[future]}", err=True)
    return runs


def recipe_toml(manifest: Manifest, runs: Mapping[SearchRun, Outcome]) -> str:
    """The manifest's table ``[recipe]`` with the choice of the rule, as TOML.

    Args:
        manifest: its recipe has the settings that are not searched.
        runs: with those of all candidates.
    """
    rows = comparisons(manifest, runs)
    devices = sorted({runs[run].device for run in planned()})
    chosen, best = choose(rows), min(rows, key=lambda row: (row.deficit, row.candidate))
    sentences = f"""By the rule of one standard error, from seen training images of the targets
        alone: of rates {RATES} and steps {STEPS}, the smallest rate, then the fewest steps, that
        are not worse than the best by more than one standard error of the paired difference, in
        accuracy on a held-out fifth of the seen classes' training images, resampled by group
        (chosen {chosen.accuracy:.2f} %, best {best.accuracy:.2f} % at rate
        {best.candidate.rate:g} and {best.candidate.steps} steps, standard error of the difference
        {chosen.standard_error:.2f} points; mean over the tasks {", ".join(TASKS)}). More steps are
        not candidates, because the suite must run on a CPU. The search ran on
        {" and ".join(devices)}. No image of a missing class and no test image played a part. The
        recipe is the same for every method."""
    choice = {"steps": chosen.candidate.steps, "lr": chosen.candidate.rate}
    text = fill(" ".join(sentences.split()), 100, break_long_words=False, break_on_hyphens=False)
    return to_toml({"recipe": {**manifest.recipe, **choice, "chosen": text}})


def table(rows: Sequence[Comparison]) -> str:
    """Format the comparison of all candidates; a star marks the choice of the rule."""
    chosen = choose(rows)
    lines = ["  rate    steps  held-out accuracy %  worse than the best by"]
    for row in sorted(rows, key=lambda row: row.candidate):
        lines.append(
            f"{'*' if row == chosen else ' '} {row.candidate.rate:<7g} {row.candidate.steps:<6d} "
            f"{row.accuracy:19.2f}  {row.deficit:.2f} +- {row.standard_error:.2f}"
        )
    return "\n".join(lines)


def _write_csv(path: Path, manifest: Manifest, runs: Mapping[SearchRun, Outcome]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    counts = {task: len(held_out_ids(manifest, manifest.task(task))) for task in TASKS}
    for run in sorted(runs, key=lambda run: (run.seed, TASKS.index(run.task), *run[2:])):
        device, correct = runs[run]
        accuracy = 100 * np.mean(unpack(correct, counts[run.task]))
        writer.writerow(
            [run.task, run.seed, run.rate, run.steps, device, f"{accuracy:.4f}", correct]
        )
    write_file(path, text.getvalue().encode())


def device_name(device: str) -> str:
    """The name of a device, for the record."""
    if device == "cpu":
        return "CPU"
    import torch

    return torch.cuda.get_device_name()


def outcome(run: SearchRun, device: str = "cpu") -> Outcome:
    """Fine-tune a source model; return which held-out images it then predicts correctly.

    A run that diverges predicts nothing correctly.
    """
    import safetensors.torch

    from benchmark.child.data import on_device
    from benchmark.training import fit, predict

    manifest = load_manifest(REFERENCE)
    task = manifest.task(run.task)
    data, ids = training_data(manifest, task.target, np.flatnonzero(manifest.seen_mask(task)))
    held_out = held_out_ids(manifest, task)
    kept = sorted(set(ids) - set(held_out), key=ids.index)
    recipe = {**manifest.recipe, "steps": run.steps, "lr": run.rate}
    model, settings = _start(manifest, recipe, run.seed, device)
    model.load_state_dict(safetensors.torch.load_file(source_file(manifest, task.sources[0])))
    model, data = model.to(settings.device), on_device(data, settings.device)
    try:
        fit(model, data.rows(_places(ids, kept)), settings)
    except FloatingPointError:
        return Outcome(device_name(device), pack([False] * len(held_out)))
    part = data.rows(_places(ids, held_out))
    predicted = predict(model, part.images, settings).argmax(dim=1)
    return Outcome(device_name(device), pack((predicted == part.labels).tolist()))


def train_source(domain: str, device: str = "cpu") -> None:
    """Train the source model of a domain and keep it in the data folder, unless it is there."""
    import safetensors.torch

    from benchmark.child.data import on_device
    from benchmark.networks.build import load_backbone, weights_of
    from benchmark.training import fit

    manifest = load_manifest(REFERENCE)
    file = source_file(manifest, domain)
    if file.exists():
        return
    data, _ = training_data(manifest, domain, range(len(manifest.classes)))
    model, settings = _start(manifest, manifest.source_recipe, 0, device)
    if weights := pretrained_path(manifest.model):
        state = safetensors.torch.load_file(weights)
        load_backbone(model, state, manifest.model, manifest.input_size)
    model = model.to(settings.device)
    fit(model, on_device(data, settings.device), settings)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_file(file, safetensors.torch.save(weights_of(model)))


def source_file(manifest: Manifest, domain: str) -> Path:
    """The search's source model of a domain: one file for each ``[source]`` recipe and network."""
    tables = [manifest.model, manifest.document["transforms"], manifest.source_recipe]
    return data_folder() / "pacs-search" / f"{domain}-{digest_json(tables)[:16]}.safetensors"


def training_data(
    manifest: Manifest, domain: str, classes: Iterable[int]
) -> tuple[TargetData, list[str]]:
    """Training images of some classes of a domain, and their ids in the same order."""
    import torch

    from benchmark.images.store.tensors import join, open_images
    from benchmark.method import TargetData

    labels = [int(label) for label in classes]
    store = open_store(manifest, domain, need=ImageNeed(frozenset(labels), test=False))
    parts, ids, targets = [], [], []
    for path, label, count in store.train_files(labels):
        with path.open("rb") as file:
            parts.append(open_images(file.fileno(), count, store.image_size, store.kind))
        ids += store.index["train"][str(label)]
        targets += [label] * count
    seen = torch.zeros(len(manifest.classes), dtype=torch.bool)
    seen[labels] = True
    images = join(parts, store.image_size)
    return TargetData(images, torch.tensor(targets), manifest.classes, seen), ids


def _start(
    manifest: Manifest, recipe: Mapping[str, Any], seed: int, device: str
) -> tuple[Classifier, Run]:
    """A network with random weights, and the settings of a run."""
    import torch

    from benchmark import numerics
    from benchmark.images.augment import Transforms
    from benchmark.method import Run, TrainingRecipe
    from benchmark.networks.build import build

    numerics.configure()
    numerics.seed_globals(seed)
    settings = Run(
        device=torch.device(device),
        recipe=TrainingRecipe.from_table({k: v for k, v in recipe.items() if k != "chosen"}),
        transforms=Transforms(manifest.document["transforms"]),
        stream=numerics.Streams(seed),
        scratch=Path(os.devnull),
    )
    return build(manifest.model, len(manifest.classes), manifest.input_size), settings


def _places(ids: Sequence[str], wanted: Iterable[str]) -> Tensor:
    import torch

    place = {image_id: index for index, image_id in enumerate(ids)}
    return torch.tensor([place[image_id] for image_id in wanted])
