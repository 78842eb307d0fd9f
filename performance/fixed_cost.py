"""The fixed cost of a run: from the fork to the result, for a method that trains nothing.

    python performance/fixed_cost.py
    python performance/fixed_cost.py --repeats 30 --suite icons

Runs the method ``source`` with many seeds, one after another, in a temporary workspace, and prints
the median time of each part of a run. For comparison, it times the alternative: a new interpreter
for each run. If the source model of the suite's first task does not exist, it is trained first, in
the data folder, like ``htbench run`` does.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from tabulate import tabulate

from benchmark.driver import open_stores, ready_sources, target_needs
from benchmark.executors.local import LocalExecutor, slots
from benchmark.images.store.store import DomainStore
from benchmark.isolation.client import Child
from benchmark.manifest.catalogue import load_manifest
from benchmark.manifest.suite import load_suite
from benchmark.methods.resolve import resolve
from benchmark.progress import Silent
from benchmark.runs.plan import RunSpec, grid, with_sources
from benchmark.runs.workspace import Workspace
from benchmark.session import Session

LIMIT = 0.150  # the maximum fixed cost of a run, in seconds

PARTS = {
    "locked": "fork, open images and weights, enter the sandbox",
    "started": "import the method",
    "adapted": "adapt (nothing)",
    "done": "predict, and check batch independence (work)",
    "ended": "end of the process",
    "left": "check, write and digest the result",
}
WORK = {"done"}

# A run in a new interpreter; the images are opened before, as for a child.
FRESH = """
import sys, torch, safetensors.torch
from benchmark.images.augment import Transforms
from benchmark.images.store.tensors import map_images
from benchmark.networks.build import build
from benchmark.manifest.catalogue import load_manifest
torch.set_num_threads(1)
document = load_manifest(sys.argv[1]).document
model = build(document["model"], len(document["classes"]))
model.load_state_dict(safetensors.torch.load_file(sys.argv[2]))
with open(sys.argv[3], "rb") as file:
    images = map_images(file.fileno(), int(sys.argv[4]), document["image_size"])
transforms = Transforms(document["transforms"])
with torch.inference_mode():
    model.eval()
    torch.cat([model(transforms.evaluate(part)) for part in images.split(256)])
"""


class Clock:
    """Records the arrival times of a child's messages, by their keys."""

    def __init__(self) -> None:
        self.times: dict[str, float] = {}
        self._receive, self._finish = Child.receive, Child.finish

    def __enter__(self) -> Clock:
        clock = self

        def receive(child: Child) -> dict[str, Any] | None:
            message = clock._receive(child)
            clock.times.update(dict.fromkeys(message or (), perf_counter()))
            return message

        def finish(child: Child) -> Any:
            outcome = clock._finish(child)
            clock.times["ended"] = perf_counter()
            return outcome

        Child.receive, Child.finish = receive, finish  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        Child.receive, Child.finish = self._receive, self._finish  # type: ignore[method-assign]

    def parts(self, start: float, end: float) -> dict[str, float]:
        """Return the duration of each part of a run, in seconds."""
        times = [start, *(self.times[part] for part in [*PARTS][:-1]), end]
        return dict(zip(PARTS, (b - a for a, b in pairwise(times)), strict=True))


def measure(suite_name: str, repeats: int) -> tuple[list[dict[str, float]], list[object]]:
    """Return the times of the parts of many runs, and arguments for ``FRESH``."""
    suite = load_suite(suite_name)
    manifest = load_manifest(suite.manifest)
    with (
        tempfile.TemporaryDirectory() as folder,
        Session(never=[Path(folder), manifest.root]) as session,
        Workspace(Path(folder)) as workspace,
    ):
        methods = resolve(["source"], [], session.describe)
        cells = grid(manifest, suite.tasks[:1], methods, range(repeats + 1), "cpu", {})
        sources = ready_sources(session, [cells[0].source], workspace, slots("cpu"), Silent())
        stores = open_stores(manifest, target_needs(cells), Silent())
        executor = LocalExecutor(session.server, workspace, 1, Silent())
        runs = list(with_sources(cells, sources))
        rows = [one(executor, run, stores) for run in runs]
        store = stores[cells[0].task.target]
        arguments = [suite.manifest, runs[0].source.path, store.test_file, len(store.test_ids)]
    return rows[1:], arguments  # the caches are cold in the first run


def one(executor: LocalExecutor, run: RunSpec, stores: dict[str, DomainStore]) -> dict[str, float]:
    """Return the duration of each part of one run, in seconds."""
    with Clock() as clock:
        start = perf_counter()
        (record,) = executor.execute([run], stores)
        end = perf_counter()
    assert record.status == "ok", record.error
    return clock.parts(start, end)


def seconds(command: list[object], repeats: int) -> float:
    """Return the median time of a command, in seconds."""
    times = []
    for _ in range(repeats):
        start = perf_counter()
        subprocess.run([str(word) for word in command], check=True, capture_output=True)
        times.append(perf_counter() - start)
    return median(times)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--suite", default="icons")
    parser.add_argument("--repeats", type=int, default=20, help="runs; the median is shown")
    args = parser.parse_args()

    rows, arguments = measure(args.suite, args.repeats)
    parts = {part: median(row[part] for row in rows) for part in PARTS}
    least = {part: min(row[part] for row in rows) for part in PARTS}
    fixed = [sum(v for part, v in row.items() if part not in WORK) for row in rows]
    table = [[PARTS[part], 1000 * parts[part], 1000 * least[part]] for part in PARTS]
    table.append(["whole run", *(1000 * f(sum(r.values()) for r in rows) for f in (median, min))])
    table.append(["fixed cost (all but the work)", 1000 * median(fixed), 1000 * min(fixed)])
    print(f"One run of 'source' on {arguments[3]} test images, {args.repeats} times")
    print(tabulate(table, ["part", "median ms", "least ms"], floatfmt=".1f"))

    repeats = max(3, args.repeats // 5)
    whole = median(sum(row.values()) for row in rows)
    fresh = [
        ["import torch", seconds([sys.executable, "-c", "import torch"], repeats)],
        ["the same prediction", seconds([sys.executable, "-c", FRESH, *arguments], repeats)],
    ]
    print("\nWith a new interpreter for each run instead")
    columns = ["what", "s", "times a whole run"]
    print(tabulate([[n, s, s / whole] for n, s in fresh], columns, floatfmt=("", ".2f", ".1f")))
    verdict = "within" if median(fixed) <= LIMIT else "OVER"
    print(
        f"\nfixed cost {1000 * median(fixed):.0f} ms: {verdict} the limit of {1000 * LIMIT:.0f} ms"
    )


if __name__ == "__main__":
    main()
