"""The fixed cost of a run: from the fork to the result, for a method that trains nothing.

    python performance/fixed_cost.py
    python performance/fixed_cost.py --repeats 30 --networks convnet resnet50

Runs the method ``source`` on icons with many seeds, one after another, with each network, in a
temporary workspace. The first run is not counted: the fork server imports the network's library
then, once per command. Source models of other networks than icons' own are trained for one step,
which does not change what a run costs. For comparison, it times a new interpreter for each run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, NamedTuple

from measure import spread, table, take_turns

from benchmark.driver import open_stores, ready_sources, target_needs
from benchmark.executors.local import LocalExecutor, slots
from benchmark.images.store.store import DomainStore
from benchmark.isolation.client import Child, Exit
from benchmark.manifest.catalogue import load_manifest
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import load_suite
from benchmark.methods.resolve import resolve
from benchmark.networks.names import OWN
from benchmark.progress import Silent
from benchmark.runs.plan import RunSpec, grid, with_sources
from benchmark.runs.workspace import Workspace
from benchmark.session import Session

WANTED = 100  # ms, at most
NETWORKS = ("convnet", "resnet18", "mobilenet_v2", "timm/resnet10t")
PARTS = {  # a part ends with the message of this key
    "locked": "fork, open images and weights, enter the sandbox",
    "adapted": "import the method, and adapt (nothing)",
    "done": "predict, and check batch independence (work)",
    "ended": "end of the process",
    "left": "check, write and digest the result",
}
WORK = "done"

# A run in a new interpreter; the images are opened before, as for a child.
FRESH = """
import sys, json, torch, safetensors.torch
from benchmark.images.augment import Transforms
from benchmark.images.store.tensors import map_images
from benchmark.networks.build import build
from benchmark.manifest.catalogue import load_manifest
torch.set_num_threads(1)
document = load_manifest("icons@2.0").document
model = build(json.loads(sys.argv[1]), len(document["classes"]))
model.load_state_dict(safetensors.torch.load_file(sys.argv[2]))
with open(sys.argv[3], "rb") as file:
    images = map_images(file.fileno(), int(sys.argv[4]), document["image_size"])
transforms = Transforms(document["transforms"])
with torch.inference_mode():
    model.eval()
    torch.cat([model(transforms.evaluate(part)) for part in images.split(256)])
"""


class Clock:
    """Records when a child's messages arrive, by their keys, and its processor time until then."""

    def __init__(self) -> None:
        self.times: dict[str, float] = {}
        self.cpu: dict[str, float] = {}
        self._child = 0.0
        self._receive, self._finish = Child.receive, Child.finish

    def __enter__(self) -> Clock:
        clock = self

        def receive(child: Child) -> dict[str, Any] | None:
            message = clock._receive(child)
            clock.times.update(dict.fromkeys(message or (), perf_counter()))
            with contextlib.suppress(KeyError, FileNotFoundError):  # it may have ended
                clock._child = child_seconds(child._server.pids[child._job])
            clock.cpu.update(dict.fromkeys(message or (), process_time() + clock._child))
            return message

        def finish(child: Child) -> Exit:
            outcome = clock._finish(child)
            clock.times["ended"] = perf_counter()
            return outcome

        Child.receive, Child.finish = receive, finish  # type: ignore[method-assign, assignment]
        return self

    def __exit__(self, *_: object) -> None:
        Child.receive, Child.finish = self._receive, self._finish  # type: ignore[method-assign]

    def parts(self, start: float, end: float) -> dict[str, float]:
        """Return the duration of each part of a run, in seconds."""
        times = [start, *(self.times[part] for part in [*PARTS][:-1]), end]
        return dict(zip(PARTS, (b - a for a, b in pairwise(times)), strict=True))


