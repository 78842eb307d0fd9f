"""Split the runs of a suite into parts for separate machines, the same way on every machine."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmark.errors import UsageError
from benchmark.manifest.manifest import Manifest, Task
from benchmark.runs.plan import PlannedRun
from benchmark.text import plural

MAX_SHARDS = 10_000
STEP = 3  # a gradient step on an image takes about as long as this many evaluations of it


@dataclass(frozen=True)
class Shard:
    """One part of a suite's runs; ``number`` counts from 1 to ``count``."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"shard {self.number} of {self.count}"


def parse_shard(text: str, environment: Mapping[str, str]) -> Shard:
    """The shard that ``I/N``, ``auto/N`` or ``auto`` names.

    ``auto/N`` takes the number from ``SLURM_ARRAY_TASK_ID``, counted from 1, or from
    ``JOB_COMPLETION_INDEX``, counted from 0. ``auto`` is for a whole SLURM array: it takes N from
    ``SLURM_ARRAY_TASK_COUNT`` and the first number from ``SLURM_ARRAY_TASK_MIN``.

    Raises:
        UsageError: the text has another form, or a variable is missing or not a number.
    """
    parts = re.fullmatch(r"(auto|\d{1,9})(?:/(\d{1,9}))?", text)
    if parts is None or (parts[1] != "auto" and parts[2] is None):
        raise UsageError(f"--shard {text[:100]!r} is not of the form I/N, auto/N or auto")
    if parts[1] != "auto":
        number, count = int(parts[1]), int(parts[2])
    elif "SLURM_ARRAY_TASK_ID" in environment:
        number, count = _of_slurm(environment, parts[2])
    elif "JOB_COMPLETION_INDEX" in environment and parts[2] is not None:
        number, count = _whole(environment, "JOB_COMPLETION_INDEX") + 1, int(parts[2])
    elif parts[2] is None:
        raise UsageError(
            "--shard auto is for a SLURM array, and SLURM_ARRAY_TASK_ID is not set; give --shard "
            "I/N, or --shard auto/N in a Kubernetes job"
        )
    else:
        raise UsageError(
            f"--shard {text} needs SLURM_ARRAY_TASK_ID or JOB_COMPLETION_INDEX, and neither is "
            f"set; give --shard I/{parts[2]}"
        )
    if not 1 <= number <= count <= MAX_SHARDS:
        raise UsageError(
            f"--shard {text} means part {number} of {count}; the part must be from 1 to N, and N "
            f"at most {MAX_SHARDS}"
        )
    return Shard(number, count)


def _of_slurm(environment: Mapping[str, str], count: str | None) -> tuple[int, int]:
    number = _whole(environment, "SLURM_ARRAY_TASK_ID")
    if count is not None:
        return number, int(count)
    first, last, tasks = (
        _whole(environment, f"SLURM_ARRAY_TASK_{name}") for name in ("MIN", "MAX", "COUNT")
    )
    if first > 1 or last - first + 1 != tasks:
        raise UsageError(
            f"--shard auto is for a whole array, and this one has {plural(tasks, 'task')} from "
            f"{first} to {last}; to repeat some shards of N, give --shard I/N"
        )
    return number - first + 1, tasks


def _whole(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name, "")
    if not re.fullmatch(r"\d{1,9}", text):
        raise UsageError(f"{name}={text[:100]!r} is not a whole number; give --shard I/N")
    return int(text)


def split(
    cells: Sequence[PlannedRun], count: int, costs: Mapping[str, float]
) -> list[list[PlannedRun]]:
    """Split runs into parts that take about as long as each other.

    A run stays together with the runs that start from it. The result depends on the plan only: not
    on what is finished, and not on how fast a machine is.

    Args:
        cells: the runs, bases first.
        count: number of parts.
        costs: how long methods take without their base, relative to ``finetune``; other methods
            count as 1.

    Returns:
        The runs of each part, in their order.

    Raises:
        UsageError: there are fewer groups of runs than parts.
    """
    groups: dict[int, list[int]] = {}
    for i, cell in enumerate(cells):
        groups.setdefault(id(first_of_chain(cell)), []).append(i)
    if count > len(groups):
        raise UsageError(
            f"these runs cannot be split into {count} shards, because a run stays with those that "
            f"start from it; use at most {plural(len(groups), 'shard')}"
        )
    works = [work(cell.manifest, cell.task, cell.method.name, costs) for cell in cells]
    weighed = [(sum(works[i] for i in group), group) for group in groups.values()]
    totals, parts = [0.0] * count, [list[int]() for _ in range(count)]
    # The longest first, each to the part that has least to do; of equal ones, the first.
    for cost, group in sorted(weighed, key=lambda pair: (-pair[0], pair[1])):
        least = min(range(count), key=lambda part: (totals[part], part))
        totals[least] += cost
        parts[least] += group
    return [[cells[i] for i in sorted(part)] for part in parts]


def first_of_chain(cell: PlannedRun) -> PlannedRun:
    """The run that a run starts from, directly or through others; itself if from none."""
    while cell.base is not None:
        cell = cell.base
    return cell


def work(manifest: Manifest, task: Task, method: str, costs: Mapping[str, float]) -> float:
    """How long a run takes without its base, in evaluations of one image.

    Args:
        manifest: has the recipe; ``task``: has the target.
        method: its name; ``costs``: see :func:`split`.
    """
    steps = manifest.recipe["steps"] * costs.get(method, 1.0)
    tests = len(manifest.samples(task.target, "test").ids)
    return float(steps * manifest.recipe["batch_size"] * STEP + tests)
