"""A suite's runs, beside the same number of runs as most code of this field does them.

    python performance/suite.py                  a sample: the runs of one task and seed
    python performance/suite.py --all            every run of the suite

Ours: ``htbench run`` in a new workspace and a new data folder, so that it also decodes the images,
with the source models that the manifest fixes. Peers': a new process for each run
(``performance/peer.py``), one after another with the best number of loader processes and one thread
per core, or one per core side by side with one thread each, whichever is faster. Their time is
measured on a sample of runs and multiplied: a method that trains a network counts as a run of
fine-tuning, and any other as a prediction only. That is in the peers' favour: lwf costs more, and
so does a head or an average of weights. To train a source model in each run costs them more steps,
each at the price of a step of fine-tuning.

The last line is a bound: what the arithmetic of the training steps alone takes, at the speed that
the processor reaches in a product of large matrices.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import median
from time import process_time
from typing import NamedTuple

import torch
from measure import Times, spread, table, take_turns
from torch.utils.flop_counter import FlopCounterMode

from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import load_suite, manifest_of
from benchmark.networks.build import build
from benchmark.sources.spec import SourceSpec, find_source

PEER = str(Path(__file__).with_name("peer.py"))
# Of suite icons. The others train nothing but a head on features, or start from finetune's weights.
TRAINING = ("finetune", "frozen-classifier", "lwf", "balanced-softmax", "oracle-finetune")
STEPS, SOURCE_STEPS = 200, 1200


def htbench(*arguments: str | Path, data: Path) -> None:
    """Run a command, with a fork server that ends with it, so that its processor time counts."""
    env = os.environ | {"HTBENCH_WARM": "0", "HTBENCH_DATA": str(data)}
    command = [sys.executable, "-m", "htbench", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=env)


def peers(folder: Path, options: list[str], side_by_side: int = 1) -> None:
    """Carry out runs of peers at the same time."""
    threads = str((os.cpu_count() or 1) // side_by_side or 1)
    command = [sys.executable, PEER, str(folder), *options]
    runs = [
        subprocess.Popen(
            command, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": threads}
        )
        for _ in range(side_by_side)
    ]
    assert not any(run.wait() for run in runs)


class Fastest(NamedTuple):
    """The fastest way to run a peer."""

    name: str
    times: Times
    side_by_side: int

    @property
    def wall(self) -> float:
        """Seconds of one run."""
        return median(self.times.wall) / self.side_by_side

    @property
    def cpu(self) -> float:
        """Processor seconds of one run."""
        return median(self.times.cpu) / self.side_by_side


def fastest(folder: Path, options: list[str], turns: int) -> Fastest:
    """Time the ways to run a peer."""
    cores = os.cpu_count() or 1
    ways: dict[str, tuple[list[str], int]] = {
        f"{workers} loader processes": ([*options, "--workers", str(workers)], 1)
        for workers in (0, cores)
    }
    ways[f"{cores} runs side by side"] = (options, cores)
    times = take_turns(
        {name: partial(peers, folder, *way) for name, way in ways.items()}, turns, warm=0
    )
    every = [Fastest(name, times[name], ways[name][1]) for name in ways]
    return min(every, key=lambda way: way.wall)


def operations(manifest: Manifest) -> int:
    """Floating-point operations of one step of fine-tuning, a multiply-add counted as two."""
    size, batch = manifest.image_size, manifest.recipe["batch_size"]
    network = build(manifest.model, len(manifest.classes), size).train()
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(batch, 3, size, size)).sum().backward()
    return int(counter.get_total_flops())


def operations_per_second() -> float:
    """The same of a product of square matrices on one thread, in its fastest turn."""
    size = 1024
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    matrix = torch.rand(size, size)
    seconds = []
    for _ in range(20):
        start = process_time()
        matrix @ matrix
        seconds.append(process_time() - start)
    torch.set_num_threads(threads)
    return float(2 * size**3 / min(seconds))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--all", action="store_true", help="every task and seed")
    parser.add_argument("--turns", type=int, default=2, help="of each way to run a peer")
    args = parser.parse_args()
    suite = load_suite("icons")
    manifest = manifest_of(suite)
    tasks, seeds = (suite.tasks, suite.seeds) if args.all else (suite.tasks[:1], suite.seeds[:1])
    cells = len(tasks) * len(seeds)
    training = sum(method in TRAINING for method in suite.methods)
    ours = Times()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words = [w for task in tasks for w in ("--task", task)]
        words += [w for seed in seeds for w in ("--seed", str(seed))]
        run = ["run", "--suite", "icons", "--workspace", str(folder / "workspace"), *words]
        ours.time(lambda: htbench(*run, data=folder / "data"))
        task = manifest.task(suite.tasks[0])
        images = folder / "images"
        export = ("splits", "export", manifest.reference, "--task", task.id, "--out", images)
        htbench(*export, "--format", "imagefolder", data=folder / "data")
        checkpoint = find_source(SourceSpec.of(manifest, task.sources, "cpu", 0))
        assert checkpoint is not None
        weights = ["--weights", str(checkpoint.path)]
        speed = operations_per_second()
        train = fastest(images, [*weights, "--steps", str(STEPS)], args.turns)
        predict = fastest(images, weights, args.turns)
    rows = [
        [name, way.name, spread(way.times.wall), f"{way.wall:.1f}", f"{way.cpu:.1f}"]
        for name, way in (("train and predict", train), ("predict", predict))
    ]
    headers = ["one run of a peer", "fastest way", "wall s", "of one run", "CPU s of one run"]
    print(table(rows, headers))
    runs = cells * len(suite.methods)
    wall, cpu = median(ours.wall), median(ours.cpu)
    rows = [[f"htbench run, {runs} runs", f"{wall:.0f}", "1", f"{cpu:.0f}", "1"]]
    source = SOURCE_STEPS / STEPS
    peers_cpu = []
    for title, more in (
        ("peers, source model given", 0.0),
        ("peers, source model trained in each run", runs * source),
    ):
        trainings = cells * training + more
        of_wall = runs * predict.wall + trainings * (train.wall - predict.wall)
        of_cpu = runs * predict.cpu + trainings * (train.cpu - predict.cpu)
        peers_cpu.append(of_cpu)
        rows.append([title, f"{of_wall:.0f}", f"{of_wall / wall:.1f}"])
        rows[-1] += [f"{of_cpu:.0f}", f"{of_cpu / cpu:.1f}"]
    print(f"\n{table(rows, ['the suite', 'wall s', 'times ours', 'CPU s', 'times ours'])}")
    print(
        f"\n{cells} of {len(suite.tasks) * len(suite.seeds)} cells of {len(suite.methods)} methods,"
        f" {training} of which train. Times of peers are extrapolated from {args.turns} turns of"
        " each way. Wanted: at least 10 and 60 times the wall time of ours."
    )
    step = operations(manifest)
    least = cells * training * STEPS * step / speed
    print(
        f"\nA training step has {step / 1e9:.2f} billion floating-point operations. At the speed of"
        f" a product of large matrices, {speed / 1e9:.0f} billion a second on one thread, those of"
        f" {cells * training} trainings take {least:.0f} CPU s. If the suite did nothing else, the"
        f" first ratio of CPU s would be {peers_cpu[0] / least:.1f}."
    )


if __name__ == "__main__":
    main()
