"""The search of ``htbench tune``: run settings on the folds of a task and choose the best.

Scores come from a function that is passed in, because this package does not know how predictions
are scored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmark.commands import command
from benchmark.driver import execute, ready_sources
from benchmark.estimate import Estimates
from benchmark.manifest.manifest import Manifest, Task
from benchmark.manifest.rates import rate_of
from benchmark.methods.describe import MethodDescription
from benchmark.progress import Monitor
from benchmark.records import PREDICTIONS_FILE, RunRecord
from benchmark.runs.plan import PlannedRun, RunSpec, grid, with_sources
from benchmark.runs.workspace import TUNING_FOLDER, Workspace
from benchmark.session import Session
from benchmark.sources.spec import SourceCheckpoint, SourceSpec, needs_training
from benchmark.tuning.folds import Trial, best, fold, trial
from benchmark.tuning.space import fields_of

# (predictions file, manifest, task id) -> (seen, missing) accuracy in per cent
Scorer = Callable[[Path, Manifest, str], tuple[float, float]]


@dataclass(frozen=True)
class Candidate:
    """A method and the settings to try.

    Attributes:
        methods: the method, last, after its bases.
        settings: fields of the method, and ``rates.RATE``, as text.
    """

    methods: list[MethodDescription]
    settings: list[dict[str, str]]

    @property
    def method(self) -> MethodDescription:
        """The method that is tuned."""
        return self.methods[-1]


@dataclass(frozen=True)
class _FoldResult:
    """What the runs of a candidate on a fold gave.

    Attributes:
        scores: seen and missing accuracy of each setting; None if its run did not succeed.
        failed: keys of the runs without scores.
        steps: gradient steps of all runs, bases included.
    """

    scores: Sequence[tuple[float, float] | None]
    failed: Sequence[str]
    steps: int


@dataclass(frozen=True)
class Search:
    """Tries settings on the folds of tasks.

    Attributes:
        session: runs methods.
        manifest: the manifest of the tasks.
        repeats: folds per task.
        seed: the seed of the runs on folds.
        device: ``cpu`` or ``cuda``.
        width: runs side by side.
        scorer: scores a predictions file.
        monitor: shows the progress.
    """

    session: Session
    manifest: Manifest
    repeats: int
    seed: int
    device: str
    width: int
    scorer: Scorer
    monitor: Monitor

    def choose(
        self, task: Task, candidates: Sequence[Candidate], workspace: Workspace
    ) -> dict[str, dict[str, Any]]:
        """Search for one task; the runs of all methods on a fold are carried out side by side.

        Returns:
            By the method's name, the record that its runs carry. A method has none if no setting
            succeeded on every fold; then the log names a run with the reason.

        Raises:
            UsageError: the task has too few seen classes.
        """
        source = self._source(task, workspace)
        on_folds = []
        with Workspace(workspace.root / TUNING_FOLDER) as folds:
            for repeat in range(self.repeats):
                pseudo = fold(self.manifest, task, repeat)
                self.monitor.log(f"{task.id}: fold {repeat + 1} of {self.repeats}")
                on_folds.append(self._run_fold(pseudo, candidates, source, folds))
        records = {}
        for candidate, parts in zip(candidates, zip(*on_folds, strict=True), strict=True):
            name = candidate.method.name
            scores = list(zip(*(part.scores for part in parts), strict=True))
            record = self._record(candidate, scores, sum(part.steps for part in parts))
            if record is not None:
                records[name] = record
                continue
            failed = (key for part in parts for key in part.failed)
            show = command("show", next(failed)[:12], *folds.option)
            self.monitor.log(
                f"{name} on {task.id}: no setting succeeded on every fold, so none is chosen; "
                f"`{show}` gives a reason"
            )
        return records

    def _run_fold(
        self,
        pseudo: Manifest,
        candidates: Sequence[Candidate],
        source: SourceCheckpoint,
        folds: Workspace,
    ) -> list[_FoldResult]:
        """Run every setting of every candidate on a fold; return a result per candidate."""
        rates = _Rates(pseudo)
        cells = [[self._cells(rates, c, settings) for settings in c.settings] for c in candidates]
        flat = [cell for of_candidate in cells for chain in of_candidate for cell in chain]
        runs = list(with_sources(flat, {cell.source: source for cell in flat}))
        execute(self.session, runs, folds, self.width, self.monitor)
        specs = {id(spec.planned): spec for spec in runs}
        results = []
        for of_candidate in cells:
            keys = {specs[id(cell)].key for chain in of_candidate for cell in chain}
            last = [specs[id(chain[-1])] for chain in of_candidate]
            scores = [self._score(pseudo, spec, folds) for spec in last]
            failed = [s.key for s, score in zip(last, scores, strict=True) if score is None]
            results.append(_FoldResult(scores, failed, sum(map(_steps(folds), keys))))
        return results

    def _record(
        self,
        candidate: Candidate,
        scores: Sequence[Sequence[tuple[float, float] | None]],
        steps: int,
    ) -> dict[str, Any] | None:
        trials = [trial(*pair) for pair in zip(candidate.settings, scores, strict=True)]
        chosen = best(trials)
        if chosen is None:
            return None
        return {
            "by": "pseudo cross-validation on seen training images",
            "criterion": "mean of seen and missing accuracy over folds",
            "folds": self.repeats,
            "seed": self.seed,
            "tried": [_entry(one) for one in trials],
            "chosen": dict(chosen.settings),
            "steps": steps,
        }

    def estimate(
        self,
        candidates: Sequence[Candidate],
        tasks: Sequence[str],
        seeds: Sequence[int],
        workspace: Workspace,
    ) -> float | None:
        """Seconds that all runs of a search and those with the chosen settings take.

        Returns:
            None if the network cannot be timed here.
        """

        def cells(
            candidate: Candidate, settings: Mapping[str, str], seeds: Sequence[int]
        ) -> list[PlannedRun]:
            fields = fields_of(settings)
            return grid(self.manifest, tasks, candidate.methods, seeds, self.device, fields)

        tried = [
            cell
            for c in candidates
            for settings in c.settings
            for cell in cells(c, settings, [self.seed])
        ]
        chosen = [cell for c in candidates for cell in cells(c, c.settings[0], seeds)]
        specs = {cell.source for cell in chosen}
        untrained = {spec for spec in specs if needs_training(spec)}
        estimates = Estimates(self.session, self.manifest, workspace)
        return estimates.total(self.repeats * tried + chosen, untrained, self.width)

    def chosen_cells(
        self,
        candidates: Sequence[Candidate],
        searches: Mapping[str, Mapping[str, Mapping[str, Any]]],
        seeds: Sequence[int],
    ) -> list[PlannedRun]:
        """The runs of methods with the settings that :meth:`choose` returned, by task."""
        cells: list[PlannedRun] = []
        rates = _Rates(self.manifest)
        for task, of_task in searches.items():
            for candidate in candidates:
                search = of_task.get(candidate.method.name)
                if search is None:
                    continue
                of_method = grid(
                    rates.manifest(search["chosen"]),
                    [task],
                    candidate.methods,
                    seeds,
                    self.device,
                    fields_of(search["chosen"]),
                )
                name = candidate.method.name
                cells += [
                    replace(cell, search=search) if cell.method.name == name else cell
                    for cell in of_method
                ]
        return cells

    def _source(self, task: Task, workspace: Workspace) -> SourceCheckpoint:
        """The task's source model; runs on folds start from it too."""
        spec = SourceSpec.of(self.manifest, task.sources, self.device, self.seed)
        return ready_sources(self.session, [spec], workspace, self.width, self.monitor)[spec]

    def _cells(
        self, rates: _Rates, candidate: Candidate, settings: Mapping[str, str]
    ) -> list[PlannedRun]:
        """The runs of a method with some settings on a fold: its bases, then itself."""
        manifest = rates.manifest(settings)
        tasks = [task.id for task in manifest.tasks]
        fields = fields_of(settings)
        return grid(manifest, tasks, candidate.methods, [self.seed], self.device, fields)

    def _score(
        self, pseudo: Manifest, spec: RunSpec, folds: Workspace
    ) -> tuple[float, float] | None:
        """Seen and missing accuracy of a run on a fold; None if the run did not succeed."""
        folder = folds.folder(spec.key)
        if RunRecord.read(folder).status != "ok":
            return None
        return self.scorer(folder / PREDICTIONS_FILE, pseudo, spec.planned.task.id)


class _Rates:
    """A manifest with several factors on its learning rates, each made once."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._by_factor: dict[float, Manifest] = {}

    def manifest(self, settings: Mapping[str, str]) -> Manifest:
        """The manifest with the factor of some settings."""
        factor = rate_of(settings)
        return self._by_factor.setdefault(factor, self._manifest.with_rate(factor))


def _steps(folds: Workspace) -> Callable[[str], int]:
    """Returns the gradient steps of a run by its key."""
    return lambda key: int(RunRecord.read(folds.folder(key)).cost.get("total_steps", 0))


def _entry(one: Trial) -> dict[str, Any]:
    return {
        "settings": dict(one.settings),
        "seen": one.seen,
        "missing": one.missing,
        "score": one.score,
    }
