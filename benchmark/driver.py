"""What ``htbench run`` does, from Python: plan a suite's runs and carry out the unfinished ones.

Nothing here prints: a :class:`Monitor` shows the user how the work proceeds.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Protocol, Self

from benchmark.errors import UsageError
from benchmark.executors.local import LocalExecutor, slots
from benchmark.folders import data_folder
from benchmark.images.store.store import (
    EVERYTHING,
    DomainStore,
    ImageNeed,
    absent_images,
    open_store,
)
from benchmark.isolation import sandbox
from benchmark.isolation.client import ForkServer, Limits
from benchmark.jobs import Value
from benchmark.manifest.catalogue import load_manifest
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite
from benchmark.methods.ask import check_settings, describe
from benchmark.methods.describe import MethodDescription
from benchmark.methods.find import MethodLocation
from benchmark.methods.resolve import resolve
from benchmark.networks.names import library_of, parse_network
from benchmark.progress import Reporter
from benchmark.records import RunRecord
from benchmark.runs.plan import PlannedRun, RunSpec, grid, resolve_device, select, with_sources
from benchmark.runs.workspace import Workspace
from benchmark.sources.bring import download_pretrained
from benchmark.sources.network import try_network
from benchmark.sources.pretrained import find_pretrained, pretrained_name
from benchmark.sources.spec import SourceCheckpoint, SourceSpec, find_source


class Monitor(Protocol):
    """Shows the user how the work proceeds."""

    def log(self, message: str) -> None:
        """Show one message."""

    def steps(self, name: str) -> Callable[[int, int], None]:
        """A function that is called with the finished and the total steps of one long task."""

    def jobs(self, total: int) -> AbstractContextManager[Reporter]:
        """A reporter for jobs that run side by side; it is used as a context manager."""


class Silent:
    """A :class:`Monitor`, and its own reporter, that shows nothing."""

    def log(self, message: str) -> None:
        """Show nothing."""

    def steps(self, name: str) -> Callable[[int, int], None]:
        """A function that does nothing."""
        return lambda finished, total: None

    def jobs(self, total: int) -> AbstractContextManager[Reporter]:
        """A reporter that shows nothing."""
        return contextlib.nullcontext(self)

    def begin(self, name: str) -> None:
        """Show nothing."""

    def step(self, name: str, done: int, total: int) -> None:
        """Show nothing."""

    def end(self, name: str, note: str) -> None:
        """Show nothing."""


class Session:
    """One fork server, started on first use because importing torch takes seconds.

    Args:
        never: folders that no method may read, in addition to the data folder.
        cuda: whether runs use an NVIDIA GPU.
        limits: the limits of each run.
        isolation: ``required`` fails if this machine cannot sandbox methods; ``auto`` runs anyway,
            and each row records what was in force.
    """

    def __init__(
        self,
        *,
        never: Iterable[Path] = (),
        cuda: bool = False,
        limits: Limits | None = None,
        isolation: str = "auto",
    ) -> None:
        self._never, self._cuda, self._limits = list(never), cuda, limits
        self._required = isolation == "required"
        self._server: ForkServer | None = None

    @property
    def server(self) -> ForkServer:
        """The fork server.

        Raises:
            UsageError: isolation is required and this machine does not support it.
        """
        if self._server is None:
            self._server = ForkServer(
                never=[data_folder(), *self._never],
                cuda=self._cuda,
                limits=self._limits,
                required=_required_facts() if self._required else (),
            )
        return self._server

    def describe(self, source: MethodLocation) -> Any:
        """Ask a child process to describe a method."""
        with tempfile.TemporaryDirectory() as folder:
            return describe(self.server, source, Path(folder))

    def check(self, method: MethodDescription, config: Mapping[str, Value]) -> None:
        """Let a method check settings that differ from its defaults.

        Raises:
            MethodError: the method rejects them.
        """
        if config != method.configure({}):
            with tempfile.TemporaryDirectory() as folder:
                check_settings(self.server, method, config, Path(folder))

    def with_network(self, manifest: Manifest, network: str | None) -> Manifest:
        """The manifest with another network, which a child process tries first.

        Args:
            manifest: the manifest.
            network: a network as ``--model`` takes it, or None for the manifest's own.

        Raises:
            UsageError: the network does not exist or cannot be used here.
        """
        if network is None:
            return manifest
        other = manifest.with_model(parse_network(network, manifest.document["model"]))
        library_of(other.model)
        if other.other_model is not None:
            with tempfile.TemporaryDirectory() as folder:
                try_network(self.server, other, "cuda" if self._cuda else "cpu", Path(folder))
        return other

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()


def _required_facts() -> Iterable[str]:
    missing = sandbox.available().missing
    if missing:
        raise UsageError(
            f"--isolation required: {'; '.join(missing)}. --isolation auto runs without it and "
            "records that on every row"
        )
    return sandbox.FULL_ISOLATION


@dataclass(frozen=True)
class RunPreview:
    """One run of a plan.

    Attributes:
        task: id of the task.
        method: the method, with the settings that are not its defaults.
        seed: the seed.
        state: ``done``, ``to run``, or ``to run, after its source model``.
        key: the run's key; None while its source model is not trained.
        estimated_seconds: median time of earlier runs of the method; None if there are none.
    """

    task: str
    method: str
    seed: int
    state: str
    key: str | None
    estimated_seconds: float | None

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        return self.state == "done"

    def as_dict(self) -> dict[str, Any]:
        """The plan's columns by name."""
        return asdict(self)


