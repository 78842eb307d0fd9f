"""The search of ``htbench tune``: run settings on the folds of a task and choose the best.

Scores come from a function that is passed in, because this package does not know how predictions
are scored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from benchmark.driver import execute_cells, execute_with_sources, ready_sources
from benchmark.errors import MethodError, UsageError
from benchmark.manifest.manifest import Manifest, Task
from benchmark.methods.describe import MethodDescription
from benchmark.progress import Monitor
from benchmark.records import PREDICTIONS_FILE, RunRecord
from benchmark.runs.plan import PlannedRun, RunSpec, grid, with_sources
from benchmark.runs.workspace import Workspace
from benchmark.session import Session
from benchmark.sources.spec import SourceCheckpoint, SourceSpec
from benchmark.tuning.folds import Trial, best, fold, trial

FOLDER = "tuning"  # in the workspace: runs on folds are kept apart from runs on tasks

# (predictions file, manifest, task id) -> (seen, missing) accuracy in per cent
Scorer = Callable[[Path, Manifest, str], tuple[float, float]]


def settings_of(grids: Sequence[str], method: MethodDescription) -> list[dict[str, str]]:
    """Every combination of the values of some grids, in the order given.

    Args:
        grids: texts such as ``weight=0.3,1,3``.
        method: the method whose fields they set; every value is checked against its field.

    Raises:
        UsageError: a grid is not of that form, or a field or value is repeated.
        MethodError: the method is an oracle, has no such field, or a value has the wrong type.
    """
    if method.track == "oracle":
        raise MethodError(
            f"{method.name} cannot be tuned: it is an oracle, and tuning does not use the "
            "missing-class data that it needs"
        )
    known = [field.name for field in method.fields]
    values: dict[str, list[str]] = {}
    for text in grids:
        name, equals, listed = text.partition("=")
        options = [option.strip() for option in listed.split(",")]
        if not equals or not all(options):
            raise UsageError(f"--grid {text}: write it as field=a,b,c")
        if name not in known:
            raise MethodError(
                f"--grid {name}: {method.name} has no such field; fields: {', '.join(known) or '-'}"
            )
        if name in values or len(set(options)) < len(options):
            raise UsageError(f"--grid {text}: the field or one of its values is repeated")
        values[name] = options
    combinations = [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]
    for settings in combinations:
        method.configure(settings)  # a value of the wrong type is an error before anything runs
    return combinations


@dataclass(frozen=True)
class Search:
    """Tries settings on the folds of tasks.

    Attributes:
        session: runs methods.
        manifest: the manifest of the tasks.
        methods: the method to tune, last, after its bases.
        settings: the settings to try.
        repeats: folds per task.
        seed: the seed of the runs on folds.
        device: ``cpu`` or ``cuda``.
        width: runs side by side.
        scorer: scores a predictions file.
        monitor: shows the progress.
    """

    session: Session
    manifest: Manifest
    methods: list[MethodDescription]
    settings: list[dict[str, str]]
    repeats: int
    seed: int
    device: str
    width: int
    scorer: Scorer
    monitor: Monitor

    def choose(self, task: Task, workspace: Workspace) -> dict[str, Any]:
        """Search for one task; return the record that its runs carry.

        Raises:
            UsageError: the task has too few seen classes, or no setting succeeded on every fold.
        """
        source = self._source(task, workspace)
        scores: list[list[tuple[float, float] | None]] = [[] for _ in self.settings]
        steps = 0
        with Workspace(workspace.root / FOLDER) as folds:
            for repeat in range(self.repeats):
                pseudo = fold(self.manifest, task, repeat)
                self.monitor.log(f"{task.id}: fold {repeat + 1} of {self.repeats}")
                specs, steps_of_fold = self._try(pseudo, source, folds)
                steps += steps_of_fold
                for of_setting, spec in zip(scores, specs, strict=True):
                    of_setting.append(self._score(pseudo, spec, folds))
        trials = [trial(*pair) for pair in zip(self.settings, scores, strict=True)]
        return {
            "by": "pseudo cross-validation on seen training images",
            "criterion": "mean of seen and missing accuracy over folds",
            "folds": self.repeats,
            "seed": self.seed,
            "tried": [_entry(one) for one in trials],
            "chosen": dict(best(trials).settings),
            "steps": steps,
        }

    def run_chosen(
        self,
        searches: Mapping[str, Mapping[str, Any]],
        seeds: Sequence[int],
        workspace: Workspace,
    ) -> list[RunRecord]:
        """Run the method on each task with the settings chosen for it.

        Args:
            searches: what :meth:`choose` returned, by task.
            seeds: the seeds to run.
            workspace: where runs are kept.

        Returns:
            The records of the runs that were carried out now.
        """
        cells = self.chosen_cells(searches, seeds)
        return execute_with_sources(self.session, cells, workspace, self.width, self.monitor)

    def chosen_cells(
        self, searches: Mapping[str, Mapping[str, Any]], seeds: Sequence[int]
    ) -> list[PlannedRun]:
        """The runs of :meth:`run_chosen`."""
        name = self.methods[-1].name
        cells: list[PlannedRun] = []
        for task, search in searches.items():
            of_task = grid(
                self.manifest, [task], self.methods, seeds, self.device, search["chosen"]
            )
            cells += [replace(c, search=search) if c.method.name == name else c for c in of_task]
        return cells

    def _source(self, task: Task, workspace: Workspace) -> SourceCheckpoint:
        """The task's source model; runs on folds start from it too."""
        spec = SourceSpec.of(self.manifest, task.sources, self.device, self.seed)
        return ready_sources(self.session, [spec], workspace, self.width, self.monitor)[spec]

    def _try(
        self, pseudo: Manifest, source: SourceCheckpoint, folds: Workspace
    ) -> tuple[list[RunSpec], int]:
        """Run all settings on a fold: the run of each, and the total of gradient steps."""
        (task,) = pseudo.tasks
        last_runs: list[RunSpec] = []
        all_cells: list[PlannedRun] = []
        sources: dict[SourceSpec, SourceCheckpoint] = {}
        for settings in self.settings:
            cells = grid(pseudo, [task.id], self.methods, [self.seed], self.device, settings)
            sources |= {cell.source: source for cell in cells}
            all_cells += cells
            last_runs.append(list(with_sources(cells, sources))[-1])
        execute_cells(self.session, all_cells, sources, folds, self.width, self.monitor)
        keys = {spec.key for spec in with_sources(all_cells, sources)}
        records = [RunRecord.read(folds.folder(key)) for key in keys]
        return last_runs, int(sum(record.cost.get("total_steps", 0) for record in records))

    def _score(
        self, pseudo: Manifest, spec: RunSpec, folds: Workspace
    ) -> tuple[float, float] | None:
        """Seen and missing accuracy of a run on a fold; None if the run did not succeed."""
        folder = folds.folder(spec.key)
        if RunRecord.read(folder).status != "ok":
            return None
        return self.scorer(folder / PREDICTIONS_FILE, pseudo, spec.planned.task.id)


def _entry(one: Trial) -> dict[str, Any]:
    return {
        "settings": dict(one.settings),
        "seen": one.seen,
        "missing": one.missing,
        "score": one.score,
    }
