"""What ``htbench run`` does, from Python: plan a suite's runs and carry out the unfinished ones.

Nothing here prints: a :class:`Monitor` shows the user how the work proceeds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from benchmark.commands import ways_to_images
from benchmark.errors import DataError, UsageError, first
from benchmark.estimate import Estimates
from benchmark.executors.local import LocalExecutor, slots
from benchmark.images.store.store import (
    EVERYTHING,
    DomainStore,
    ImageNeed,
    absent_images,
    open_store,
)
from benchmark.isolation.client import Limits
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite, manifest_of, run_command
from benchmark.methods.resolve import resolve
from benchmark.progress import Monitor
from benchmark.records import RunRecord
from benchmark.runs.plan import PlannedRun, RunSpec, grid, resolve_device, with_sources
from benchmark.runs.shards import Shard, split
from benchmark.runs.workspace import Workspace
from benchmark.session import Session
from benchmark.sources.features import features_folder, find_features
from benchmark.sources.get_pretrained import download_pretrained, use_file_command
from benchmark.sources.pinned import download_pinned
from benchmark.sources.pretrained import find_pretrained, pretrained_name
from benchmark.sources.spec import SourceCheckpoint, SourceSpec, find_source, needs_training
from benchmark.text import plural


@dataclass(frozen=True)
class RunPreview:
    """One run of a plan.

    Attributes:
        task: id of the task.
        method: the method, with the settings that are not its defaults.
        seed: the seed.
        state: ``done``, ``to run``, or ``to run, after its source model``.
        key: the run's key; None while its source model is not trained.
        estimated_seconds: how long it will take, see :class:`Estimates`; None if that is not
            known without timing the network, or the network cannot be timed here.
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
        ready: all runs, once their source models are trained.
        is_elsewhere: whether this machine does not have the device of the runs.
    """

    session: Session
    manifest: Manifest
    cells: list[PlannedRun]
    workspace: Workspace
    ready: list[RunSpec] = field(default_factory=list)
    is_elsewhere: bool = False

    def preview(self, *, timed: bool = False) -> list[RunPreview]:
        """Every run with its state.

        Args:
            timed: time a step of the network if the workspace has no runs of a method with it;
                otherwise nothing is started.
        """
        keys = {id(spec.planned): spec.key for spec in self._ready_specs()}
        runs = []
        for cell in self.cells:
            key, state = keys.get(id(cell)), "to run, after its source model"
            if key is not None:
                state = "done" if self.workspace.is_finished(key) else "to run"
            estimate: float | None = None
            if state == "done":
                estimate = 0.0
            elif (timed and not self.is_elsewhere) or self.estimates.is_measured(cell):
                estimate = self.estimates.of_run(cell)
            runs.append(RunPreview(cell.task.id, cell.label, cell.seed, state, key, estimate))
        return runs

    def estimate(self, jobs: int | None) -> float | None:
        """Seconds that the unfinished runs and the source models before them will take.

        Args:
            jobs: as for :meth:`execute`.

        Returns:
            None if the network cannot be timed here.
        """
        if self.is_elsewhere:
            return None
        specs, is_finished = self._ready_specs(), self.workspace.is_finished
        finished = {id(spec.planned) for spec in specs if is_finished(spec.key)}
        unfinished = [cell for cell in self.cells if id(cell) not in finished]
        width = jobs or slots(self.device)
        return self.estimates.total(unfinished, self.untrained(), width)

    @property
    def device(self) -> str:
        """Where the runs compute: ``cpu`` or ``cuda``."""
        return self.cells[0].device

    @property
    def is_single(self) -> bool:
        """Whether all runs but the last are those that it starts from."""
        chain, cell = 1, self.cells[-1]
        while cell.base is not None:
            chain, cell = chain + 1, cell.base
        return chain == len(self.cells)

    @cached_property
    def estimates(self) -> Estimates:
        """Estimates the time of runs."""
        return Estimates(self.session, self.manifest, self.workspace)

    def untrained(self) -> list[SourceSpec]:
        """The source models that must be trained first."""
        specs = dict.fromkeys(cell.source for cell in self.cells)
        return [spec for spec in specs if needs_training(spec)]

    def absent(self) -> list[str]:
        """One sentence for each kind of file that is missing, with the command that gets it."""
        untrained, manifest = self.untrained(), self.manifest
        needs = _all_needs(self.cells, untrained)
        sentences = []
        if sentence := _missing_images(manifest, needs):
            sentences.append(sentence)
        name = pretrained_name(manifest.model)
        addresses = {
            spec.name: spec.pin.urls[0]
            for spec in dict.fromkeys(cell.source for cell in self.cells)
            if spec.pin and find_source(spec) is None
        }
        sentences += [
            f"the source model of {name} is not here yet: the first run downloads it from {url}"
            for name, url in addresses.items()
        ]
        if untrained and name and find_pretrained(manifest.model) is None:
            use = use_file_command(manifest)
            sentences.append(
                f"the pretrained weights {name} are missing: the first run downloads them; to use "
                f"a file instead, run `{use}`"
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
        width = jobs or slots(self.device)
        with self.workspace:
            self.prepare(width, monitor)
            return execute(self.session, self.ready, self.workspace, width, monitor)

    def prepare(self, width: int, monitor: Monitor) -> None:
        """Train missing source models, so that all runs are ready; the workspace is entered.

        Args:
            width: models side by side.
            monitor: shows the progress.
        """
        if not self.ready:
            options = (self.workspace, width, monitor)
            self.ready[:] = ready_runs(self.session, self.cells, *options)

    def keys(self) -> set[str]:
        """The keys of the runs whose source models are trained; all, once the plan is executed."""
        return {spec.key for spec in self._ready_specs()}

    def _ready_specs(self) -> list[RunSpec]:
        """The runs whose source models are there; kept once all are, since keys take long."""
        specs = self.ready or ready_specs(self.cells)
        if len(specs) == len(self.cells):
            self.ready[:] = specs
        return specs


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
    shard: Shard | None = None,
    costs: Mapping[str, float] | None = None,
    manifest: Manifest | None = None,
    elsewhere: bool = False,
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
            80 % of this machine's memory.
        derived: see :func:`benchmark.methods.resolve.resolve`.
        shard: plan only this part of the runs.
        costs: see :func:`benchmark.runs.shards.split`.
        manifest: takes the place of the suite's.
        elsewhere: whether this machine need not have the device, because others carry out the
            runs, or nobody does.

    Yields:
        The plan; its session ends with the block.

    Raises:
        HTBenchError: a name, a value, a plugin or the device cannot be used.
    """
    if suite.tuned:
        tune = run_command(suite, *workspace.option)
        raise UsageError(f"suite {suite.name} has tuned methods; run `{tune}` instead")
    manifest = manifest or manifest_of(suite)
    part = suite.part(tasks, seeds)
    is_here = not (elsewhere and device == "cuda") or resolve_device("auto") == "cuda"
    device = resolve_device(device) if is_here else device
    settings = settings or {}
    workspace.suite = suite.location
    with Session(
        never=[workspace.root, manifest.root],
        cuda=device == "cuda" and is_here,
        limits=Limits.of_run(time_limit, memory_limit),
        isolation=isolation,
    ) as session:
        manifest = session.with_network(manifest, network)
        names = methods or (() if plugins else suite.methods)
        descriptions = resolve(names, plugins, session.describe, derived or {})
        cells = grid(manifest, part.tasks, descriptions, part.seeds, device, settings)
        if shard is not None:
            cells = split(cells, shard.count, costs or {})[shard.number - 1]
        for method in descriptions:
            session.check(method, method.configure(settings))
        yield SuitePlan(session, manifest, cells, workspace, is_elsewhere=not is_here)


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


