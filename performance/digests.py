"""The share of a run's time in which files are compared with their digests.

    python performance/digests.py
    python performance/digests.py --suite icons --method finetune --method source --seed 0 --seed 1

Carries out runs of a suite in a temporary workspace, one after another: once to make the stores,
source models and features in the data folder, and then again as the next command would. For the
second time it prints the seconds of the whole command in this process, of the digests of files
(stores, features, source models, adapted weights, predictions), and of those of JSON records.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from tabulate import tabulate

from benchmark import files, keys
from benchmark.driver import plan_suite
from benchmark.manifest.suite import load_suite
from benchmark.progress import Silent
from benchmark.runs.workspace import Workspace

LIMIT = 0.05  # of the time, the most that digests may take
METHODS = ("source", "ncm", "finetune", "wise-ft")  # stores, features, and a base's weights


class Timed:
    """A function that adds up its seconds; it takes the place of another in all modules."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function, self.seconds, self.calls = function, 0.0, 0
        for module in list(sys.modules.values()):
            for name in [name for name, value in vars(module).items() if value is function]:
                setattr(module, name, self)

    def __call__(self, *arguments: Any) -> Any:
        """Call the function."""
        start = perf_counter()
        try:
            return self._function(*arguments)
        finally:
            self.seconds += perf_counter() - start
            self.calls += 1


def run(suite: str, methods: list[str], seeds: list[int]) -> float:
    """Carry out the runs in a new workspace; return the seconds."""
    with tempfile.TemporaryDirectory() as folder:
        start = perf_counter()
        place = Workspace(Path(folder, "workspace"))
        with plan_suite(load_suite(suite), place, methods=methods, seeds=seeds) as plan:
            records = plan.execute(1, Silent())
        seconds = perf_counter() - start
    assert all(record.status == "ok" for record in records)
    return seconds


def main() -> None:
    """Parse the arguments, measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--suite", default="icons")
    parser.add_argument("--method", dest="methods", action="append")
    parser.add_argument("--seed", dest="seeds", action="append", type=int)
    options = parser.parse_args()
    methods, seeds = options.methods or list(METHODS), options.seeds or [0]
    run(options.suite, methods, seeds)
    files._digests.clear()  # as in a new process
    counters = {
        "files": [Timed(hashlib.file_digest)],
        "records": [Timed(files.digest_json), Timed(keys.digest_entries)],
    }
    total = run(options.suite, methods, seeds)
    seconds = {name: sum(timed.seconds for timed in counter) for name, counter in counters.items()}
    rows = [
        [
            name,
            sum(timed.calls for timed in counter),
            f"{seconds[name]:.3f}",
            f"{100 * seconds[name] / total:.2f} %",
        ]
        for name, counter in counters.items()
    ]
    rows.append(["the whole command", "", f"{total:.1f}", "100 %"])
    print(tabulate(rows, ["digests of", "number", "seconds", "share"]))
    share = sum(seconds.values()) / total
    print(f"\n{100 * share:.2f} % of the time; the limit is {100 * LIMIT:.0f} %")


if __name__ == "__main__":
    main()
