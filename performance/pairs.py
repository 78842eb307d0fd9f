"""The time of all paired tests of many methods, beside a loop of scipy's bootstrap over pairs.

    python performance/pairs.py
    python performance/pairs.py --methods 50 --tasks 3

Outcomes of 1,300 test images in 60 groups are random. This suite's tests are timed as the board
computes them: the hits of every method in 2,000 draws of the groups, the covariances over draws and
seeds, p-values, Holm's correction and ranks. The loop is timed on a few pairs of one task; its time
for all pairs and tasks is extrapolated.
"""

from __future__ import annotations

import argparse

import numpy as np
from measure import spread, table, take_turns
from scipy.stats import bootstrap

from leaderboard import statistics
from leaderboard.statistics import DRAWS, Estimates, Ranking

IMAGES, GROUPS, SEEDS = 1300, 60, 3
LOOP_PAIRS = 5


def ours(right: np.ndarray, groups: np.ndarray) -> Ranking:
    """Rank methods by their mean over tasks.

    Args:
        right: (tasks, seeds, N, M) bool.
        groups: (N,) group of each image.
    """
    tasks, methods = len(right), right.shape[-1]
    sizes = np.bincount(groups, minlength=GROUPS)
    replicates = np.zeros((DRAWS, methods))
    for task, of_task in enumerate(right):
        counts = statistics.draw_counts(GROUPS, DRAWS, task).astype(np.float64)
        means = of_task.mean(axis=0)
        hits = counts @ statistics.sums_by_group(means, groups, GROUPS)
        replicates += (hits / (counts @ sizes)[:, None] - means.mean(axis=0)) / tasks
    df = statistics.sample_degrees_of_freedom([GROUPS] * tasks, [1.0] * tasks)
    by_seed = right.mean(axis=(0, 2))
    return statistics.rank(Estimates(by_seed, replicates.astype(np.float32), df))


def loop(right: np.ndarray, groups: np.ndarray) -> None:
    """Bootstrap the paired difference of some pairs of one task by groups, pair by pair."""
    means = right[0].mean(axis=0)
    for j in range(1, LOOP_PAIRS + 1):
        gains = np.bincount(groups, means[:, 0] - means[:, j], minlength=GROUPS)
        bootstrap((gains,), np.mean, n_resamples=DRAWS, method="percentile", rng=0)


def main() -> None:
    """Time both ways and print a table."""
    parser = argparse.ArgumentParser(description="Time the paired tests of many methods.")
    parser.add_argument("--methods", type=int, default=200)
    parser.add_argument("--tasks", type=int, default=6)
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    random = np.random.default_rng(0)
    groups = np.sort(random.integers(0, GROUPS, IMAGES))
    skill = random.uniform(0.3, 0.7, args.methods)
    right = random.random((args.tasks, SEEDS, IMAGES, args.methods), np.float32) < skill
    ways = {"htbench": lambda: ours(right, groups), "loop": lambda: loop(right, groups)}
    times = take_turns(ways, args.turns)
    pairs = args.methods * (args.methods - 1) // 2
    of_loop = pairs * args.tasks / LOOP_PAIRS
    rows = []
    for name, factor in (("htbench", 1.0), ("loop", of_loop)):
        seconds = (times[name].wall, times[name].cpu)
        rows.append([name, *(spread([factor * s for s in times]) for times in seconds)])
    print(table(rows, ["way", "wall s", "CPU s"]))
    print(
        f"\n{pairs:,} pairs of {args.methods} methods on {args.tasks} tasks of {IMAGES:,} images "
        f"in {GROUPS} groups, {SEEDS} seeds, {DRAWS:,} draws; the loop is extrapolated from "
        f"{LOOP_PAIRS} pairs of a task. Wanted: at most 5 s."
    )


if __name__ == "__main__":
    main()
