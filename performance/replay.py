"""Check the simulations of performance/scale.py where they can be checked: on this machine.

    python performance/replay.py                         all runs of icons, twice: five minutes
    python performance/replay.py --task outline-solid    those of one task

Carries out the suite on nodes in this process, one per core, with the executor of clusters, and
simulates the schedule from the seconds of the runs. Then carries it out in shards side by side, and
compares with a simulation from the same seconds. For more nodes than cores, the executor schedules
the same chains on nodes that sleep instead.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from measure import table
from schedules import makespan, pulled

from benchmark.driver import SuitePlan, plan_suite, unfinished_runs
from benchmark.isolation.cgroup import cores
from benchmark.manifest.suite import load_suite
from benchmark.progress import Silent
from benchmark.records import RunRecord
from benchmark.remote.chains import Chain, chains_of
from benchmark.remote.executor import RemoteExecutor, RemoteNode
from benchmark.remote.node import Node
from benchmark.runs.shards import split
from benchmark.runs.workspace import Workspace
from leaderboard.gamma_star import DERIVED
from leaderboard.published import relative_costs
from leaderboard.rows import check_record

SUITE = "icons"
NODES = (8, 64)  # that sleep
SPEED = 20  # seconds of a chain for each that a node sleeps


class Here(Node):
    """A node in this process; its worker and the runs are processes of their own."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.name, self.slots = f"node {number}", 1

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method, as Ray would from afar."""
        return getattr(self, method)(*arguments)


@dataclass
class Asleep:
    """A node of :class:`Replay`, which only stops it."""

    name: str
    slots: int = 1

    def call(self, method: str, *arguments: Any) -> None:
        """Do nothing."""


@dataclass
class Replay(RemoteExecutor):
    """Sleeps instead of preparing nodes and carrying out chains of finished runs."""

    finished: Mapping[str, RunRecord] = field(default_factory=dict)

    def _prepare(self, node: RemoteNode) -> None:
        """A node needs nothing."""

    def _carry_out(self, node: RemoteNode, chain: Chain) -> None:
        time.sleep(length(chain, self.finished) / SPEED)
        self._records.update({key: self.finished[key] for key in chain.keys})


def length(chain: Chain, finished: Mapping[str, RunRecord]) -> float:
    """Seconds of a chain from those of its runs."""
    return sum(finished[key].cost["wall_seconds"] for key in chain.keys)


def executor(
    kind: Callable[..., RemoteExecutor], nodes: Sequence[RemoteNode], place: Workspace, **more: Any
) -> RemoteExecutor:
    """An executor that finds all nodes when it first looks."""
    first_look = iter([nodes])
    return kind(
        discover=lambda: next(first_look, []),
        workspace=place,
        check=check_record,
        reporter=Silent(),
        log=print,
        **{"options": {}, **more},
    )


def on_nodes(plan: SuitePlan, options: dict[str, Any], place: Workspace) -> list[Chain]:
    """Carry out a plan on nodes in this process; return its chains, in the order of the queue."""
    with place:
        plan.prepare(cores(), Silent())
        chains = chains_of(unfinished_runs(plan.ready, place), relative_costs())
        nodes = [Here(number) for number in range(cores())]
        options = {"suite": SUITE, "derived": dict(DERIVED), "device": "cpu", **options}
        executor(RemoteExecutor, nodes, place, options=options).execute(chains)
    return chains


def asleep(
    chains: Sequence[Chain], finished: Mapping[str, RunRecord], nodes: int, place: Workspace
) -> float:
    """Seconds that the executor takes for chains on nodes that sleep, times ``SPEED``."""
    sleepers = [Asleep(f"node {number}") for number in range(nodes)]
    begin = time.perf_counter()
    executor(Replay, sleepers, place, finished=finished).execute(chains)
    return (time.perf_counter() - begin) * SPEED


def in_shards(folder: Path, words: Sequence[str]) -> float:
    """Carry the suite out in one shard per core, side by side; return the seconds of its runs."""
    count = cores()
    places = [folder / f"{number}" for number in range(1, count + 1)]
    run = (sys.executable, "-m", "htbench", "run", "--suite", SUITE, "--jobs", "1", *words)
    shards = [
        subprocess.Popen(
            [*run, "--workspace", place, "--shard", f"{place.name}/{count}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for place in places
    ]
    assert not any(shard.wait() for shard in shards)
    # By the shard: they start at different moments.
    return max(span(records_of(place)) for place in places)


def records_of(workspace: Path) -> dict[str, RunRecord]:
    """The records of a workspace by their keys."""
    return {path.name: RunRecord.read(path) for path in (workspace / "runs").iterdir()}


def span(records: Mapping[str, RunRecord]) -> float:
    """Seconds from the beginning of the first run to the end of the last."""
    costs = [record.cost for record in records.values()]
    begin = min(cost["finished"] - cost["wall_seconds"] for cost in costs)
    return max(cost["finished"] for cost in costs) - begin


def measure(folder: Path, tasks: Sequence[str]) -> tuple[int, list[list[str]]]:
    """Carry out and simulate; return the number of runs, and rows of a table."""
    place, workers = Workspace(folder / "nodes"), cores()
    options = {"tasks": list(tasks)}
    with plan_suite(load_suite(SUITE), place, device="cpu", derived=DERIVED, tasks=tasks) as plan:
        chains = on_nodes(plan, options, place)
        records = records_of(folder / "nodes")
        words = [word for task in tasks for word in ("--task", task)]
        shards = in_shards(folder / "shards", words)
        seconds = {
            id(run.planned): records[run.key].cost["wall_seconds"]
            for chain in chains
            for run in chain.runs
        }
        parts = split(plan.cells, workers, relative_costs())
        with place:
            sleeping = {nodes: asleep(chains, records, nodes, place) for nodes in NODES}
    lengths = [length(chain, records) for chain in chains]
    cases = [
        (f"{workers} nodes, chains pulled", span(records), pulled(lengths, workers), workers),
        (
            f"{workers} shards side by side",
            shards,
            makespan(([id(cell) for cell in part] for part in parts), seconds),
            workers,
        ),
        *(
            (f"{nodes} nodes that sleep, chains pulled", took, pulled(lengths, nodes), nodes)
            for nodes, took in sleeping.items()
        ),
    ]
    total = sum(seconds.values())
    return len(seconds), [
        [name, f"{took:.1f}", f"{expected:.1f}", f"{took / expected:.3f}", f"{total / count:.1f}"]
        for name, took, expected, count in cases
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    tasks = load_suite(SUITE).tasks
    parser.add_argument(
        "--task", action="append", default=[], choices=tasks, help="only this one; repeatable"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HTBENCH_DATA"] = str(Path(folder, "data"))
        os.environ["HTBENCH_WARM"] = "0"
        count, rows = measure(Path(folder), arguments.task)
    headers = ["way", "measured, s", "simulated, s", "measured / simulated", "ideal, s"]
    print(table(rows, headers))
    print(
        f"\n{count} runs of `{SUITE}`, simulated from the seconds that each took on the nodes."
        f" Nodes that sleep do so {SPEED} times as fast, and their times are multiplied; nothing is"
        " sent or checked there."
    )


if __name__ == "__main__":
    main()
