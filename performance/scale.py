"""The whole DomainNet grid on 1, 8 and 64 GPUs, simulated, and a board of 10,000 methods, measured.

    python performance/scale.py      about seven minutes, most of them for replay.py

Plans all runs of the suite, splits them with the code of ``htbench run --shard``, and adds up the
estimated seconds of each shard. Nothing is trained: seconds are those of published speeds, and what
else goes into them is listed in the report. Writes performance/SCALE.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import numpy as np
from board import many_rows, many_tasks
from measure import machine, table
from schedules import makespan, pulled

from benchmark.driver import plan_suite
from benchmark.gpu_hours import PUBLISHED, PublishedSpeed, images_of_source
from benchmark.images.store import jpeg
from benchmark.images.store.tensors import ON_DEVICE
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import load_suite
from benchmark.runs.plan import PlannedRun
from benchmark.runs.shards import STEP, split, work
from benchmark.runs.workspace import Workspace
from leaderboard.board import MEAN, build_boards
from leaderboard.gamma_star import DERIVED
from leaderboard.published import relative_costs
from leaderboard.render.markdown import board_table

REPORT = Path(__file__).parent / "SCALE.md"
SUITE = "domainnet"
GPUS = (1, 8, 64)
# Seconds of a run for its process and CUDA context: in performance/GPU.md, a run of ResNet-50 took
# 12.8 s, of which 11.2 to adapt and 1.1 to predict.
FIXED = 0.5
IMAGE = 50_000  # bytes of a stored JPEG image, see benchmark/images/store/jpeg.py
MEMORY = {"V100 16 GB": 16e9, "A100 80 GB": 80e9}  # bytes of the cards with published speeds
WEIGHTS = 94_000_000  # bytes of ResNet-50's
ID = 40  # bytes of an image's id in a file of predictions
NOISE = 0.2  # how far estimates of methods are off, as a standard deviation of logarithms
DRAWS = 20


def decode_seconds() -> float:
    """Median seconds of decoding a stored image on one thread of this machine."""
    random = np.random.default_rng(0)
    smooth = np.kron(random.integers(0, 256, (3, 32, 32)), np.ones((1, 8, 8)))
    grain = random.integers(-8, 9, smooth.shape)
    data = jpeg.encode((smooth + grain).clip(0, 255).astype(np.uint8))
    seconds = []
    for _ in range(200):
        start = time.perf_counter()
        jpeg.decode(data, 256, 0)
        seconds.append(time.perf_counter() - start)
    return median(seconds)


class Estimator:
    """Seconds and bytes of runs.

    Args:
        manifest: of the runs.
        speed: of training.
        decode: seconds of reading an image.
        costs: of methods, see ``benchmark/runs/shards.py``.
    """

    def __init__(
        self, manifest: Manifest, speed: PublishedSpeed, decode: float, costs: Mapping[str, float]
    ) -> None:
        self._manifest, self._speed, self._decode, self._costs = manifest, speed, decode, costs
        self._images: dict[str, tuple[int, int]] = {}

    def images(self, cell: PlannedRun) -> tuple[int, int]:
        """How many training images a run reads and decodes, and how many test images."""
        task = cell.task
        if task.id not in self._images:
            train = self._manifest.samples(task.target, "train")
            seen = int(self._manifest.seen_mask(task)[train.labels].sum())
            tests = len(self._manifest.samples(task.target, "test").ids)
            self._images[task.id] = seen, tests
        seen, tests = self._images[task.id]
        recipe = self._manifest.recipe
        steps = recipe["steps"] * self._costs.get(cell.method.name, 1.0)
        return self._reads(seen, steps * recipe["batch_size"]), tests

    def _reads(self, images: int, trained: float) -> int:
        """Each image once if all of them fit on the card beside the network, else each time."""
        size = images * 3 * self._manifest.image_size**2
        fits = size <= ON_DEVICE * MEMORY[self._speed.card]
        return min(images, round(trained)) if fits else round(trained)

    def seconds(self, cell: PlannedRun) -> float:
        """Seconds of a run: training and predicting, reading images, and what is fixed."""
        images = work(self._manifest, cell.task, cell.method.name, self._costs) / STEP
        return (
            images / self._speed.images_per_second + sum(self.images(cell)) * self._decode + FIXED
        )

    def source_seconds(self, domain: str) -> float:
        """Seconds of training a source model."""
        trained = images_of_source(self._manifest)
        reads = self._reads(len(self._manifest.samples(domain, "train").ids), trained)
        return trained / self._speed.images_per_second + reads * self._decode

    def stored(self, cells: Sequence[PlannedRun]) -> tuple[int, int]:
        """Bytes of predictions, and of the weights that other runs start from."""
        classes = len(self._manifest.classes)
        predictions = sum(self.images(cell)[1] * (4 * classes + ID) for cell in cells)
        bases = {id(cell.base) for cell in cells if cell.base}
        return predictions, len(bases) * WEIGHTS


def chains(cells: Sequence[PlannedRun], seconds: Mapping[int, float]) -> dict[int, float]:
    """The seconds of each run without a base, together with the runs that start from it."""
    lengths: dict[int, float] = {}
    first: dict[int, int] = {}
    for cell in cells:
        root = first.setdefault(id(cell), id(cell) if cell.base is None else first[id(cell.base)])
        lengths[root] = lengths.get(root, 0.0) + seconds[id(cell)]
    return lengths


def off_by_noise(
    cells: Sequence[PlannedRun], seconds: Mapping[int, float], random: np.random.Generator
) -> dict[int, float]:
    """The seconds if the estimate of each method is off by some factor."""
    names = sorted({cell.method.name for cell in cells})
    factors = dict(zip(names, np.exp(random.normal(0, NOISE, len(names))), strict=True))
    return {id(cell): seconds[id(cell)] * factors[cell.method.name] for cell in cells}


def grid_rows(cells: Sequence[PlannedRun], estimate: Estimator, name: str) -> list[list[str]]:
    """One row for each number of GPUs."""
    seconds = {id(cell): estimate.seconds(cell) for cell in cells}
    domains = sorted({domain for cell in cells for domain in cell.task.sources})
    each_source = [estimate.source_seconds(domain) for domain in domains]
    total, costs = sum(seconds.values()), relative_costs()
    bytes_read = sum(sum(estimate.images(cell)) for cell in cells) * IMAGE
    expected = chains(cells, seconds)
    rows = []
    for gpus in GPUS:
        parts = split(cells, gpus, costs)
        random = np.random.default_rng(0)
        noisy = [off_by_noise(cells, seconds, random) for _ in range(DRAWS)]
        keys = [[id(cell) for cell in part] for part in parts]
        off = [makespan(keys, each) / (sum(each.values()) / gpus) for each in noisy]
        actual = [chains(cells, each) for each in noisy]
        pull = [
            [pulled([a[c] for c in order], gpus) / (sum(a.values()) / gpus) for a in actual]
            for order in (list(expected), sorted(expected, key=lambda c: -expected[c]))
        ]
        sources = sum(each_source) if gpus == 1 else max(each_source)
        longest = makespan(keys, seconds)
        wall = sources + longest
        rows.append(
            [
                name,
                str(gpus),
                f"{sources / 3600:.2f}",
                f"{wall / 3600:.1f}",
                f"{(sum(each_source) + total) / gpus / 3600:.1f}",
                f"{longest / (total / gpus):.3f}",
                f"{median(off):.2f} ({max(off):.2f})",
                *(f"{median(way):.2f} ({max(way):.2f})" for way in pull),
                f"{bytes_read / wall / 1e6:.0f}",
            ]
        )
    return rows


def board_of(methods: int, tasks: int, seeds: int) -> str:
    """Build and render a board of many methods, and say what it took."""
    suite, manifest = many_tasks(tasks)
    suite = dataclasses.replace(suite, seeds=tuple(range(seeds)))
    rows = many_rows(manifest, suite, methods, 1)
    start, cpu = time.perf_counter(), time.process_time()
    (board,) = build_boards(suite, manifest, rows)
    text = board_table(board, MEAN)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return (
        f"{methods:,} methods, {tasks} tasks and {seeds} seeds are {rows.num_rows:,} rows. From "
        f"their scores to the table of means, of {text.count(chr(10)):,} lines: {seconds:.1f} s, "
        f"of which {cpu:.1f} s of processor time, and {peak:.1f} GiB at most."
    )


def replayed() -> str:
    """What ``replay.py`` prints."""
    script = [sys.executable, str(Path(__file__).with_name("replay.py"))]
    return subprocess.run(script, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def main() -> None:
    """Simulate, measure, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", type=int, default=10_000, help="of the board")
    args = parser.parse_args()
    about, costs, decode = machine(), relative_costs(), decode_seconds()
    with (
        tempfile.TemporaryDirectory() as folder,
        plan_suite(
            load_suite(SUITE),
            Workspace(Path(folder)),
            device="cuda",
            derived=DERIVED,
            elsewhere=True,
        ) as plan,
    ):
        cells, manifest = plan.cells, plan.manifest
    rows, reads, speeds = [], [], PUBLISHED[:2]
    for speed in speeds:
        estimate = Estimator(manifest, speed, decode, costs)
        rows += grid_rows(cells, estimate, speed.name)
        reads.append(sum(sum(estimate.images(cell)) for cell in cells))
    predictions, weights = estimate.stored(cells)
    training = sum(work(manifest, cell.task, cell.method.name, costs) / STEP for cell in cells)
    headers = [
        "speed of",
        "GPUs",
        "sources, h",
        "wall, h",
        "ideal, h",
        "longest shard / mean",
        "the same, estimates off",
        "pulled in plan order",
        "pulled, longest first",
        "MB/s read",
    ]
    share = [
        read * decode / (training / speed.images_per_second + read * decode)
        for read, speed in zip(reads, speeds, strict=True)
    ]
    REPORT.write_text(
        TEXT.format(
            about=about,
            day=datetime.now(UTC).date(),
            runs=len(cells),
            grid=table(rows, headers),
            replay=replayed(),
            fixed=f"{FIXED:g}",
            decode=f"{1000 * decode:.2f}",
            kilobytes=IMAGE // 1000,
            noise=f"{NOISE:g}",
            draws=DRAWS,
            read=" and ".join(f"{read * IMAGE / 1e12:.1f}" for read in reads),
            images=" and ".join(f"{read / 1e6:.0f}" for read in reads),
            share=" and ".join(f"{100 * s:.0f} %" for s in share),
            step=f"{1000 * decode * manifest.recipe['batch_size']:.0f}",
            training=" and ".join(
                f"{1000 * manifest.recipe['batch_size'] / each.images_per_second:.0f}"
                for each in speeds
            ),
            predictions=f"{predictions / 1e9:.0f}",
            weights=f"{weights / 1e9:.1f}",
            board=board_of(args.methods, len(load_suite(SUITE).tasks), 3),
        ),
        "utf-8",
    )
    print(REPORT.read_text("utf-8"))


