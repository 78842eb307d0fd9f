"""``htbench tune`` from Python: choose hyper-parameters by search, then run with them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.commands import command
from benchmark.driver import execute, ready_runs, ready_specs
from benchmark.errors import UsageError
from benchmark.executors.local import slots
from benchmark.files import canonical_json
from benchmark.isolation.client import Limits
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite, manifest_of
from benchmark.methods.describe import MethodDescription
from benchmark.methods.resolve import resolve
from benchmark.networks.names import network_label
from benchmark.progress import Monitor
from benchmark.records import RunRecord
from benchmark.runs.plan import PlannedRun, grid, resolve_device
from benchmark.runs.workspace import Workspace
from benchmark.session import Session
from benchmark.tuning.folds import check_folds
from benchmark.tuning.search import Candidate, Search
from benchmark.tuning.space import declared_settings, fields_of, settings_of
from leaderboard.gamma_star import DERIVED
from leaderboard.predictions import score_predictions

Searches = Mapping[str, Mapping[str, Mapping[str, Any]]]  # records by task and method


@dataclass(frozen=True)
class TuningPlan:
    """Methods, the settings to try, and the tasks to choose them for.

    Attributes:
        search: tries settings on the folds of a task.
        candidates: the methods, each with its settings to try.
        others: methods without a search space, after their bases; they are run at their defaults.
        tasks: ids of the tasks.
        seeds: seeds of the runs with the chosen settings.
        workspace: where runs are kept.
    """

    search: Search
    candidates: list[Candidate]
    others: list[MethodDescription]
    tasks: list[str]
    seeds: list[int]
    workspace: Workspace

    @property
    def methods(self) -> list[str]:
        """Names of the methods that are tuned."""
        return [candidate.method.name for candidate in self.candidates]

    @property
    def network(self) -> str:
        """The network, as ``--model`` writes it."""
        return network_label(self.search.manifest.model)

    def estimate(self) -> float | None:
        """Seconds that :meth:`choose` and :meth:`run` take; None if unknown.

        Parts of the search that an earlier command has finished count too.
        """
        return self.search.estimate(self.candidates, self.tasks, self.seeds, self.workspace)

    def choose(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Search for each task; return the record of each search by task and method.

        Raises:
            UsageError: no setting of any method succeeded on every fold of any task.
        """
        search = self.search
        searches = {
            task: search.choose(search.manifest.task(task), self.candidates, self.workspace)
            for task in self.tasks
        }
        if not any(searches.values()):
            raise UsageError(
                "no setting succeeded on every fold, so none can be chosen; the commands above "
                "give the reasons"
            )
        return searches

    def without_choice(self, searches: Searches) -> int:
        """How many pairs of a method and a task have no chosen setting."""
        return len(self.tasks) * len(self.candidates) - sum(map(len, searches.values()))

    def run(self, searches: Searches) -> list[RunRecord]:
        """Run the methods with the settings that :meth:`choose` returned.

        Returns:
            The records of the runs that were carried out now.
        """
        search = self.search
        options = (self.workspace, search.width, search.monitor)
        specs = ready_runs(search.session, self._cells(searches), *options)
        return execute(search.session, specs, *options)

    def keys(self, searches: Searches) -> set[str]:
        """The keys of the runs with the settings that :meth:`choose` returned."""
        return {spec.key for spec in ready_specs(self._cells(searches))}

    def _cells(self, searches: Searches) -> list[PlannedRun]:
        search = self.search
        defaults = grid(search.manifest, self.tasks, self.others, self.seeds, search.device, {})
        return [*defaults, *search.chosen_cells(self.candidates, searches, self.seeds)]