def _all_needs(cells: Iterable[PlannedRun], specs: Iterable[SourceSpec]) -> dict[str, ImageNeed]:
    needs = target_needs(cells)
    for domain, need in source_needs(specs).items():
        needs[domain] = needs[domain] | need if domain in needs else need
    return needs


def check_images(manifest: Manifest, needs: Mapping[str, ImageNeed]) -> None:
    """Check that images are on this machine.

    Raises:
        DataError: some are missing; the message names the commands that get them.
    """
    if sentence := _missing_images(manifest, needs):
        raise DataError(f"{manifest.reference}: {sentence}")


def _missing_images(manifest: Manifest, needs: Mapping[str, ImageNeed]) -> str | None:
    counts = {name: len(absent_images(manifest, name, need)) for name, need in needs.items()}
    if not (total := sum(counts.values())):
        return None
    each = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()) if count)
    return f"{plural(total, 'image')} missing ({each}); run {ways_to_images(manifest)}"


def ready_sources(
    session: Session,
    specs: Sequence[SourceSpec],
    workspace: Workspace,
    width: int,
    monitor: Monitor,
) -> dict[SourceSpec, SourceCheckpoint]:
    """The source models of one manifest; those that it does not fix are trained if missing.

    Fixed ones and the manifest's pretrained weights are downloaded on first use.
    """
    for spec in specs:
        if spec.pin and find_source(spec) is None:
            download_pinned(spec, spec.pin, monitor.log)
    sources = {spec: source for spec in specs if (source := find_source(spec)) is not None}
    untrained = [spec for spec in specs if spec not in sources]
    if not untrained:
        return sources
    for spec in untrained:
        if spec.folder.exists():
            monitor.log(f"the source model in {spec.folder} is damaged; it is trained again")
    manifest = untrained[0].manifest
    session.check_on_gpu(manifest)
    check_images(manifest, source_needs(untrained))
    if pretrained_name(manifest.model) and find_pretrained(manifest.model) is None:
        download_pretrained(session.server, manifest, monitor.log)
    stores = open_stores(manifest, source_needs(untrained), monitor)
    with monitor.jobs(len(untrained)) as reporter:
        executor = LocalExecutor(session.server, workspace, width, reporter)
        return sources | executor.train_sources(untrained, stores)