TEXT = """# At scale

Written by `python performance/scale.py`, {day}. {about}.

**Hours are simulated, not measured.** They add up the seconds of the {runs} runs of the suite
`domainnet` (every method, task and seed): training and predicting at the published speeds of
ResNet-50 that [docs/gpu.md](../docs/gpu.md) names, with methods relative to `finetune` as in the
published results; each image read and decoded on one thread in {decode} ms (measured here
on a generated image), once per run where the card has memory to keep the images; and {fixed} s for
the process and its CUDA context, as a run of ResNet-50 took on an H200 ([GPU.md](GPU.md)). Shards
are those of `htbench run --shard`. The rules of the schedule are checked below.

{grid}

- **sources**: the two source models train first, each on one GPU.
- **wall**: with the sources, until the last shard ends. **ideal**: all seconds, divided by the
  GPUs.
- **longest shard / mean**: 1 is perfect balance. The split knows steps and test images, not
  decoding.
- **the same, estimates off**: the time of each method differs from its estimate by a random
  factor, whose logarithm has a standard deviation of {noise}; the median of {draws} draws, and the
  largest. **pulled**: the same if an idle GPU takes the next chain of runs that start from each
  other, instead of a fixed shard: in the order of the plan, or those first that should take
  longest.
- **MB/s read**: from the image store, by all GPUs together, on average.

## The schedule, checked on this machine

`python performance/replay.py`:

{replay}

## Bytes

All runs together read {images} million images with the two cards, {read} TB at {kilobytes} KB
each, and keep {predictions} GB of predictions (float32, before compression) and {weights} GB of
weights that other runs start from.

## Where the bottleneck is

- On one GPU, training: reading images takes {share} of the time with the two cards. The larger
  card keeps what a run has read; the smaller one has no room, and decoding a batch takes {step} ms
  of one thread beside {training} ms of training at the two speeds.
- On 64 GPUs, balance: the longest shard, and the source models, which do not get faster. A
  scheduler from which idle GPUs pull has to start the longest chains first.
- Not the image store, with a card that keeps the images: see the column of MB/s.

## The board of many methods

{board} Time and memory grow with the square of the number of methods, because ranks compare all
pairs of them.
"""


if __name__ == "__main__":
    main()