@contextlib.contextmanager
def plan_tuning(
    suite: Suite,
    workspace: Workspace,
    *,
    methods: Sequence[str],
    plugin: str | None,
    grids: Sequence[str],
    tasks: Sequence[str],
    seeds: Sequence[int],
    network: str | None,
    repeats: int,
    device: str,
    jobs: int | None,
    time_limit: float,
    memory_limit: float | None,
    monitor: Monitor,
) -> Iterator[TuningPlan]:
    """Plan a search; methods are described and every setting checked.

    Args:
        suite: the suite.
        workspace: where runs are kept.
        methods: names of methods. Several are each tuned over the space that they declare, or run
            at their defaults if they declare none.
        plugin: a file with another method, as ``--plugin`` takes it.
        grids: values of hyper-parameters, as ``--grid`` takes them, for a single method; if empty,
            the space that it declares.
        tasks: only these tasks; all if empty.
        seeds: only these seeds; all if empty.
        network: another network, as ``--model`` takes it.
        repeats: folds of each task.
        device: ``auto``, ``cpu`` or ``cuda``.
        jobs: runs side by side; None for one per core on CPU and one on a GPU.
        time_limit: seconds that one run may take.
        memory_limit: GiB that one run may use; None for 80 % of this machine's memory.
        monitor: shows the progress.

    Yields:
        The plan; its session ends with the block, and the workspace is open in it.

    Raises:
        HTBenchError: a name, a value, the plugin or the device cannot be used.
    """
    manifest = manifest_of(suite)
    part = suite.part(tasks, seeds)
    device = resolve_device(device)
    workspace.suite = suite.location
    with Session(
        never=[workspace.root, manifest.root],
        cuda=device == "cuda",
        limits=Limits.of_run(time_limit, memory_limit),
    ) as session:
        manifest = session.with_network(manifest, network)
        for task in part.tasks:
            check_folds(manifest, manifest.task(task), repeats)
        names = dict.fromkeys(methods)
        chains = [resolve([name], [], session.describe, DERIVED) for name in names]
        if plugin is not None:
            chains.append(resolve([], [plugin], session.describe, DERIVED))
        candidates = _candidates(chains, grids, suite, workspace)
        for candidate in candidates:
            fields = {canonical_json(fields_of(s)): fields_of(s) for s in candidate.settings}
            for settings in fields.values():
                session.check(candidate.method, candidate.method.configure(settings))
        tuned = {candidate.method.name for candidate in candidates}
        others = [c[-1].name for c in chains if c[-1].name not in tuned]
        search = Search(
            session=session,
            manifest=manifest,
            repeats=repeats,
            seed=part.seeds[0],
            device=device,
            width=jobs or slots(device),
            scorer=_seen_and_missing,
            monitor=monitor,
        )
        with workspace:
            described = resolve(others, [], session.describe, DERIVED) if others else []
            yield TuningPlan(
                search, candidates, described, list(part.tasks), list(part.seeds), workspace
            )


def _candidates(
    chains: Sequence[list[MethodDescription]],
    grids: Sequence[str],
    suite: Suite,
    workspace: Workspace,
) -> list[Candidate]:
    """The methods that can be tuned, with their settings.

    Args:
        chains: each method, last, after its bases.
        grids: see :func:`plan_tuning`.
        suite, workspace: for the recommended command.

    Raises:
        UsageError: none can be tuned, or a grid or a method's own space cannot be used.
    """
    if grids and len(chains) > 1:
        raise UsageError("--grid is for a single method; leave it out to tune several")
    tuned = [c for c in chains if len(chains) == 1 or c[-1].search is not None]
    if not tuned:
        names = [c[-1].name for c in chains]
        run = [word for name in names for word in ("--method", name)]
        words = ("run", "--suite", suite.argument, *run, *workspace.option)
        raise UsageError(
            f"none of {', '.join(names)} declares a search space, so nothing can be tuned; run "
            f"`{command(*words)}`, or tune a single one with --grid"
        )
    return [
        Candidate(c, settings_of(grids, c[-1]) if grids else declared_settings(c[-1]))
        for c in tuned
    ]


def _seen_and_missing(predictions: Path, manifest: Manifest, task: str) -> tuple[float, float]:
    scores = score_predictions(predictions, manifest, task)
    return scores.seen, scores.missing
