"""A suite's runs, beside the same number of runs as most code of this field does them.

    python performance/suite.py                  a sample: the runs of one task and seed
    python performance/suite.py --all            every run of the suite

Ours: ``htbench run`` in a new workspace and a new data folder, so that it also decodes the images,
with the source models that the manifest fixes. Peers': a new process for each run
(``performance/peer.py``), one after another with one thread per core, with loader processes and
without, or one per core side by side with one thread each. Their time is measured on a sample of
runs and multiplied. A run of a peer costs a prediction, and a method that trains a network as many
steps as it took here, each at the price of a step of fine-tuning. That is in the peers' favour: a
step of lwf costs more, and so does a head or an average of weights. To train a source model in each
run costs them more such steps.

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

import torch
from measure import Times, ratios, spread, table, take_turns
from torch.utils.flop_counter import FlopCounterMode

from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import load_suite, manifest_of
from benchmark.networks.build import build
from benchmark.records import RunRecord
from benchmark.sources.spec import SourceSpec, find_source

PEER = str(Path(__file__).with_name("peer.py"))
# Of suite icons. The others train nothing but a head on features, or start from finetune's weights.
TRAINING = ("finetune", "frozen-classifier", "lwf", "balanced-softmax", "oracle-finetune")
STEPS, SOURCE_STEPS = 200, 1200
OURS = "htbench run"


def htbench(*arguments: str | Path, data: Path) -> None:
    """Run a command, with a fork server that ends with it, so that its processor time counts."""
    env = os.environ | {"HTBENCH_WARM": "0", "HTBENCH_DATA": str(data)}
    command = [sys.executable, "-m", "htbench", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=env)


def run_suite(words: list[str], folder: Path, steps: list[float]) -> None:
    """Carry out runs in a new workspace and a new data folder; add the steps that they trained."""
    with tempfile.TemporaryDirectory(dir=folder) as new:
        run = ("run", "--suite", "icons", "--workspace", f"{new}/workspace", *words)
        htbench(*run, data=Path(new, "data"))
        records = [RunRecord.read(path) for path in Path(new).glob("workspace/runs/*")]
        steps.append(sum(r.cost["total_steps"] for r in records if r.method in TRAINING))


def peers(folder: Path, options: list[str], side_by_side: int) -> None:
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


def ways_of_peers() -> dict[str, tuple[list[str], int]]:
    """Options of a run, and how many run side by side, by name."""
    cores = os.cpu_count() or 1
    return {
        "one after another": ([], 1),
        f"with {cores} loader processes": (["--workers", str(cores)], 1),
        f"{cores} side by side": ([], cores),
    }


def of_suite(predict: Times, train: Times, side_by_side: int, runs: int, trainings: float) -> Times:
    """Times of a suite from those of runs that only predict, and of runs that also train."""

    def total(of_predict: list[float], of_train: list[float]) -> list[float]:
        pairs = zip(of_predict, of_train, strict=True)
        return [(runs * p + trainings * (t - p)) / side_by_side for p, t in pairs]

    return Times(total(predict.wall, train.wall), total(predict.cpu, train.cpu))


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
    parser.add_argument("--turns", type=int, default=2, help="of each way  [2]")
    args = parser.parse_args()
    suite = load_suite("icons")
    manifest = manifest_of(suite)
    tasks, seeds = (suite.tasks, suite.seeds) if args.all else (suite.tasks[:1], suite.seeds[:1])
    task = manifest.task(suite.tasks[0])
    words = [word for name in tasks for word in ("--task", name)]
    words += [word for seed in seeds for word in ("--seed", str(seed))]
    of_peers = ways_of_peers()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images, data = folder / "images", folder / "data"
        one = ("--task", task.id, "--seed", "0", "--method", "source")
        htbench("run", "--suite", "icons", "--workspace", folder / "workspace", *one, data=data)
        export = ("splits", "export", manifest.reference, "--task", task.id, "--out", images)
        htbench(*export, "--format", "imagefolder", data=data)
        os.environ["HTBENCH_DATA"] = str(data)
        checkpoint = find_source(SourceSpec.of(manifest, task.sources, "cpu", 0))
        assert checkpoint is not None
        weights = ["--weights", str(checkpoint.path)]
        speed = operations_per_second()
        counts: list[float] = []
        ways = {OURS: partial(run_suite, words, folder, counts)}
        for way, (options, side_by_side) in of_peers.items():
            for kind, steps in (("predict", 0), ("train", STEPS)):
                each = [*weights, "--steps", f"{steps}", *options]
                ways[f"{way}: {kind}"] = partial(peers, images, each, side_by_side)
        times = take_turns(ways, args.turns, warm=0)
    ours = times[OURS]
    cells = len(tasks) * len(seeds)
    runs, trainings = cells * len(suite.methods), median(counts) / STEPS
    rows = [[f"htbench run, {runs} runs", spread(ours.wall, 0), "1", spread(ours.cpu, 0), "1"]]
    least = []  # processor seconds of peers with a given source model
    for title, more in (("source model given", 0), ("trained", runs * SOURCE_STEPS / STEPS)):
        for way, (_, side_by_side) in of_peers.items():
            predict, train = times[f"{way}: predict"], times[f"{way}: train"]
            peer = of_suite(predict, train, side_by_side, runs, trainings + more)
            least += [median(peer.cpu)] * (not more)
            rows.append([f"peers, {title}, {way}"])
            for all_peer, all_ours in ((peer.wall, ours.wall), (peer.cpu, ours.cpu)):
                rows[-1] += [spread(all_peer, 0), spread(ratios(all_peer, all_ours), 1)]
    print(table(rows, ["the suite", "wall s", "times ours", "CPU s", "times ours"]))
    print(
        f"\n{cells} of {len(suite.tasks) * len(suite.seeds)} cells of {len(suite.methods)} methods,"
        f" {args.turns} turns. Times of peers are those of one run that predicts and of one that"
        f" trains for {STEPS} steps, multiplied: all runs together train for {median(counts):,.0f}"
        " steps. Wanted: at least 10 and 60 times the wall time of ours."
    )
    step = operations(manifest)
    seconds = median(counts) * step / speed
    print(
        f"\nA training step has {step / 1e9:.2f} billion floating-point operations. At the speed of"
        f" a product of large matrices, {speed / 1e9:.0f} billion a second on one thread, those of"
        f" these steps take {seconds:.0f} CPU s. If the suite did nothing else, peers"
        f" whose source model is given would take {min(least) / seconds:.1f} times as long."
    )


if __name__ == "__main__":
    main()
