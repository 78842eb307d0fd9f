"""Estimate how long runs will take, from earlier runs and from one step of their network."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from statistics import median
from typing import Any

from benchmark.manifest.manifest import Manifest
from benchmark.runs.plan import PlannedRun
from benchmark.runs.workspace import Workspace
from benchmark.session import Session
from benchmark.sources.network import NetworkTimes
from benchmark.sources.spec import SourceSpec


class Estimates:
    """What runs and source models of one manifest will take.

    A run takes as long as earlier runs of its method with this network in the workspace. Without
    any, its steps are those of the method's setting ``steps``, or else of its earlier runs with
    this recipe on another network, or else of the recipe; each takes as long as a step of the
    network that is timed on this device. The recipe's steps are too many for a method that trains
    little or not at all.

    Args:
        session: times the network.
        manifest: the manifest, with the network.
        workspace: has earlier runs.
    """

    def __init__(self, session: Session, manifest: Manifest, workspace: Workspace) -> None:
        self._session, self._manifest, self._workspace = session, manifest, workspace

    def is_measured(self, cell: PlannedRun) -> bool:
        """Whether earlier runs say how long a run takes, so that no step has to be timed."""
        seconds, _ = self._past
        return cell.method.name in seconds

    def of_run(self, cell: PlannedRun) -> float | None:
        """Seconds of a run; None if the network cannot be timed here."""
        name = cell.method.name
        seconds, known_steps = self._past
        if name in seconds:
            return seconds[name]
        if self._times is None:
            return None
        steps: Any = cell.config.get("steps")
        if type(steps) is not int:
            steps = known_steps.get(name, cell.manifest.recipe["steps"])
        tests = cell.manifest.samples(cell.task.target, "test")
        return float(steps * self._times.step + len(tests.ids) * self._times.image)

    def total(
        self, cells: Sequence[PlannedRun], untrained: Collection[SourceSpec], width: int
    ) -> float | None:
        """Seconds of source trainings and then runs, ``width`` of them side by side.

        Returns:
            None if the network cannot be timed here.
        """
        known = [seconds for cell in cells if (seconds := self.of_run(cell)) is not None]
        if len(known) < len(cells) or (untrained and self._times is None):
            return None
        trainings = [self._of_training(spec) for spec in untrained]
        return sum(sum(each) / max(1, min(width, len(each))) for each in (trainings, known))

    def _of_training(self, spec: SourceSpec) -> float:
        assert self._times is not None
        training, batch = spec.manifest.source_recipe, spec.manifest.recipe["batch_size"]
        tests = sum(len(spec.manifest.samples(domain, "test").ids) for domain in spec.domains)
        step = self._times.step * training["batch_size"] / batch
        return float(training["steps"] * step + tests * self._times.image)

    @cached_property
    def _past(self) -> tuple[dict[str, float], dict[str, float]]:
        """Seconds and steps of earlier runs by method; read only if a run is still to do."""
        return _past(self._workspace, self._manifest.model, self._manifest.recipe)

    @cached_property
    def _times(self) -> NetworkTimes | None:
        return self._session.time_network(self._manifest)


def _past(
    workspace: Workspace, model: Mapping[str, Any], recipe: Mapping[str, Any]
) -> tuple[dict[str, float], dict[str, float]]:
    """Medians of each method's finished runs: seconds with a network, steps with a recipe."""
    seconds: dict[str, list[float]] = {}
    steps: dict[str, list[float]] = {}
    for record in workspace.records():
        if record.status != "ok":
            continue
        if record.made_from.get("model") == model and "wall_seconds" in record.cost:
            seconds.setdefault(record.method, []).append(record.cost["wall_seconds"])
        if record.made_from.get("recipe") == recipe and "total_steps" in record.cost:
            steps.setdefault(record.method, []).append(record.cost["total_steps"])
    return _medians(seconds), _medians(steps)


def _medians(values: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: median(of_method) for name, of_method in values.items()}
