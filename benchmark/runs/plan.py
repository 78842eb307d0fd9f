"""The plan of a grid: which runs there are, bases before the runs that start from them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from benchmark.choices import DEVICES
from benchmark.errors import MethodError, UsageError
from benchmark.images.store.store import store_key
from benchmark.jobs import Value
from benchmark.keys import (
    Computation,
    RunFacts,
    computation,
    digest_entries,
    encoded_entries,
    encoded_scalar,
)
from benchmark.manifest.manifest import Manifest, Task
from benchmark.manifest.rates import rate_text
from benchmark.methods.describe import MethodDescription
from benchmark.sources.spec import SourceCheckpoint, SourceSpec
from benchmark.text import near

# Nodes of which one is there where an NVIDIA GPU is (the second on Windows' Linux). A run's sandbox
# allows these devices only: torch also calls AMD's GPUs "cuda", and Jetsons have other nodes.
CUDA_NODES = ("/dev/nvidiactl", "/dev/dxg")


@dataclass(frozen=True)
class PlannedRun:
    """One run of a grid: a task, a configured method and a seed, before the source is known."""

    manifest: Manifest
    task: Task
    method: MethodDescription
    config: Mapping[str, Value]
    seed: int
    device: str
    base: PlannedRun | None
    search: Mapping[str, Any] | None = None  # the search that chose the settings, if one did

    @property
    def label(self) -> str:
        """The method with its non-default settings, or ``(tuned)`` if a search chose them."""
        return f"{self.method.name}(tuned)" if self.search else self.method.label(self.config)

    @property
    def name(self) -> str:
        """For people, such as ``finetune outline-solid seed 1``; differs between runs of a grid."""
        factor = self.manifest.rate_factor
        rates = "" if factor == 1 else f" rates x {rate_text(factor)}"
        return f"{self.label} {self.task.id} seed {self.seed}{rates}"

    @property
    def cell(self) -> Hashable:
        """Equal for runs of the same plan that differ in nothing but their seeds."""
        parts = (self.manifest, self.method, self.config, self.search)
        return self.task.id, self.device, *map(id, parts)

    @cached_property
    def source(self) -> SourceSpec:
        """The source model that the run starts from."""
        number = self.seed % self.manifest.source_seeds
        return _source(self.manifest, self.task.sources, self.device, number)


@lru_cache(maxsize=64)  # thousands of runs share a source model
def _source(manifest: Manifest, domains: tuple[str, ...], device: str, number: int) -> SourceSpec:
    return SourceSpec.of(manifest, domains, device, number)


@dataclass(frozen=True)
class RunSpec:
    """A planned run with its source model: everything that its bytes depend on is known.

    Attributes:
        planned: the run; ``source``: its source model; ``base``: the run that it starts from.
        computation: what any computed bytes depend on.
        store: key of the target's image store.
        shared: the facts that differ neither by seed nor by source model nor by base, encoded; the
            first run of a cell encodes them for all.
    """

    planned: PlannedRun
    source: SourceCheckpoint
    base: RunSpec | None
    computation: Computation
    store: str
    shared: dict[str, str]

    @cached_property
    def facts(self) -> RunFacts:
        """Everything that the bytes of the predictions depend on."""
        planned = self.planned
        return RunFacts(
            manifest=planned.manifest.digest,
            task=planned.task.id,
            store=self.store,
            source=self.source.digest,
            base=self.base.key if self.base else None,
            method={"name": planned.method.name, "code": dict(planned.method.code)},
            config=dict(planned.config),
            model=planned.manifest.model,
            recipe=planned.manifest.recipe,
            seed=planned.seed,
            search=planned.search or None,
            computation=self.computation,
        )

    @cached_property
    def key(self) -> str:
        """SHA-256 over the facts: the run's name on disk."""
        base = self.base.key if self.base else None
        own = {"base": base, "seed": self.planned.seed, "source": self.source.digest}
        encoded = {name: encoded_scalar(name, value) for name, value in own.items()}
        if not self.shared:
            self.shared.update(encoded_entries(self.facts.to_json()))
        return digest_entries({**self.shared, **encoded})

    @property
    def name(self) -> str:
        """For people."""
        return self.planned.name


