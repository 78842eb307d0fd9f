"""How often the 95 % intervals of the board hold the true value, by simulation.

    python performance/coverage.py
    python performance/coverage.py --layout icons --repeats 500

A method has a true accuracy on each task. Groups of test samples shift it (standard deviation 0.5
in log-odds), and so do seeds (0.2); another method shares the groups' shifts, so that differences
vary less than accuracies. Each repeat draws groups, samples and seeds, and computes the intervals
as ``leaderboard/statistics.py`` does, of the mean over tasks and of the paired difference. Printed
is the share of repeats whose interval holds the true value, for three rules. Tasks have test sets
of their own, but for the layout ``icons``: that of the suite, where three of five tasks share the
one whose groups are fewest and most unequal.

    satterthwaite   the board's: variances added, Satterthwaite's degrees of freedom
    seeds           variances added, always the degrees of freedom of the seeds
    samples only    no variance over seeds, normal quantile
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from typing import NamedTuple

import numpy as np
from scipy.special import expit
from tabulate import tabulate

from benchmark.manifest.suite import load_suite, manifest_of
from leaderboard import statistics
from leaderboard.predictions import counted_samples
from leaderboard.statistics import Estimates

SEEDS = 3
SAMPLES = 300  # of each task
OF_GROUPS, OF_SEEDS, OF_DIFFERENCE = 0.5, 0.2, 0.15  # standard deviations in log-odds
LOGIT = (0.4, 0.6)  # of the two methods
# Number of tasks, groups of each task's test set, and the share of samples in the largest group.
LAYOUTS = (
    (3, 300, 0.0),
    (3, 30, 0.0),
    (3, 6, 0.0),
    (3, 6, 0.5),
    (6, 300, 0.0),
    (6, 30, 0.0),
    (6, 6, 0.0),
    (6, 6, 0.5),
    (40, 300, 0.0),
    (40, 30, 0.0),
    (40, 6, 0.0),
    (40, 6, 0.5),
)
DRAWS = 400  # bootstrap draws of a repeat


class Layout(NamedTuple):
    """The test sets of a suite.

    Attributes:
        tasks, groups, largest: what is printed of them.
        test_sets: of each, the sizes of its groups, and the number of tasks that share it.
    """

    tasks: int
    groups: str
    largest: str
    test_sets: list[tuple[np.ndarray, int]]


def layout(tasks: int, groups: int, largest: float) -> Layout:
    """Tasks with test sets of ``SAMPLES``, of equal groups but for the largest."""
    sizes = np.full(groups, SAMPLES // groups)
    if largest:
        sizes[1:] = round(SAMPLES * (1 - largest)) // (groups - 1)
        sizes[0] = SAMPLES - sizes[1:].sum()
    shown = f"{largest:.0%}" if largest else "equal"
    return Layout(tasks, str(groups), shown, [(sizes, 1)] * tasks)


def layout_of_icons() -> Layout:
    """The test sets of the suite ``icons``."""
    suite = load_suite("icons")
    manifest = manifest_of(suite)
    tasks = Counter(manifest.task(task).target for task in suite.tasks)
    of_target = {manifest.task(task).target: task for task in suite.tasks}
    sizes = {
        target: np.unique(counted_samples(manifest, task).groups, return_counts=True)[1]
        for target, task in of_target.items()
    }
    return Layout(
        len(suite.tasks),
        " / ".join(str(len(groups)) for groups in sizes.values()),
        " / ".join(f"{groups.max() / groups.sum():.0%}" for groups in sizes.values()),
        [(sizes[target], n) for target, n in tasks.items()],
    )


def truth() -> np.ndarray:
    """The true accuracy of both methods: over all groups, seeds and samples."""
    spread = math.hypot(OF_GROUPS, OF_SEEDS, OF_DIFFERENCE)
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    return np.array([(expit(m + spread * nodes) * weights).sum() / weights.sum() for m in LOGIT])


def one_repeat(layout: Layout, generator: np.random.Generator) -> tuple[Estimates, Estimates]:
    """The estimates of both methods, and those of their samples only."""
    of_seed = OF_SEEDS * generator.standard_normal((SEEDS, 2))  # a seed is the same on all tasks
    by_seed = np.zeros((SEEDS, 2))
    replicates = np.zeros((DRAWS, 2))
    for sizes, tasks in layout.test_sets:
        groups = np.repeat(np.arange(len(sizes)), sizes)
        shared = OF_GROUPS * generator.standard_normal(len(sizes))
        own = OF_DIFFERENCE * generator.standard_normal((len(sizes), 2))
        logits = np.array(LOGIT) + (shared[:, None] + own)[groups]
        chance = expit(logits[:, None, :] + of_seed)  # (N, seeds, methods)
        of_tasks = [generator.random(chance.shape) < chance for _ in range(tasks)]
        counts = statistics.draw_counts(len(sizes), DRAWS, int(generator.integers(1 << 31)))
        drawn = counts @ sizes
        for right in of_tasks:
            by_seed += right.mean(axis=0) / layout.tasks
            hits = counts @ statistics.sums_by_group(right.mean(axis=1), groups, len(sizes))
            replicates += (hits / drawn[:, None] - right.mean(axis=(0, 1))) / layout.tasks
    df = statistics.sample_degrees_of_freedom(
        [len(sizes) for sizes, _ in layout.test_sets], [tasks for _, tasks in layout.test_sets]
    )
    return (
        Estimates(by_seed, replicates.astype(np.float32), df),
        Estimates(by_seed.mean(axis=0, keepdims=True), replicates.astype(np.float32), np.inf),
    )


def coverage(layout: Layout, repeats: int) -> list[float]:
    """Coverage of the three rules in per cent, of means and of differences."""
    generator = np.random.default_rng(0)
    true = truth()
    held = np.zeros((3, 2))
    of_seeds = statistics.quantile(0.95, SEEDS - 1)
    for _ in range(repeats):
        full, samples = one_repeat(layout, generator)
        intervals = full.intervals()[0], full.difference(0, 1)
        rules = (
            [i.half for i in intervals],
            [i.half * of_seeds / statistics.quantile(0.95, i.df) for i in intervals],
            [samples.intervals()[0].half, samples.difference(0, 1).half],
        )
        off = (full.values[0] - true[0], full.values[0] - full.values[1] - (true[0] - true[1]))
        held += [[abs(o) <= h for o, h in zip(off, halves, strict=True)] for halves in rules]
    per_cent: list[float] = (100 * held.T.ravel() / repeats).tolist()
    return per_cent


def main() -> None:
    """Print one row per layout."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--layout", choices=["all", "icons"], default="all")
    args = parser.parse_args()
    layouts = [layout(*numbers) for numbers in LAYOUTS] if args.layout == "all" else []
    rows = [
        [one.tasks, one.groups, one.largest, *(f"{v:.1f}" for v in coverage(one, args.repeats))]
        for one in (*layouts, layout_of_icons())
    ]
    rules = ("satterthwaite", "seeds", "samples only")
    headers = ["tasks", "groups", "largest"]
    headers += [f"{what}: {rule}" for what in ("mean", "difference") for rule in rules]
    print(f"{args.repeats} repeats, {SEEDS} seeds")
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
