"""Shards of a suite: which runs each has, and how a shard is named on the command line."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest

from benchmark.errors import UsageError
from benchmark.manifest.manifest import Manifest
from benchmark.runs.plan import PlannedRun
from benchmark.runs.shards import STEP, Shard, parse_shard, split

COSTS = {"source": 0.0, "finetune": 1.0, "wise-ft": 0.0, "slow": 4.0}


@pytest.fixture
def cells(mini: Manifest) -> list[PlannedRun]:
    """Three tasks, three seeds, and six methods, one of which starts from one that starts from one.

    The plan of this suite: bases come first.
    """
    bases = {"wise-ft": "finetune", "on-top": "wise-ft"}
    plan: list[PlannedRun] = []
    for task, seed in itertools.product(mini.tasks, range(3)):
        of_task: dict[str, PlannedRun] = {}
        for name in ("source", "finetune", "wise-ft", "on-top", "slow", "unknown"):
            method: Any = SimpleNamespace(name=name)
            base = of_task.get(bases.get(name, ""))
            of_task[name] = PlannedRun(mini, task, method, {}, seed, "cpu", base)
            plan.append(of_task[name])
    return plan


def cost(cell: PlannedRun) -> float:
    """The definition: a step on an image counts as three evaluations of it."""
    recipe = cell.manifest.document["recipe"]
    training = recipe["steps"] * recipe["batch_size"] * STEP * COSTS.get(cell.method.name, 1.0)
    return training + len(cell.manifest.samples(cell.task.target, "test").ids)


class TestSplit:
    @pytest.mark.parametrize("count", [1, 2, 3, 7, 36])
    def test_every_run_is_in_one_shard_in_the_order_of_the_plan(
        self, cells: list[PlannedRun], count: int
    ) -> None:
        parts = split(cells, count, COSTS)
        assert len(parts) == count
        assert all(parts)
        places = [[cells.index(cell) for cell in part] for part in parts]
        assert sorted(itertools.chain(*places)) == list(range(len(cells)))
        assert all(part == sorted(part) for part in places)

    @pytest.mark.parametrize("count", [2, 5, 36])
    def test_a_run_is_with_its_base(self, cells: list[PlannedRun], count: int) -> None:
        for part in split(cells, count, COSTS):
            inside = {id(cell) for cell in part}
            assert all(cell.base is None or id(cell.base) in inside for cell in part)

    @pytest.mark.parametrize("count", [2, 3, 5, 9])
    def test_shards_take_about_as_long_as_each_other(
        self, cells: list[PlannedRun], count: int
    ) -> None:
        """Graham's bound: at most 4/3 of the best, which is not less than the mean."""
        totals = [sum(map(cost, part)) for part in split(cells, count, COSTS)]
        assert sum(totals) == pytest.approx(sum(map(cost, cells)))
        assert max(totals) <= 4 / 3 * max(sum(totals) / count, max(map(cost, cells)))
        if count == 9:  # nine equal sets of groups
            assert max(totals) == pytest.approx(min(totals), rel=0.01)

    def test_more_shards_than_groups(self, cells: list[PlannedRun]) -> None:
        with pytest.raises(UsageError, match=r"split into 37 shards, .* use at most 36 shards"):
            split(cells, 37, COSTS)


class TestParse:
    @pytest.mark.parametrize(
        ("text", "environment", "shard"),
        [
            ("1/1", {}, (1, 1)),
            ("3/8", {"SLURM_ARRAY_TASK_ID": "7"}, (3, 8)),
            ("auto/8", {"JOB_COMPLETION_INDEX": "0"}, (1, 8)),
            ("auto/8", {"JOB_COMPLETION_INDEX": "7"}, (8, 8)),
            ("auto/8", {"SLURM_ARRAY_TASK_ID": "8"}, (8, 8)),
            ("auto", {"ID": "1", "MIN": "1", "MAX": "8", "COUNT": "8"}, (1, 8)),
            ("auto", {"ID": "8", "MIN": "1", "MAX": "8", "COUNT": "8"}, (8, 8)),
            ("auto", {"ID": "0", "MIN": "0", "MAX": "7", "COUNT": "8"}, (1, 8)),
            ("auto", {"ID": "7", "MIN": "0", "MAX": "7", "COUNT": "8"}, (8, 8)),
        ],
    )
    def test_names(self, text: str, environment: dict[str, str], shard: tuple[int, int]) -> None:
        assert parse_shard(text, variables(environment)) == Shard(*shard)

    @pytest.mark.parametrize(
        ("text", "environment", "message"),
        [
            ("", {}, "is not of the form I/N"),
            ("3", {}, "is not of the form I/N"),
            ("a/b", {}, "is not of the form I/N"),
            ("1/" + "9" * 50, {}, "is not of the form I/N"),
            ("0/8", {}, "part 0 of 8"),
            ("9/8", {}, "part 9 of 8"),
            ("1/10001", {}, "at most 10000"),
            ("auto", {}, "SLURM_ARRAY_TASK_ID is not set"),
            ("auto", {"JOB_COMPLETION_INDEX": "0"}, "auto/N in a Kubernetes job"),
            ("auto/8", {}, "give --shard I/8"),
            ("auto/8", {"JOB_COMPLETION_INDEX": "8"}, "part 9 of 8"),
            ("auto/8", {"JOB_COMPLETION_INDEX": "x"}, "JOB_COMPLETION_INDEX='x' is not a whole"),
            ("auto/8", {"SLURM_ARRAY_TASK_ID": "0"}, "part 0 of 8"),
            ("auto", {"ID": "1", "COUNT": "8", "MIN": "1"}, "SLURM_ARRAY_TASK_MAX='' is not"),
            # One shard is repeated: the array does not say how many there are.
            ("auto", {"ID": "3", "MIN": "3", "MAX": "3", "COUNT": "1"}, "give --shard I/N"),
            ("auto", {"ID": "1", "MIN": "1", "MAX": "3", "COUNT": "2"}, "give --shard I/N"),
        ],
    )
    def test_refusals(self, text: str, environment: dict[str, str], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            parse_shard(text, variables(environment))


def variables(short: dict[str, str]) -> dict[str, str]:
    """Short names of the variables of a SLURM array, in full."""
    whole = ("JOB_COMPLETION_INDEX", "SLURM_ARRAY_TASK_ID")
    return {k if k in whole else f"SLURM_ARRAY_TASK_{k}": v for k, v in short.items()}
