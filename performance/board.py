"""The time and memory of a board from scores, for many rows, and beside bencheval.

    python performance/board.py --rows 10000 100000 1000000
    python performance/board.py --against bencheval

Rows are generated: M methods x 5 configurations x T tasks x K seeds, of a manifest that repeats a
task of the icons. Each size runs in a fresh process, which builds the board (means, intervals over
seeds and ranks) and renders its table of means. The growth exponent is the slope between the first
and the last size on logarithmic axes, of processor seconds; 1 is linear.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pyarrow as pa
from tabulate import tabulate

from benchmark.files import digest_json
from benchmark.manifest.catalogue import load_manifest
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite
from benchmark.records import PROTOCOL
from leaderboard.board import MEAN, build_boards
from leaderboard.grid import Grid
from leaderboard.render.markdown import board_table
from leaderboard.row_columns import Rows
from leaderboard.rows import COUNTS, METRICS, SCHEMA
from leaderboard.task_ranks import mean_ranks

CONFIGURATIONS = 5
SEEDS = 10
SHAPES = {  # rows -> methods and tasks
    10_000: (20, 10),
    100_000: (50, 40),
    1_000_000: (200, 100),
}
TARGET = "10 s and 2 GiB for 1,000,000 rows"


def many_tasks(tasks: int) -> tuple[Suite, Manifest]:
    """A suite of icons whose manifest has one of its tasks several times."""
    icons = load_manifest("icons@2.0")
    (first, *_) = icons.document["tasks"]
    copies = [{**first, "id": f"task-{i:03}"} for i in range(tasks)]
    manifest = dataclasses.replace(icons, document={**icons.document, "tasks": copies})
    names = tuple(task.id for task in manifest.tasks)
    suite = Suite("many", "Many", manifest.reference, names, ("source",), tuple(range(SEEDS)))
    return suite, manifest


def many_rows(manifest: Manifest, suite: Suite, methods: int, configurations: int) -> pa.Table:
    """Results with normally distributed scores, as columns."""
    random = np.random.default_rng(0)
    labels = [
        (f"m{m:03}", f"m{m:03}" if c == 0 else f"m{m:03}(rate={c})")
        for m in range(methods)
        for c in range(configurations)
    ]
    n_tasks, n_seeds = len(suite.tasks), len(suite.seeds)
    n = len(labels) * n_tasks * n_seeds
    which = np.repeat(np.arange(len(labels)), n_tasks * n_seeds)
    task = np.repeat(np.arange(n_tasks), n_seeds)
    skill = random.normal(50, 8, len(labels))[which]
    columns: dict[str, Any] = {name: pa.nulls(n, SCHEMA.field(name).type) for name in SCHEMA.names}

    def text(values: list[str], index: np.ndarray) -> pa.Array:
        return pa.DictionaryArray.from_arrays(pa.array(index), pa.array(values)).cast(pa.string())

    def constant(value: str) -> pa.Array:
        return pa.repeat(pa.scalar(value, pa.string()), n)

    columns |= {
        "key": pa.array([f"{i:064x}" for i in range(n)]),
        "task": text(list(suite.tasks), np.tile(task, len(labels))),
        "method": text([method for method, _ in labels], which),
        "label": text([label for _, label in labels], which),
        "method_code": text([digest_json(method) for method, _ in labels], which),
        "seed": pa.array(np.tile(np.array(suite.seeds), len(labels) * n_tasks)),
        "measured_finished": pa.array(np.full(n, 1000.0)),
        "measured_adapt_seconds": pa.array(random.uniform(1, 9, n)),
        **{name: pa.array(random.normal(skill, 3)) for name in METRICS},
        **{name: pa.array(np.full(n, 100)) for name in COUNTS},
        "total_steps": pa.array(np.full(n, 200)),
    }
    facts = {
        "status": "ok",
        "provenance": "local",
        "manifest": manifest.reference,
        "manifest_digest": manifest.digest,
        "protocol": PROTOCOL,
        "model": json.dumps(dict(manifest.document["model"])),
        "recipe_digest": digest_json(manifest.recipe),
        "source_digest": "a" * 64,
        "device": "cpu",
        "computation": "{}",
        "config": "{}",
        "track": "standard",
        "notes": "[]",
    }
    columns |= {name: constant(value) for name, value in facts.items()}
    return pa.table({name: columns[name] for name in SCHEMA.names}, schema=SCHEMA)


def measure(rows: int) -> dict[str, float]:
    """Seconds and GiB of one size, in this process."""
    methods, tasks = SHAPES[rows]
    suite, manifest = many_tasks(tasks)
    table = many_rows(manifest, suite, methods, CONFIGURATIONS)
    assert table.num_rows == rows
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, cpu = time.perf_counter(), time.process_time()
    (board,) = build_boards(suite, manifest, table)
    built = time.perf_counter()
    board_table(board, MEAN)
    end = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "rows": rows,
        "build": built - start,
        "render": end - built,
        "seconds": end - start,
        "cpu": time.process_time() - cpu,
        "rows_gib": before / 2**20,
        "peak_gib": peak / 2**20,
    }


def beside_bencheval() -> None:
    """Time the mean ranks of 200 methods on 30 tasks with 3 seeds, and check that they agree."""
    import pandas as pd
    from bencheval.evaluator import BenchmarkEvaluator

    suite, manifest = many_tasks(30)
    suite = dataclasses.replace(suite, seeds=(0, 1, 2))
    table = many_rows(manifest, suite, 200, 1)
    frame: pd.DataFrame = table.select(["label", "task", "seed", "overall"]).to_pandas()
    frame = frame.rename(columns={"label": "method"})
    frame["metric_error"] = 100 - frame.pop("overall")
    evaluator = BenchmarkEvaluator(seed_column="seed", columns_to_agg_extra=[])

    def theirs() -> pd.DataFrame:
        off = {f"include_{name}": False for name in ("elo", "winrate", "improvability")}
        board: pd.DataFrame = evaluator.leaderboard(frame, average_seeds=True, **off)
        return board

    def ours() -> dict[str, float]:
        grid = Grid.of_rows(Rows(table), suite.tasks, suite.seeds)
        ranks = mean_ranks(grid.values("overall").mean(axis=2))
        return dict(zip(grid.labels, ranks.tolist(), strict=True))

    expected = theirs()["rank"].to_dict()
    assert ours().keys() == expected.keys()
    assert all(math.isclose(rank, expected[name]) for name, rank in ours().items())
    seconds: dict[str, list[float]] = {"htbench": [], "bencheval": []}
    for _ in range(20):
        for name, function in (("htbench", ours), ("bencheval", theirs)):
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    fastest = {name: min(times) for name, times in seconds.items()}
    rows = [[name, 1000 * least] for name, least in fastest.items()]
    print(tabulate(rows, ["mean ranks of 18,000 rows", "ms, fastest of 20"]))
    print(f"ratio {fastest['bencheval'] / fastest['htbench']:.1f}; the ranks are equal")


def main() -> None:
    """Measure each size in its own process and print a table."""
    parser = argparse.ArgumentParser(description="Measure boards of many rows.")
    parser.add_argument("--rows", type=int, choices=SHAPES, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--against", choices=["bencheval"], help="compare rank tables instead")
    arguments = parser.parse_args()
    if arguments.against:
        beside_bencheval()
        return
    if arguments.one:
        print(json.dumps(measure(arguments.one)))
        return
    results = []
    for rows in arguments.rows:
        command = [sys.executable, __file__, "--one", str(rows)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        results.append(json.loads(output))
        print(tabulate(results, headers="keys", floatfmt=".2f"), flush=True)
    first, last = results[0], results[-1]
    if len(results) > 1:
        slope = math.log(last["cpu"] / first["cpu"]) / math.log(last["rows"] / first["rows"])
        print(f"growth exponent {slope:.2f}; target: {TARGET}, exponent 1")


if __name__ == "__main__":
    main()