def ready_runs(
    session: Session, cells: list[PlannedRun], workspace: Workspace, width: int, monitor: Monitor
) -> list[RunSpec]:
    """Train the missing source models of some cells; return the runs, bases first."""
    specs = list(dict.fromkeys(cell.source for cell in cells))
    untrained = [spec for spec in specs if needs_training(spec)]
    if untrained:  # before anything is downloaded or trained
        waiting = [cell for cell in cells if cell.source in untrained]
        check_images(untrained[0].manifest, _all_needs(waiting, untrained))
    sources = ready_sources(session, specs, workspace, width, monitor)
    return list(with_sources(cells, sources))


def execute(
    session: Session, specs: list[RunSpec], workspace: Workspace, width: int, monitor: Monitor
) -> list[RunRecord]:
    """Carry out the unfinished ones of some runs of one manifest; return their records."""
    runs = unfinished_runs(specs, workspace)
    if not runs:
        return []
    session.check_on_gpu(runs[0].planned.manifest)
    again = [run.key for run in runs if workspace.finished(run.key) is not None]
    if again:
        monitor.log(
            f"repeating {plural(len(again), 'finished run')}, because other runs "
            "start from their weights, which are missing or damaged: "
            + first(str(workspace.folder(key)) for key in again)
        )
    stores = open_stores(
        runs[0].planned.manifest, target_needs(run.planned for run in runs), monitor
    )
    folders = {
        features_folder(run.source, stores[run.planned.task.target], run.planned.device)
        for run in runs
        if run.planned.method.uses_features
    }
    for folder in sorted(folders):
        if folder.exists() and find_features(folder) is None:
            monitor.log(f"the features in {folder} are damaged; they are computed again")
    with monitor.jobs(len(runs)) as reporter:
        return LocalExecutor(session.server, workspace, width, reporter).execute(runs, stores)


def unfinished_runs(specs: Sequence[RunSpec], workspace: Workspace) -> list[RunSpec]:
    """The runs to carry out: unfinished ones, and their bases whose weights are not intact.

    A base that is repeated needs the weights of its own base, and so on.
    """
    open_runs = {s.key for s in specs if not workspace.is_finished(s.key)}
    checked: set[str] = set()
    for spec in [s for s in specs if s.key in open_runs]:
        base = spec.base
        while base is not None and base.key not in checked:
            checked.add(base.key)
            if workspace.finished(base.key, weights=True) is not None:
                break
            open_runs.add(base.key)
            base = base.base
    return list({spec.key: spec for spec in specs if spec.key in open_runs}.values())


def ready_specs(cells: Sequence[PlannedRun]) -> list[RunSpec]:
    """The runs of some cells whose source models are trained; a cell follows its base."""
    specs = {cell.source for cell in cells}
    sources = {spec: source for spec in specs if (source := find_source(spec)) is not None}
    return list(with_sources((cell for cell in cells if cell.source in sources), sources))
