"""Repeat runs of a submission, each alone, and compare what they give with what was submitted."""

from __future__ import annotations

import math
import random
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmark.driver import plan_suite
from benchmark.errors import DataError, MethodError, UsageError
from benchmark.files import make_folder, named_as, read_sealed, seal, write_file
from benchmark.manifest.suite import Suite, checked_seed
from benchmark.methods.describe import setting_text
from benchmark.progress import Monitor
from benchmark.records import PREDICTIONS_FILE, RunRecord, same_predictions
from benchmark.runs.plan import PlannedRun
from benchmark.runs.workspace import Workspace, temporary_workspace
from benchmark.text import seed_list
from leaderboard.predictions import score_predictions
from leaderboard.submission.checks import MACHINE, own_files
from leaderboard.submission.folder import CODE_FOLDER, RUNS_FOLDER
from leaderboard.submission.state import Submission

# Points by which accuracies of a run may differ between two kinds of CPU: about twice what they
# differ by at most between instruction sets of one CPU, in 10 runs of finetune on icons
# (performance/cpu_settings.py): 0.97 overall, 1.29 on seen and 1.08 on missing classes.
TOLERANCE = {"overall": 2.0, "seen": 3.0, "missing": 3.0}
IDENTICAL, CLOSE, DIFFERS = "identical", "within tolerance", "differs"
IN_RANGE, NOT_COMPARED = "as other seeds", "not compared"
GOOD = (IDENTICAL, CLOSE, IN_RANGE, NOT_COMPARED)
MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class Cell:
    """One repeated run.

    Attributes:
        task, seed: its cell; ``announced``: whether the suite has the seed.
        same_machine: whether the submitted runs report the same kind of machine.
        outcome: ``identical`` predictions; accuracies ``within tolerance``; ``as other seeds`` if
            the seed is not the suite's and its accuracies are in the range of those that are;
            ``not compared`` if one seed gives no range; else ``differs``.
        reason: what differs, or why the run failed.
        difference: accuracies minus those that were submitted (or their mean), in points.
    """

    task: str
    seed: int
    announced: bool
    same_machine: bool
    outcome: str
    reason: str
    difference: Mapping[str, float]


@dataclass(frozen=True)
class Verification:
    """The result of repeating some runs of a submission.

    Attributes:
        submission: digest of its folder.
        by, when: who repeated them, and when, in UTC.
        chosen: how the cells were chosen, for people.
        machine: what this machine reports.
        cells: the repeated runs.
        verified: whether none differs, and at least one was submitted.
    """

    submission: str
    by: str
    when: str
    chosen: str
    machine: Mapping[str, str]
    cells: Sequence[Cell]
    verified: bool


def choose(
    suite: Suite, runs: int, tasks: Sequence[str], seeds: Sequence[int]
) -> list[tuple[str, int]]:
    """Choose at random which cells to repeat, among those with the tasks and seeds that are named.

    Seeds that the suite does not have are unannounced: a run with one has another order of images
    and other random numbers; of the pinned source models it adapts number seed mod their count.
    At least one cell has a seed of the suite.

    Raises:
        UsageError: the suite has no such task, or none of the seeds.
    """
    suite.part(tasks)
    for seed in seeds:
        checked_seed(seed)
    tasks = list(dict.fromkeys(tasks))  # a run is repeated once
    cells = [(task, seed) for task in tasks or suite.tasks for seed in seeds or suite.seeds]
    submitted = [cell for cell in cells if cell[1] in suite.seeds]
    if not submitted:
        raise UsageError(
            f"name also a --seed of suite {suite.name}, which has {seed_list(suite.seeds)}: "
            "only their runs can be compared exactly"
        )
    chance = random.SystemRandom()
    cells.remove(exact := chance.choice(submitted))
    return sorted([exact, *chance.sample(cells, min(runs - 1, len(cells)))])


