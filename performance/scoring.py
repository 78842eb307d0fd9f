"""The time of the metrics compared with other implementations.

    python performance/scoring.py
    OMP_NUM_THREADS=1 python performance/scoring.py --sizes 5000 50000 --repeats 5
    python performance/scoring.py --classes 345 --sweep-sizes 250 500

The first table compares all metrics of ``leaderboard.score`` with scikit-learn's accuracies only
(without AUSUC). The second compares them with AUSUC by a sweep that recomputes both accuracies at
every change of a prediction, in O(N^2 C), and therefore only at small N.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from time import perf_counter

import numpy as np
from sklearn.metrics import accuracy_score, recall_score
from tabulate import tabulate

from leaderboard import score


def make_case(n_samples: int, n_classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return random float32 logits (N, C) that favour the seen half, labels and the seen mask."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, n_classes, n_samples)
    seen = np.arange(n_classes) % 2 == 0
    logits = rng.standard_normal((n_samples, n_classes), dtype=np.float32)
    logits[np.arange(n_samples), labels] += 3
    logits[:, seen] += 1
    return logits, labels, seen


def with_scikit_learn(logits: np.ndarray, labels: np.ndarray, seen: np.ndarray) -> list[float]:
    """Compute micro and macro accuracy: overall, of each group, and within each group."""
    predicted = logits.argmax(axis=1)
    pairs = [(labels, predicted)]
    for group in (seen, ~seen):
        of = group[labels]
        within = np.where(group, logits, -np.inf).argmax(axis=1)
        pairs += [(labels[of], predicted[of]), (labels[of], within[of])]
    micro = [accuracy_score(truth, guess) for truth, guess in pairs]
    macro = [
        recall_score(truth, guess, labels=np.unique(truth), average="macro")
        for truth, guess in pairs
    ]
    return micro + macro


def with_a_sweep(logits: np.ndarray, labels: np.ndarray, seen: np.ndarray) -> float:
    """Compute AUSUC from its definition, with all predictions recomputed for every gamma."""
    logits = logits.astype(np.float64)  # rounding to float32 would move the changes
    margins = np.sort(logits[:, seen].max(axis=1) - logits[:, ~seen].max(axis=1))
    of_seen = seen[labels]
    points = []
    for gamma in (margins[0] - 1, *((a + b) / 2 for a, b in pairwise(margins)), margins[-1] + 1):
        correct = (logits + gamma * ~seen).argmax(axis=1) == labels
        points.append((correct[of_seen].mean(), correct[~of_seen].mean()))
    return float(sum((a - c) * (b + d) / 2 for (a, b), (c, d) in pairwise(points)))


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Return the shortest time of several calls, in seconds."""
    times = []
    for _ in range(repeats):
        start = perf_counter()
        work()
        times.append(perf_counter() - start)
    return min(times)


def compare(
    name: str,
    other: Callable[[np.ndarray, np.ndarray, np.ndarray], object],
    sizes: list[int],
    n_classes: int,
    repeats: int,
) -> str:
    """Return a table of the times of ``score`` and another function; growth is per row."""
    rows: list[list[object]] = []
    before = None
    for size in sizes:
        case = make_case(size, n_classes)
        ours = seconds(partial(score, *case), repeats)
        theirs = seconds(partial(other, *case), repeats)
        growth = [ours / before[0], theirs / before[1], size / before[2]] if before else [None] * 3
        rows.append([size, ours, theirs, theirs / ours, *growth])
        before = (ours, theirs, size)
    headers = [
        "N",
        "score() s",
        f"{name} s",
        "times faster",
        "growth",
        f"growth {name}",
        "growth N",
    ]
    return tabulate(rows, headers, floatfmt=("d", ".4f", ".4f", ".1f", ".1f", ".1f", ".1f"))


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[5_000, 50_000, 200_000])
    parser.add_argument("--sweep-sizes", type=int, nargs="+", default=[300, 600, 1_200])
    parser.add_argument("--classes", type=int, default=182)
    parser.add_argument("--repeats", type=int, default=3, help="keep the best of this many")
    args = parser.parse_args()

    print(f"All metrics against scikit-learn's accuracies, C = {args.classes}")
    print(compare("scikit-learn", with_scikit_learn, args.sizes, args.classes, args.repeats))
    print(f"\nAll metrics against a sweep for AUSUC alone, C = {args.classes}")
    print(compare("sweep", with_a_sweep, args.sweep_sizes, args.classes, args.repeats))
    case = make_case(args.sweep_sizes[0], args.classes)
    ours, theirs = score(*case).ausuc, with_a_sweep(*case)
    print(f"AUSUC at N = {args.sweep_sizes[0]}: {ours:.6f} here, {theirs:.6f} by the sweep")


if __name__ == "__main__":
    main()
