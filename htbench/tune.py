"""``htbench tune`` from Python: choose hyper-parameters by search, then run with them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark import session
from benchmark.driver import ready_specs
from benchmark.executors.local import slots
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite, manifest_of
from benchmark.methods.resolve import resolve
from benchmark.networks.names import network_label
from benchmark.progress import Monitor
from benchmark.records import RunRecord
from benchmark.runs.plan import resolve_device, select
from benchmark.runs.workspace import Workspace
from benchmark.tuning.search import Search, settings_of
from leaderboard.gamma_star import DERIVED
from leaderboard.predictions import score_predictions


@dataclass(frozen=True)
class TuningPlan:
    """A method, the settings to try, and the tasks to choose them for.

    Attributes:
        search: tries settings on the folds of a task.
        tasks: ids of the tasks.
        seeds: seeds of the runs with the chosen settings.
        workspace: where runs are kept.
    """

    search: Search
    tasks: list[str]
    seeds: list[int]
    workspace: Workspace

    @property
    def method(self) -> str:
        """Name of the method."""
        return self.search.methods[-1].name

    @property
    def network(self) -> str:
        """The network, as ``--model`` writes it."""
        return network_label(self.search.manifest.model)

    def choose(self) -> dict[str, dict[str, Any]]:
        """Search for each task; return the record of each search by task.

        Raises:
            UsageError: a task has too few seen classes, or no setting succeeded on every fold.
        """
        manifest = self.search.manifest
        return {t: self.search.choose(manifest.task(t), self.workspace) for t in self.tasks}

    def run(self, searches: Mapping[str, Mapping[str, Any]]) -> list[RunRecord]:
        """Run the method with the settings that :meth:`choose` returned.

        Returns:
            The records of the runs that were carried out now.
        """
        return self.search.run_chosen(searches, self.seeds, self.workspace)

    def keys(self, searches: Mapping[str, Mapping[str, Any]]) -> set[str]:
        """The keys of the runs with the settings that :meth:`choose` returned."""
        cells = self.search.chosen_cells(searches, self.seeds)
        return {spec.key for spec in ready_specs(cells)}


@contextlib.contextmanager
def plan_tuning(
    suite: Suite,
    workspace: Workspace,
    *,
    method: str | None,
    plugin: str | None,
    grids: Sequence[str],
    tasks: Sequence[str],
    seeds: Sequence[int],
    network: str | None,
    repeats: int,
    device: str,
    jobs: int | None,
    monitor: Monitor,
) -> Iterator[TuningPlan]:
    """Plan a search; the method is described and every setting checked.

    Args:
        suite: the suite.
        workspace: where runs are kept.
        method: the method's name; None if a plugin is given.
        plugin: the file with the method, as ``--plugin`` takes it; None if a name is given.
        grids: values of hyper-parameters, as ``--grid`` takes them.
        tasks: only these tasks; all if empty.
        seeds: only these seeds; all if empty.
        network: another network, as ``--model`` takes it.
        repeats: folds of each task.
        device: ``auto``, ``cpu`` or ``cuda``.
        jobs: runs side by side; None for one per core on CPU and one on a GPU.
        monitor: shows the progress.

    Yields:
        The plan; its session ends with the block, and the workspace is open in it.

    Raises:
        HTBenchError: a name, a value, the plugin or the device cannot be used.
    """
    manifest = manifest_of(suite)
    task_ids, seed_list = select(suite, tasks, seeds)
    device = resolve_device(device)
    with session.Session(never=[workspace.root, manifest.root], cuda=device == "cuda") as started:
        manifest = started.with_network(manifest, network)
        methods = resolve(
            [method] if method else [], [plugin] if plugin else [], started.describe, DERIVED
        )
        settings = settings_of(grids, methods[-1])
        for candidate in settings:
            started.check(methods[-1], methods[-1].configure(candidate))
        search = Search(
            session=started,
            manifest=manifest,
            methods=methods,
            settings=settings,
            repeats=repeats,
            seed=seed_list[0],
            device=device,
            width=jobs or slots(device),
            scorer=_seen_and_missing,
            monitor=monitor,
        )
        with workspace:
            yield TuningPlan(search, list(task_ids), list(seed_list), workspace)


def _seen_and_missing(predictions: Path, manifest: Manifest, task: str) -> tuple[float, float]:
    scores = score_predictions(predictions, manifest, task)
    return scores.seen, scores.missing