@dataclass(frozen=True)
class SuitePlan:
    """The runs of a suite that were asked for.

    Attributes:
        session: describes and runs methods.
        manifest: the suite's manifest, with the network that was asked for.
        cells: tasks, configured methods and seeds, bases before the runs that start from them.
        workspace: where runs are kept.
    """

    session: Session
    manifest: Manifest
    cells: list[PlannedRun]
    workspace: Workspace

    def preview(self) -> list[RunPreview]:
        """Every run with its state; starts nothing."""
        seconds = _past_seconds(self.workspace, self.manifest.model)
        runs = []
        for cell in self.cells:
            key, state = None, "to run, after its source model"
            if (source := find_source(cell.source)) is not None:
                *_, spec = with_sources(_with_bases(cell), {cell.source: source})
                key = spec.key
                state = "done" if self.workspace.finished(key) else "to run"
            estimate = 0.0 if state == "done" else seconds.get(cell.method.name)
            runs.append(RunPreview(cell.task.id, cell.label, cell.seed, state, key, estimate))
        return runs

    def untrained(self) -> list[SourceSpec]:
        """The source models that must be trained first."""
        specs = dict.fromkeys(cell.source for cell in self.cells)
        return [spec for spec in specs if find_source(spec) is None]

    def absent(self) -> list[str]:
        """One sentence for each kind of file that is missing, with the command that gets it."""
        untrained, manifest = self.untrained(), self.manifest
        needs = target_needs(self.cells)
        for domain, need in source_needs(untrained).items():
            needs[domain] = needs[domain] | need if domain in needs else need
        sentences = []
        counts = {name: len(absent_images(manifest, name, need)) for name, need in needs.items()}
        if total := sum(counts.values()):
            each = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()) if count)
            reference = manifest.reference
            mirrors = manifest.document.get("mirrors")
            download = f"htbench data download {reference}, or " if mirrors else ""
            sentences.append(
                f"{total} images are missing ({each}); run {download}"
                f"htbench data import {reference} PATH"
            )
        name = pretrained_name(manifest.model)
        if untrained and name and find_pretrained(manifest.model) is None:
            sentences.append(
                f"the pretrained weights {name} are missing: the first run downloads them; to use "
                f"a file instead, run htbench source train --manifest {manifest.reference}"
                f"{manifest.model_option} --weights FILE"
            )
        return sentences

    def execute(self, jobs: int | None, monitor: Monitor) -> list[RunRecord]:
        """Train missing source models and carry out the unfinished runs.

        Args:
            jobs: runs side by side; None for one per core on CPU and one on a GPU.
            monitor: shows the progress.

        Returns:
            The records of the runs that were carried out now.
        """
        width = jobs or slots(self.cells[0].device)
        with self.workspace:
            return execute_with_sources(self.session, self.cells, self.workspace, width, monitor)


@contextlib.contextmanager
def plan_suite(
    suite: Suite,
    workspace: Workspace,
    *,
    tasks: Sequence[str] = (),
    methods: Sequence[str] = (),
    seeds: Sequence[int] = (),
    settings: Mapping[str, str] | None = None,
    plugins: Sequence[str] = (),
    network: str | None = None,
    device: str = "auto",
    isolation: str = "auto",
    time_limit: float = Limits.seconds,
    memory_limit: float | None = None,
    derived: Mapping[str, str] | None = None,
) -> Iterator[SuitePlan]:
    """Plan the runs of a suite; methods are described and their settings checked.

    Args:
        suite: the suite.
        workspace: where runs are kept.
        tasks: only these tasks; all if empty.
        methods: only these methods; if empty, the suite's, or none if there are plugins.
        seeds: only these seeds; all if empty.
        settings: hyper-parameters as text; each goes to every method that has the field.
        plugins: files with methods, as ``--plugin`` takes them.
        network: another network, as ``--model`` takes it.
        device: ``auto``, ``cpu`` or ``cuda``.
        isolation: see :class:`Session`.
        time_limit: seconds that one run may take.
        memory_limit: GiB that one run may use, of which Python and torch take about 0.4; None for
            no limit.
        derived: see :func:`benchmark.methods.resolve.resolve`.

    Yields:
        The plan; its session ends with the block.

    Raises:
        HTBenchError: a name, a value, a plugin or the device cannot be used.
    """
    manifest = load_manifest(suite.manifest)
    task_ids, seed_list = select(suite, tasks, seeds)
    device = resolve_device(device)
    settings = settings or {}
    memory = Limits.memory if memory_limit is None else round(memory_limit * 2**30)
    with Session(
        never=[workspace.root, manifest.root],
        cuda=device == "cuda",
        limits=Limits(seconds=time_limit, memory=memory),
        isolation=isolation,
    ) as session:
        manifest = session.with_network(manifest, network)
        names = methods or (() if plugins else suite.methods)
        descriptions = resolve(names, plugins, session.describe, derived or {})
        cells = grid(manifest, task_ids, descriptions, seed_list, device, settings)
        for method in descriptions:
            session.check(method, method.configure(settings))
        yield SuitePlan(session, manifest, cells, workspace)