def grid(
    manifest: Manifest,
    tasks: Iterable[str],
    methods: Sequence[MethodDescription],
    seeds: Iterable[int],
    device: str,
    settings: Mapping[str, str],
) -> list[PlannedRun]:
    """Every run of a grid, task by task, bases before the runs that start from them.

    Args:
        manifest: where the tasks are.
        tasks: ids of tasks.
        methods: descriptions, bases first (see ``methods/resolve.py``).
        seeds: seeds.
        device: ``cpu`` or ``cuda``.
        settings: hyper-parameters as text; each goes to every method that has the field.

    Raises:
        MethodError: no method has one of the fields, or a value has the wrong type.
        ManifestError: unknown task.
    """
    check_fields(methods, settings)
    configs = {method.name: method.configure(settings) for method in methods}
    seeds = list(seeds)
    plan: list[PlannedRun] = []
    for task_id in tasks:
        task = manifest.task(task_id)
        of_task: dict[tuple[str, int], PlannedRun] = {}
        for method in methods:
            for seed in seeds:
                base = of_task[method.base, seed] if method.base else None
                config = configs[method.name]
                run = PlannedRun(manifest, task, method, config, seed, device, base)
                of_task[method.name, seed] = run
                plan.append(run)
    return plan


def check_fields(methods: Iterable[MethodDescription], settings: Mapping[str, str]) -> None:
    """Check that some method has each of the fields that are set.

    Raises:
        MethodError: none has.
    """
    fields = sorted({f.name for method in methods for f in method.fields})
    for name in settings:
        if name not in fields:
            raise MethodError(
                f"--set {name}: no selected method has this field; {near(name, fields)}fields: "
                f"{', '.join(fields) or 'none'}"
            )


def with_sources(
    plan: Iterable[PlannedRun], sources: Mapping[SourceSpec, SourceCheckpoint]
) -> Iterator[RunSpec]:
    """The planned runs with the checkpoints of their sources; bases come first."""
    specs: dict[int, RunSpec] = {}
    # These take long to compute and are shared by many runs.
    computations: dict[tuple[Manifest, str], Computation] = {}
    stores: dict[tuple[Manifest, str], str] = {}
    shared: dict[Hashable, dict[str, str]] = {}
    for run in plan:
        manifest, target = run.manifest, run.task.target
        if (manifest, run.device) not in computations:
            computations[manifest, run.device] = computation(run.device, manifest.model)
        if (manifest, target) not in stores:
            stores[manifest, target] = store_key(manifest, target)
        specs[id(run)] = spec = RunSpec(
            run,
            sources[run.source],
            specs[id(run.base)] if run.base else None,
            computations[manifest, run.device],
            stores[manifest, target],
            shared.setdefault(run.cell, {}),
        )
        yield spec


def resolve_device(choice: str) -> str:
    """``cpu`` or ``cuda`` for ``auto``, ``cpu`` or ``cuda``; loads no torch in this process.

    Raises:
        UsageError: it is another choice, or cuda and torch finds no CUDA device.
    """
    if choice not in DEVICES:
        raise UsageError(f"unknown device {choice!r}; known: {', '.join(DEVICES)}")
    if choice == "cpu":
        return "cpu"
    if any(Path(node).exists() for node in CUDA_NODES) and _torch_sees_cuda():
        return "cuda"
    if choice == "cuda":
        raise UsageError(
            "--device cuda: torch finds no CUDA device; use --device cpu, or see `htbench doctor`"
        )
    return "cpu"


def _torch_sees_cuda() -> bool:
    code = "import torch, sys; sys.exit(0 if torch.cuda.is_available() else 1)"
    return subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0
