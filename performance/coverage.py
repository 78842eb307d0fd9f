"""How often the 95 % intervals of the board hold the true value, by simulation.

    python performance/coverage.py [--repeats N]

A method has a true accuracy on each task. Groups of test samples shift it (standard deviation 0.5
in log-odds), and so do seeds (0.2); another method shares the groups' shifts, so that differences
vary less than accuracies. Each repeat draws groups, samples and seeds, and computes the intervals
as ``leaderboard/statistics.py`` does, of the mean over tasks and of the paired difference. Printed
is the share of repeats whose interval holds the true value, for three rules:

    satterthwaite   the board's: variances added, Satterthwaite's degrees of freedom
    seeds           variances added, always the degrees of freedom of the seeds
    samples only    no variance over seeds, normal quantile
"""

from __future__ import annotations

import argparse
import math

import numpy as np
from scipy.special import expit
from tabulate import tabulate

from leaderboard import statistics
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


def group_sizes(groups: int, largest: float) -> np.ndarray:
    """(groups,) sizes that sum to ``SAMPLES``; equal but for the largest group."""
    if not largest:
        return np.full(groups, SAMPLES // groups)
    rest = round(SAMPLES * (1 - largest)) // (groups - 1)
    return np.array([SAMPLES - rest * (groups - 1), *[rest] * (groups - 1)])


def truth() -> np.ndarray:
    """The true accuracy of both methods: over all groups, seeds and samples."""
    spread = math.hypot(OF_GROUPS, OF_SEEDS, OF_DIFFERENCE)
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    return np.array([(expit(m + spread * nodes) * weights).sum() / weights.sum() for m in LOGIT])


def one_repeat(
    tasks: int, sizes: np.ndarray, generator: np.random.Generator
) -> tuple[Estimates, Estimates]:
    """The estimates of both methods, and those of their samples only."""
    groups = np.repeat(np.arange(len(sizes)), sizes)
    of_seed = OF_SEEDS * generator.standard_normal((SEEDS, 2))  # a seed is the same on all tasks
    by_seed = np.zeros((SEEDS, 2))
    replicates = np.zeros((DRAWS, 2))
    for _ in range(tasks):
        shared = OF_GROUPS * generator.standard_normal(len(sizes))
        own = OF_DIFFERENCE * generator.standard_normal((len(sizes), 2))
        logits = np.array(LOGIT) + (shared[:, None] + own)[groups]
        chance = expit(logits[:, None, :] + of_seed)  # (N, seeds, methods)
        right = generator.random(chance.shape) < chance
        by_seed += right.mean(axis=0) / tasks
        counts = statistics.draw_counts(len(sizes), DRAWS, int(generator.integers(1 << 31)))
        hits = counts @ statistics.sums_by_group(right.mean(axis=1), groups, len(sizes))
        drawn = counts @ sizes
        replicates += (hits / drawn[:, None] - right.mean(axis=(0, 1))) / tasks
    df = statistics.sample_degrees_of_freedom([len(sizes)] * tasks, [1.0] * tasks)
    return (
        Estimates(by_seed, replicates.astype(np.float32), df),
        Estimates(by_seed.mean(axis=0, keepdims=True), replicates.astype(np.float32), np.inf),
    )


def coverage(tasks: int, groups: int, largest: float, repeats: int) -> list[float]:
    """Coverage of the three rules in per cent, of means and of differences."""
    generator = np.random.default_rng(0)
    sizes = group_sizes(groups, largest)
    true = truth()
    held = np.zeros((3, 2))
    of_seeds = statistics.quantile(0.95, SEEDS - 1)
    for _ in range(repeats):
        full, samples = one_repeat(tasks, sizes, generator)
        intervals = full.intervals()[0], full.difference(0, 1)
        rules = (
            [i.half for i in intervals],
            [i.half * of_seeds / statistics.quantile(0.95, i.df) for i in intervals],
            [samples.intervals()[0].half, samples.difference(0, 1).half],
        )
        off = (full.values[0] - true[0], full.values[0] - full.values[1] - (true[0] - true[1]))
        held += [[abs(o) <= h for o, h in zip(off, halves, strict=True)] for halves in rules]
    return (100 * held.T.ravel() / repeats).tolist()


def main() -> None:
    """Print one row per layout."""
    parser = argparse.ArgumentParser(description="Coverage of the board's 95 % intervals.")
    parser.add_argument("--repeats", type=int, default=2000)
    repeats = parser.parse_args().repeats
    rows = [
        [tasks, groups, f"{largest:.0%}" if largest else "equal"]
        + [f"{value:.1f}" for value in coverage(tasks, groups, largest, repeats)]
        for tasks, groups, largest in LAYOUTS
    ]
    rules = ("satterthwaite", "seeds", "samples only")
    headers = ["tasks", "groups", "largest"]
    headers += [f"{what}: {rule}" for what in ("mean", "difference") for rule in rules]
    print(f"{repeats} repeats, {SAMPLES} samples a task, {SEEDS} seeds")
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