def open_stores(
    manifest: Manifest, needs: Mapping[str, ImageNeed], monitor: Monitor
) -> dict[str, DomainStore]:
    """The image stores of some domains by name; missing parts are built."""
    return {
        domain: open_store(
            manifest, domain, monitor.steps(f"decoding images of {domain}"), need, monitor.log
        )
        for domain, need in sorted(needs.items())
    }


def target_needs(cells: Iterable[PlannedRun]) -> dict[str, ImageNeed]:
    """The images that runs need of their target domains, by domain."""
    needs: dict[str, ImageNeed] = {}
    for cell in cells:
        seen = frozenset(cell.manifest.seen_mask(cell.task).nonzero()[0].tolist())
        # Features cover all classes, so that tasks with other seen classes share them.
        every = cell.method.track == "oracle" or cell.method.uses_features
        need = ImageNeed(None if every else seen)
        target = cell.task.target
        needs[target] = needs[target] | need if target in needs else need
    return needs


def source_needs(specs: Iterable[SourceSpec]) -> dict[str, ImageNeed]:
    """The images that training source models needs, by domain: all of them."""
    return {domain: EVERYTHING for spec in specs for domain in spec.domains}


def ready_sources(
    session: Session,
    specs: Sequence[SourceSpec],
    workspace: Workspace,
    width: int,
    monitor: Monitor,
) -> dict[SourceSpec, SourceCheckpoint]:
    """The source models of one manifest; missing ones are trained.

    The manifest's pretrained weights are downloaded on first use.
    """
    sources = {spec: source for spec in specs if (source := find_source(spec)) is not None}
    untrained = [spec for spec in specs if spec not in sources]
    if not untrained:
        return sources
    manifest = untrained[0].manifest
    if pretrained_name(manifest.model) and find_pretrained(manifest.model) is None:
        download_pretrained(session.server, manifest, monitor.log)
    stores = open_stores(manifest, source_needs(untrained), monitor)
    with monitor.jobs(len(untrained)) as reporter:
        executor = LocalExecutor(session.server, workspace, width, reporter)
        return sources | executor.train_sources(untrained, stores)


def execute_with_sources(
    session: Session, cells: list[PlannedRun], workspace: Workspace, width: int, monitor: Monitor
) -> list[RunRecord]:
    """Train the missing source models of some cells, then carry out their unfinished runs."""
    specs = list(dict.fromkeys(cell.source for cell in cells))
    sources = ready_sources(session, specs, workspace, width, monitor)
    return execute_cells(session, cells, sources, workspace, width, monitor)


def execute_cells(
    session: Session,
    cells: list[PlannedRun],
    sources: Mapping[SourceSpec, SourceCheckpoint],
    workspace: Workspace,
    width: int,
    monitor: Monitor,
) -> list[RunRecord]:
    """Carry out the unfinished runs of some cells of one manifest; return their records."""
    runs = unfinished_runs(cells, sources, workspace)
    if not runs:
        return []
    if again := sum(workspace.finished(run.key) is not None for run in runs):
        monitor.log(f"re-running {again} finished runs whose weights other runs need")
    stores = open_stores(cells[0].manifest, target_needs(run.planned for run in runs), monitor)
    with monitor.jobs(len(runs)) as reporter:
        return LocalExecutor(session.server, workspace, width, reporter).execute(runs, stores)


def unfinished_runs(
    cells: Iterable[PlannedRun],
    sources: Mapping[SourceSpec, SourceCheckpoint],
    workspace: Workspace,
) -> list[RunSpec]:
    """The runs to carry out: unfinished ones, and bases whose weights they need and are gone."""
    specs = list(with_sources(cells, sources))
    open_runs = {s.key for s in specs if workspace.finished(s.key) is None}
    bases = {s.base.key for s in specs if s.key in open_runs and s.base is not None}
    open_runs |= {key for key in bases if workspace.finished(key, weights=True) is None}
    return list({spec.key: spec for spec in specs if spec.key in open_runs}.values())


def _with_bases(cell: PlannedRun) -> list[PlannedRun]:
    """A cell after the cells that it starts from."""
    return [*_with_bases(cell.base), cell] if cell.base else [cell]


def _past_seconds(workspace: Workspace, model: Mapping[str, Any]) -> dict[str, float]:
    """Median wall seconds of each method's finished runs with a network."""
    times: dict[str, list[float]] = {}
    for record in workspace.records():
        if record.status == "ok" and record.made_from.get("model") == model:
            times.setdefault(record.method, []).append(record.cost["wall_seconds"])
    return {method: median(values) for method, values in times.items()}
