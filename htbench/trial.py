"""Try a method in the current process, on held-out training images of seen classes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmark.child.notes import log_and_notes
from benchmark.child.predict import check_logits, predict_logits
from benchmark.child.steps import StepCounter
from benchmark.errors import UsageError
from benchmark.in_process import Loaded, adapt, open_arguments
from benchmark.manifest.manifest import Manifest, Task
from benchmark.manifest.suite import checked_seed, load_suite, manifest_of
from benchmark.method import Run, TargetData
from benchmark.numerics import Streams
from benchmark.progress import Monitor
from benchmark.runs.plan import resolve_device
from benchmark.temporary import temporary_folder
from benchmark.training import predict
from benchmark.tuning.folds import HELD_OUT_SHARE, MISSING_SHARE, check_held_out
from htbench.checks import load_argument

FEWEST_CLASSES = 2  # of which one plays missing
FIRST_IMAGES = 8  # predicted first: predict() takes nothing but tensors
SMOKE_STEPS = 2
SMOKE_CLASSES = 8
SMOKE_IMAGES = 4  # of each class


@dataclass(frozen=True)
class TrialResult:
    """What a trial gave.

    Attributes:
        source: accuracies of the source model on held-out images of the classes that were seen and
            of those that played missing, in per cent.
        method: those of the adapted model.
        images: the number of held-out images.
        steps: gradient steps, with those of methods that it starts from.
        seconds: of adapting.
        notes: the notes of the method.
    """

    source: tuple[float, float]
    method: tuple[float, float]
    images: int
    steps: int
    seconds: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Trial:
    """A method and what it is tried on."""

    chain: Sequence[Loaded]
    label: str
    manifest: Manifest
    entry: Task
    seed: int
    device: str
    smoke: bool
    monitor: Monitor

    @property
    def task(self) -> str:
        """The id of the task."""
        return self.entry.id

    def carry_out(self) -> TrialResult:
        """Adapt, and predict the held-out images.

        Raises:
            NotApplicable: the method says so.
            ContractError: what it returns breaks the contract. Other exceptions are its own.
        """
        with temporary_folder() as folder:
            source, whole, run = open_arguments(
                self.manifest,
                self.entry,
                seed=self.seed,
                device=self.device,
                monitor=self.monitor,
                scratch=folder,
                untrained=self.smoke,
            )
            if self.smoke:
                whole = _few_images(whole)
                run.recipe = replace(run.recipe, steps=SMOKE_STEPS)
            target, held_out, missing = _fold(whole, self.seed, self.task)
            methods = [entry.method for entry in self.chain]
            counter, start = StepCounter(), time.monotonic()
            model, last = adapt(methods, source, target, lambda: self._again(run), self.seed)
            seconds, steps = time.monotonic() - start, counter.facts(last)
            notes = log_and_notes(last)["notes"]
            count = min(len(held_out), FIRST_IMAGES)
            first = held_out.images[torch.arange(count)]
            predict_logits(model, first, last, len(held_out.classes))
            logits = predict(model, held_out.images, last)
            check_logits(logits, len(held_out), len(held_out.classes))
            before = predict(source.copy(), held_out.images, last)
        return TrialResult(
            source=_accuracies(before, held_out, missing),
            method=_accuracies(logits, held_out, missing),
            images=len(held_out),
            steps=max(steps["counted_steps"], steps["total_steps"]),
            seconds=seconds,
            notes=tuple(notes),
        )

    def _again(self, run: Run) -> Run:
        """A run of the same kind with fresh random streams."""
        report = self.monitor.steps("adapting")
        return replace(run, stream=Streams(self.seed), report=report, history=[], notes=[])


def open_trial(
    method: str,
    suite: str,
    task: str | None,
    *,
    seed: int,
    settings: Mapping[str, str],
    plugins: Sequence[str],
    device: str,
    smoke: bool,
    monitor: Monitor,
) -> Trial:
    """Look up what a trial needs; the method is imported into this process.

    Args:
        method: name of an installed method, or ``FILE.py[:CLASS]``.
        suite: name or file of a suite.
        task: one of its tasks; None: the first.
        seed: of the trial.
        settings: hyper-parameters as text.
        plugins: files with methods that it starts from.
        device: ``auto``, ``cpu`` or ``cuda``.
        smoke: take two steps on few images, from an untrained model if the source model is missing.
        monitor: shows the progress.

    Raises:
        HTBenchError: a name or a value is not valid.
    """
    seed = checked_seed(seed)
    loaded = load_suite(suite)
    manifest = manifest_of(loaded)
    task_id = loaded.part([] if task is None else [task]).tasks[0]
    entry = manifest.task(task_id)
    chain = load_argument(method, plugins, settings)
    if len(entry.seen) < FEWEST_CLASSES:
        raise UsageError(
            f"task {entry.id} has {len(entry.seen)} seen class; a trial needs {FEWEST_CLASSES}, "
            "because one plays missing"
        )
    if smoke:
        entry = replace(entry, seen=entry.seen[:SMOKE_CLASSES])
    description = chain[-1].description
    label = description.label(description.configure(settings))
    return Trial(chain, label, manifest, entry, seed, resolve_device(device), smoke, monitor)


def _few_images(target: TargetData) -> TargetData:
    """The first images of each class."""
    labels = target.labels
    rows = [(labels == label).nonzero().squeeze(1)[:SMOKE_IMAGES] for label in torch.unique(labels)]
    return target.rows(torch.cat(rows))


def _fold(whole: TargetData, seed: int, task: str) -> tuple[TargetData, TargetData, Tensor]:
    """Training data, held-out data, and the classes that play missing, bool (C,).

    Raises:
        UsageError: no image can be held out of one of the two groups of classes.
    """
    generator = torch.Generator().manual_seed(seed)
    fold = whole.fold(MISSING_SHARE, HELD_OUT_SHARE, generator)
    labels = whole.labels.tolist()
    check_held_out(task, fold, [labels[row] for row in fold.held_out])
    missing = torch.zeros_like(whole.seen)
    missing[list(fold.missing)] = True
    rest = torch.ones(len(whole), dtype=torch.bool)
    rest[list(fold.train + fold.held_out)] = False
    seen = whole.seen & ~missing
    parts = (torch.tensor(fold.train), torch.tensor(fold.held_out), rest.nonzero().squeeze(1))
    train, held_out, others = (
        replace(whole.rows(rows.to(whole.labels.device)), seen=seen) for rows in parts
    )
    return replace(train, missing=others), held_out, missing


def _accuracies(logits: Tensor, held_out: TargetData, missing: Tensor) -> tuple[float, float]:
    """Accuracy over all columns in per cent: of seen classes, and of those that played missing."""
    right = (logits.argmax(dim=1) == held_out.labels).double()
    is_missing = missing[held_out.labels]
    return 100 * right[~is_missing].mean().item(), 100 * right[is_missing].mean().item()
