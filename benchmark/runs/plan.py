"""The plan of a grid: which runs there are, the key of each, and which are already done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmark.errors import MethodError, UsageError
from benchmark.images.store import store_key
from benchmark.jobs import Value
from benchmark.manifest import Manifest, Suite, Task
from benchmark.provenance import RunFacts, computation
from benchmark.registry import MethodDescription
from benchmark.source import SourceCheckpoint, SourceSpec


@dataclass(frozen=True)
class Cell:
    """One cell of a grid: a task, a configured method and a seed, before the source is known."""

    manifest: Manifest
    task: Task
    method: MethodDescription
    config: Mapping[str, Value]
    seed: int
    device: str
    base: Cell | None
    search: Mapping[str, Any] | None = None  # the search that chose the settings, if one did

    @property
    def label(self) -> str:
        """The method with the settings that are not its defaults, or that a search chose them."""
        return f"{self.method.name}(tuned)" if self.search else self.method.label(self.config)

    @property
    def name(self) -> str:
        """For people, such as ``finetune outline-solid seed 1``."""
        return f"{self.label} {self.task.id} seed {self.seed}"

    @cached_property
    def source(self) -> SourceSpec:
        """The source model that the run starts from."""
        return SourceSpec.of(self.manifest, self.task.sources, self.device)


@dataclass(frozen=True)
class RunSpec:
    """A cell whose source model is there: all that the run's bytes depend on is known."""

    cell: Cell
    source: SourceCheckpoint
    base: RunSpec | None

    @cached_property
    def facts(self) -> RunFacts:
        """Everything that the bytes of the predictions depend on."""
        cell = self.cell
        return RunFacts(
            manifest=cell.manifest.digest,
            task=cell.task.id,
            store=store_key(cell.manifest, cell.task.target),
            source=self.source.digest,
            base=self.base.key if self.base else None,
            method={"name": cell.method.name, "code": dict(cell.method.code)},
            config=dict(cell.config),
            model=cell.manifest.model,
            recipe=cell.manifest.document["recipe"],
            seed=cell.seed,
            search=cell.search or None,
            computation=computation(cell.device, cell.manifest.model),
        )

    @cached_property
    def key(self) -> str:
        """The run's key: its name on disk."""
        return self.facts.key

    @property
    def name(self) -> str:
        """For people."""
        return self.cell.name


def grid(
    manifest: Manifest,
    tasks: Iterable[str],
    methods: Sequence[MethodDescription],
    seeds: Iterable[int],
    device: str,
    settings: Mapping[str, str],
) -> list[Cell]:
    """Every cell of a grid, task by task, bases before what starts from them.

    Args:
        manifest: where the tasks are.
        tasks: ids of tasks.
        methods: descriptions, bases first (see ``registry.resolve``).
        seeds: seeds.
        device: ``cpu`` or ``cuda``.
        settings: hyper-parameters given as text; each goes to every method that has the field.

    Raises:
        MethodError: no method has one of the fields, or a value is of the wrong type.
        ManifestError: unknown task.
    """
    fields = {f.name for method in methods for f in method.fields}
    if unknown := [name for name in settings if name not in fields]:
        known = ", ".join(sorted(fields)) or "none"
        raise MethodError(f"--set {unknown[0]}: no chosen method has that field; fields: {known}")
    configs = {method.name: method.configure(settings) for method in methods}
    seeds = list(seeds)
    cells: list[Cell] = []
    for task_id in tasks:
        task = manifest.task(task_id)
        made: dict[tuple[str, int], Cell] = {}
        for method in methods:
            for seed in seeds:
                base = made[method.base, seed] if method.base else None
                cell = Cell(manifest, task, method, configs[method.name], seed, device, base)
                made[method.name, seed] = cell
                cells.append(cell)
    return cells


def with_sources(
    cells: Iterable[Cell], sources: Mapping[SourceSpec, SourceCheckpoint]
) -> Iterator[RunSpec]:
    """The run of every cell, given the checkpoints of all sources."""
    made: dict[int, RunSpec] = {}
    for cell in cells:
        base = made[id(cell.base)] if cell.base else None
        made[id(cell)] = spec = RunSpec(cell, sources[cell.source], base)
        yield spec


def select(suite: Suite, tasks: Sequence[str], seeds: Sequence[int]) -> tuple[list[str], list[int]]:
    """The tasks and seeds of a suite that were asked for; all of them where none were named.

    Raises:
        UsageError: a task or seed is not the suite's.
    """
    for kind, wanted, known in (("task", tasks, suite.tasks), ("seed", seeds, suite.seeds)):
        for item in wanted:
            if item not in known:
                listed = ", ".join(map(str, known))
                raise UsageError(f"--{kind} {item} is not in suite {suite.name}; it has: {listed}")
    return (
        [t for t in suite.tasks if not tasks or t in tasks],
        [s for s in suite.seeds if not seeds or s in seeds],
    )


def resolve_device(choice: str) -> str:
    """``cpu`` or ``cuda`` for ``auto``, ``cpu`` or ``cuda``; loads no torch in this process.

    Raises:
        UsageError: cuda was asked for and torch finds no CUDA device.
    """
    if choice == "cpu":
        return "cpu"
    nodes = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd", "/dev/nvhost-gpu")
    if any(Path(node).exists() for node in nodes) and _torch_sees_cuda():
        return "cuda"
    if choice == "cuda":
        raise UsageError(
            "--device cuda: torch finds no CUDA device; use --device cpu, or see `htbench doctor`"
        )
    return "cpu"


def _torch_sees_cuda() -> bool:
    import subprocess
    import sys

    code = "import torch, sys; sys.exit(0 if torch.cuda.is_available() else 1)"
    return subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0