def child_seconds(pid: int) -> float:
    """Processor seconds of the first thread of a process; it computes in no other."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def all_seconds(server: int) -> float:
    """Processor seconds of this process, of the fork server and of its ended children."""
    fields = Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()
    return process_time() + sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


class Measured(NamedTuple):
    """What many runs with a network took, in seconds.

    Attributes:
        rows: each part of each run.
        cpu: processor time of one run without its work, on average.
        again: the same prediction in a new interpreter.
    """

    rows: list[dict[str, float]]
    cpu: float
    again: Callable[[], object]

    @property
    def fixed(self) -> list[float]:
        """All but the work of each run."""
        return [sum(row.values()) - row[WORK] for row in self.rows]


def with_network(name: str) -> Manifest:
    """Icons with a network, for others than its own with one step of training a source model."""
    manifest = load_manifest("icons@2.0")
    if name == OWN:
        return manifest
    source = {k: v for k, v in manifest.document["source"].items() if k != "checkpoints"}
    document = {**manifest.document, "source": {**source, "steps": 1}}
    return replace(manifest, document=document).with_model({"name": name})


def measure(name: str, repeats: int) -> Measured:
    """Carry out many runs with a network."""
    manifest, task = with_network(name), load_suite("icons").tasks[0]
    with (
        tempfile.TemporaryDirectory() as folder,
        Session(never=[Path(folder), manifest.root]) as session,
        Workspace(Path(folder)) as workspace,
    ):
        methods = resolve(["source"], [], session.describe)
        cells = grid(manifest, [task], methods, range(repeats + 1), "cpu", {})
        specs = {cell.source.key: cell.source for cell in cells}
        sources = ready_sources(session, [*specs.values()], workspace, slots("cpu"), Silent())
        stores = open_stores(manifest, target_needs(cells), Silent())
        executor = LocalExecutor(session.server, workspace, 1, Silent())
        runs = list(with_sources(cells, sources))
        one(executor, runs[0], stores)  # caches are cold, and the library is imported
        server = session.server._process.pid
        start = all_seconds(server)
        rows, work = zip(*(one(executor, run, stores) for run in runs[1:]), strict=True)
        cpu = all_seconds(server) - start - sum(work)
    store = stores[cells[0].task.target]
    files = (runs[0].source.path, store.test_file, len(store.test_ids))
    command = [sys.executable, "-c", FRESH, json.dumps(dict(manifest.model)), *map(str, files)]
    return Measured([*rows], cpu / repeats, partial(subprocess.run, command, check=True))


def one(
    executor: LocalExecutor, run: RunSpec, stores: dict[str, DomainStore]
) -> tuple[dict[str, float], float]:
    """Seconds of each part of one run, and processor seconds of its work."""
    with Clock() as clock:
        start = perf_counter()
        (record,) = executor.execute([run], stores)
        end = perf_counter()
    assert record.status == "ok", record.error
    return clock.parts(start, end), clock.cpu["done"] - clock.cpu["adapted"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--repeats", type=int, default=20, help="runs with each network")
    parser.add_argument("--turns", type=int, default=3, help="of new interpreters")
    args = parser.parse_args()
    networks = [n for n in args.networks if not n.startswith("timm/") or find_spec("timm")]
    with tempfile.TemporaryDirectory() as data:
        os.environ["HTBENCH_DATA"] = data
        measured = {name: measure(name, args.repeats) for name in networks}
        torch = partial(subprocess.run, [sys.executable, "-c", "import torch"], check=True)
        fresh = take_turns(
            {"import torch": torch} | {name: runs.again for name, runs in measured.items()},
            args.turns,
        )
    rows = []
    for part, what in PARTS.items():
        rows.append([what, *(in_ms([row[part] for row in r.rows]) for r in measured.values())])
    rows.append(["fixed cost: all but the work", *(in_ms(r.fixed) for r in measured.values())])
    rows.append(["its processor time", *(in_ms([r.cpu]) for r in measured.values())])
    print(table(rows, ["part of a run, wall ms", *networks]))
    rows = [
        [f"the same prediction, {name}" if name in measured else name, in_ms(t.wall), in_ms(t.cpu)]
        for name, t in fresh.items()
    ]
    print(f"\n{table(rows, ['a new interpreter', 'wall ms', 'CPU ms'])}")
    print(
        f"\n{args.repeats} runs of the method source with each network, {args.turns} new"
        f" interpreters. Wanted: a fixed cost of at most {WANTED} ms."
    )


def in_ms(seconds: list[float]) -> str:
    """Median and range in milliseconds."""
    return spread([1000 * s for s in seconds], 0)


if __name__ == "__main__":
    main()
