"""The time of commands on workspaces with many runs.

    python performance/growth.py --runs 1000 10000
    python performance/growth.py --runs 100000 --folder /fast/disk

For each size it fills a workspace with records of a suite of icons (one run per task, method and
seed; no method is executed) and measures, each in a fresh process: the first ``htbench
leaderboard``, the second, one after a change of one run, and ``htbench run`` with nothing to do.
Below wall seconds are those of the processors, of all processes together. Each turn fills a new
workspace. Runs share a few predictions files by hard links: a workspace of 100,000 runs takes about
1.3 GB of disk.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from measure import Times, spread, table

from benchmark.driver import plan_suite, ready_specs
from benchmark.files import digest_file
from benchmark.manifest.suite import load_suite
from benchmark.records import PREDICTIONS_FILE, RECORD_FILE, RunRecord, write_predictions
from benchmark.runs.plan import RunSpec
from benchmark.runs.workspace import Workspace

METHODS = ("source", "finetune", "linear-probe", "bn-affine", "l2-sp", "lwf", "lolsgd")
TASKS = ("outline-solid", "solid-outline", "outline+solid-color")
CHANGED, NOTHING = "after a change", "run, nothing to do"
COMMANDS = ("leaderboard, first", "again", CHANGED, NOTHING)
VARIANTS = 20  # predictions files per task
SUITE = """title = "Growth"
manifest = "icons@2.0"
tasks = {tasks}
methods = {methods}
seeds = {seeds}
"""


def write_suite(folder: Path, runs: int) -> Path:
    """Write a suite of at least that many runs and return its file."""
    seeds = list(range(-(-runs // (len(METHODS) * len(TASKS)))))
    path = folder / "growth.toml"
    path.write_text(SUITE.format(tasks=list(TASKS), methods=list(METHODS), seeds=seeds))
    return path


def planned_runs(suite: Path, workspace: Path) -> Iterator[RunSpec]:
    """Plan the runs of the suite, from the source models that the manifest pins."""
    with plan_suite(load_suite(str(suite)), Workspace(workspace)) as plan:
        yield from ready_specs(plan.cells)


def fill(workspace: Path, specs: Iterator[RunSpec], runs: int) -> None:
    """Write the folders of the first runs of a plan."""
    random = np.random.default_rng(0)
    pool: dict[str, list[tuple[Path, str]]] = {}
    for number, spec in zip(range(runs), specs, strict=False):
        planned = spec.planned
        task, manifest = planned.task, planned.manifest
        if task.id not in pool:
            test = manifest.samples(task.target, "test")
            for variant in range(VARIANTS):
                path = workspace / "pool" / f"{task.id}-{variant}.parquet"
                path.parent.mkdir(parents=True, exist_ok=True)
                logits = random.standard_normal((len(test.ids), len(manifest.classes)))
                logits[np.arange(len(test.ids)), test.labels] += 2
                write_predictions(path, test.ids, logits.astype(np.float32))
                pool.setdefault(task.id, []).append((path, digest_file(path)))
        path, digest = pool[task.id][number % VARIANTS]
        folder = workspace / "runs" / spec.key
        folder.mkdir(parents=True)
        os.link(path, folder / PREDICTIONS_FILE)
        record = RunRecord(
            key=spec.key,
            made_from=spec.facts.to_json(),
            manifest=manifest.reference,
            task=task.id,
            method=planned.method.name,
            label=planned.label,
            config=dict(planned.config),
            track=planned.method.track,
            seed=planned.seed,
            status="ok",
            predictions_sha256=digest,
            cost={
                "adapt_seconds": 2.0,
                "predict_seconds": 0.5,
                "wall_seconds": 3.0,
                "total_steps": 200,
                "sequential_steps": 200,
                "peak_memory": 2.0**29,
                "finished": 1.7e9 + number,
            },
            environment={"htbench": "0.1.0", "torch": "2.6.0", "threads": 1},
            isolation=["child-process", "landlock-files", "seccomp"],
            log=[{"step": step, "loss": 1.0 / (step + 1)} for step in range(0, 200, 10)],
        )
        (folder / RECORD_FILE).write_bytes(record.to_bytes())


def htbench(*arguments: str | Path) -> None:
    """Carry out a command in a new process."""
    command = [sys.executable, "-m", "htbench", *map(str, arguments)]
    # Where Python may not write compiled modules, it would compile all of ours in each process.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)


def measure(folder: Path, runs: int, times: Mapping[str, Times]) -> None:
    """Fill a workspace and time the commands once more."""
    os.environ["HTBENCH_DATA"] = str(folder / "data")
    workspace = folder / "workspace"
    suite = write_suite(folder, runs)
    fill(workspace, planned_runs(suite, workspace), runs)
    options = ("--suite", suite, "--workspace", workspace)
    for name, turns in times.items():
        if name == CHANGED:
            os.utime(next((workspace / "runs").iterdir()) / RECORD_FILE)
        # Of both, the first call after a change is the expensive one.
        turns.time(partial(htbench, "run" if name == NOTHING else "leaderboard", *options))


def main() -> None:
    """Parse the arguments, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the workspaces are written")
    arguments = parser.parse_args()
    cells = len(METHODS) * len(TASKS)
    rows = []
    # The first ones only compile modules.
    for runs, turns in ((cells, 1), *((runs, arguments.turns) for runs in arguments.runs)):
        whole = -(-runs // cells) * cells  # so that `htbench run` has nothing to do
        times = {name: Times() for name in COMMANDS}
        for _ in range(turns):
            folder = Path(tempfile.mkdtemp(dir=arguments.folder))
            try:
                measure(folder, whole, times)
            finally:
                shutil.rmtree(folder)
        rows.append([f"{whole:,}", "wall", *(spread(time.wall) for time in times.values())])
        rows.append(["", "CPU", *(spread(time.cpu) for time in times.values())])
    print(table(rows[2:], ["runs", "seconds", *COMMANDS]))
    print(f"\n{arguments.turns} turns. Wanted: {NOTHING!r} in at most 1.5 s with 10,000 runs.")


if __name__ == "__main__":
    main()