def verify(
    submission: Submission,
    cells: Sequence[tuple[str, int]],
    by: str,
    chosen: str,
    monitor: Monitor,
    time_limit: float,
    memory_limit: float | None,
) -> Verification:
    """Repeat cells of a submission that has passed its checks.

    Every run has a workspace and driver for itself, and runs in the lock, which is required. The
    workspace of a failed run is kept.

    Args:
        submission: the submission.
        cells: tasks and seeds.
        by, chosen: see :class:`Verification`.
        monitor: shows the progress.
        time_limit: seconds that one run may take; a run that takes more differs.
        memory_limit: GiB that one run may use, None for 80 % of this machine's memory; as above.
    """
    repeated = []
    machine: dict[str, str] = {}
    for task, seed in cells:
        with temporary_workspace() as workspace:
            try:
                record, reason = _repeat(
                    submission, workspace, task, seed, monitor, time_limit, memory_limit
                )
            except MethodError as error:  # such as a class that has another name than it says
                announced = seed in submission.suite.seeds
                repeated.append(Cell(task, seed, announced, False, DIFFERS, str(error), {}))
                continue
            machine = {name: str(record.environment.get(name)) for name in MACHINE}
            repeated.append(_compared(submission, workspace, record, reason))
    return Verification(
        submission=submission.digest,
        by=by,
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        chosen=chosen,
        machine=machine,
        cells=repeated,
        verified=all(cell.outcome in GOOD for cell in repeated)
        and any(cell.announced for cell in repeated),
    )


def _repeat(
    submission: Submission,
    workspace: Workspace,
    task: str,
    seed: int,
    monitor: Monitor,
    time_limit: float,
    memory_limit: float | None,
) -> tuple[RunRecord, str]:
    """Carry out one run from the submitted files; its record, and why it counts as another one."""
    submitted = submission.of_method[0]
    suite = submission.suite
    settings: dict[str, str] = {}
    while True:
        with plan_suite(
            replace(suite, seeds=tuple(dict.fromkeys((*suite.seeds, seed)))),
            workspace,
            tasks=[task],
            methods=[submission.form.name],
            seeds=[seed],
            plugins=[str(submission.root / CODE_FOLDER / p) for p in submission.form.plugins],
            settings=settings,
            device=submitted.made_from["device"],
            isolation="required",
            time_limit=time_limit,
            memory_limit=memory_limit,
        ) as plan:
            cell = next(c for c in plan.cells if c.method.name == submission.form.name)
            others = _other_settings(cell, submitted)
            if others and not settings:  # the defaults are known only now
                settings = others
                continue
            plan.execute(1, monitor)
            key = next(spec.key for spec in plan.ready if spec.planned is cell)
            record = RunRecord.read(workspace.folder(key), key)
            if others:
                return record, "the submitted settings cannot be given to the method"
            if own_files(record) != own_files(submitted):
                return record, "the files that the run read are not those of the submitted runs"
            return record, ""


def _other_settings(cell: PlannedRun, submitted: RunRecord) -> dict[str, str]:
    """The settings that differ from those of a submitted run, as ``--set`` takes them."""
    return {
        name: setting_text(value)
        for name, value in submitted.config.items()
        if cell.config.get(name) != value
    }


def _compared(submission: Submission, workspace: Workspace, record: RunRecord, reason: str) -> Cell:
    runs = {(run.task, run.seed): run for run in submission.of_method}
    submitted = runs.get((record.task, record.seed))
    reference = submitted or submission.of_method[0]
    same = all(record.environment.get(n) == reference.environment.get(n) for n in MACHINE)
    outcome = DIFFERS
    difference: dict[str, float] = {}
    if record.status != "ok":
        reason = f"the run {record.status}: {(record.error or {}).get('message', '')}"
    elif not reason:
        path = workspace.folder(record.key) / PREDICTIONS_FILE
        scores = score_predictions(path, submission.manifest, record.task).as_dict()
        if submitted is None:
            of_task = [submission.scores[r.key] for r in runs.values() if r.task == record.task]
            outcome, reason, difference = _among_seeds(scores, of_task)
        else:
            before = submission.scores[submitted.key]
            difference = {name: scores[name] - before[name] for name in TOLERANCE}
            theirs = submission.root / RUNS_FOLDER / submitted.key / PREDICTIONS_FILE
            outcome, reason = _against(
                record,
                submitted,
                difference,
                same_machine=same,
                identical=record.predictions_sha256 == submitted.predictions_sha256
                or same_predictions(path, theirs),
            )
    return Cell(record.task, record.seed, submitted is not None, same, outcome, reason, difference)


def _against(
    record: RunRecord,
    submitted: RunRecord,
    difference: Mapping[str, float],
    *,
    same_machine: bool,
    identical: bool,
) -> tuple[str, str]:
    """The outcome of a run that was submitted, and what differs."""
    steps = [run.cost.get("total_steps") for run in (record, submitted)]
    if steps[0] != steps[1]:
        return DIFFERS, f"its number of steps is {steps[0]}; the submitted run says {steps[1]}"
    if identical:
        return IDENTICAL, ""
    if same_machine:
        return DIFFERS, "its predictions are others on the same kind of machine"
    if wide := [name for name, limit in TOLERANCE.items() if abs(difference[name]) > limit]:
        return DIFFERS, f"{wide[0]} differs by {difference[wide[0]]:+.2f} points"
    return CLOSE, ""


def _among_seeds(
    scores: Mapping[str, Any], of_task: Sequence[Mapping[str, Any]]
) -> tuple[str, str, dict[str, float]]:
    """The outcome of a run with an unannounced seed.

    Its accuracies must be in the 95 % prediction interval of one more seed: the mean of the
    submitted seeds ± t * s * sqrt(1 + 1 / n), and the tolerance between two kinds of CPU.
    """
    from scipy.stats import t

    n = len(of_task)
    means = {name: statistics.fmean(row[name] for row in of_task) for name in TOLERANCE}
    difference = {name: scores[name] - means[name] for name in TOLERANCE}
    if n < 2:
        return NOT_COMPARED, "one submitted seed gives no range", difference
    for name, tolerance in TOLERANCE.items():
        deviation = statistics.stdev(row[name] for row in of_task)
        half = float(t.ppf(0.975, n - 1)) * deviation * math.sqrt(1 + 1 / n) + tolerance
        if abs(difference[name]) > half:
            reason = f"{name} is {difference[name]:+.2f} points from the mean of the {n} seeds"
            return DIFFERS, f"{reason}, expected within {half:.2f}", difference
    return IN_RANGE, "", difference


# --- its file ------------------------------------------------------------------------------------


def verification_file(folder: Path) -> Path:
    """Where a verification is written unless named: beside the submission's folder, not in it.

    Raises:
        UsageError: nothing is beside the root of a file system.
    """
    folder = folder.resolve()
    if not folder.name:
        raise UsageError(f"{folder} cannot be a submission; give the folder of one")
    return folder.with_name(f"{folder.name}.verification.json")


def check_place(path: Path, folder: Path) -> None:
    """Check that a new file can be written before runs are repeated for hours; creates its folder.

    Args:
        path: of the file.
        folder: of the submission.

    Raises:
        UsageError: it exists, or is inside the submission, whose digest it would change.
        OSError: it cannot be written.
    """
    if path.resolve().is_relative_to(folder.resolve()):
        raise UsageError(
            f"--out {path} is inside the submission {folder}, which it would change; name a file "
            "elsewhere"
        )
    if path.exists() or path.is_symlink():  # the author of the submission may have written it
        raise UsageError(f"{path} exists; delete it, or name another file with --out")
    make_folder(path.parent)
    with (
        named_as(path),
        tempfile.NamedTemporaryFile(prefix=f".{path.name[:20]}-", dir=path.parent),
    ):
        pass


def write_verification(path: Path, verification: Verification) -> None:
    """Write a verification, with its own digest."""
    write_file(path, seal(asdict(verification)) + b"\n")


def read_verification(path: Path, submission: str) -> dict[str, Any]:
    """Read the verification of a submission.

    Args:
        path: its file.
        submission: digest of the folder that it must be of.

    Raises:
        UsageError: it does not exist.
        DataError: it is damaged, of another submission, or says that runs differ.
    """
    if not path.exists():
        raise UsageError(f"{path} does not exist; `htbench submit verify` writes it")
    content = read_sealed(path, MAX_BYTES, DataError)
    if content.get("submission") != submission:
        raise DataError(
            f"{path} is the verification of another submission, or of this one before it was "
            "changed; repeat its runs with `htbench submit verify`"
        )
    if content.get("verified") is not True:
        raise DataError(f"{path} says that runs could not be repeated; do not accept it")
    return content
