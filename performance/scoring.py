"""The time of the metrics, beside other implementations of some of them.

    python performance/scoring.py
    python performance/scoring.py --sizes 1000 10000 --classes 65

All run on one thread, in turns, on the same arrays. Small arrays are new ones in each turn: a
processor learns where the maxima of an array are, and ``np.argmax`` of a thousand rows that it has
seen before takes a third of the time.

    score          ``leaderboard.score``: all metrics, AUSUC included
    argmax         ``np.argmax`` of the logits, the least that any accuracy needs
    scikit-learn   ten accuracies, micro and macro, without AUSUC
    torchmetrics   the same, if it is installed
    sweep          AUSUC alone, with all predictions recomputed at every change of one: O(N^2 C),
                   and therefore only at small N
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from itertools import cycle, pairwise

import numpy as np
import torch
from measure import growth, ratios, spread, table, take_turns
from sklearn.metrics import accuracy_score, recall_score

from leaderboard import score

Case = tuple[np.ndarray, np.ndarray, np.ndarray]  # logits, labels, the seen mask

WANTED = 4  # times np.argmax, at most
LEARNED = 100_000  # samples: fewer are too few to be forgotten between two turns
SWEEP_SIZES = (250, 1000)


def make_case(n_samples: int, n_classes: int, seed: int = 0) -> Case:
    """Return random float32 logits (N, C) that favour the seen half, labels and the seen mask."""
    rng = np.random.default_rng(seed)
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
        rows = group[labels]
        within = np.where(group, logits, -np.inf).argmax(axis=1)
        pairs += [(labels[rows], predicted[rows]), (labels[rows], within[rows])]
    micro = [accuracy_score(truth, guess) for truth, guess in pairs]
    macro = [
        recall_score(truth, guess, labels=np.unique(truth), average="macro")
        for truth, guess in pairs
    ]
    return micro + macro


def with_torchmetrics(logits: np.ndarray, labels: np.ndarray, seen: np.ndarray) -> list[float]:
    """Compute the same with torchmetrics."""
    from torchmetrics.functional.classification import multiclass_accuracy

    scores, truth = torch.from_numpy(logits), torch.from_numpy(labels)
    pairs = [(scores, truth)]
    for mask in (seen, ~seen):
        group = torch.from_numpy(mask)
        rows = group[truth]
        own = scores[rows]
        pairs += [(own, truth[rows]), (own.masked_fill(~group, -math.inf), truth[rows])]
    accuracy = partial(multiclass_accuracy, num_classes=len(seen))
    micro = [float(accuracy(scores, labels, average="micro")) for scores, labels in pairs]
    macro = [
        float(accuracy(scores, labels, average="none")[labels.unique()].mean())
        for scores, labels in pairs
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


def ours(logits: np.ndarray, labels: np.ndarray, seen: np.ndarray) -> list[float]:
    """The accuracies of ``score``, in the order of the others."""
    scores = score(logits, labels, seen)
    names = ("overall", "seen", "seen_within", "missing", "missing_within")
    every = scores.as_dict()
    return [every[prefix + name] / 100 for prefix in ("", "macro_") for name in names]


def in_turn(way: Callable[..., object], cases: list[Case]) -> Callable[[], object]:
    """A function that applies a way to the next case each time."""
    following = cycle(cases)
    return lambda: way(*next(following))


def compare(
    others: dict[str, Callable[..., list[float]]], sizes: list[int], classes: int
) -> list[list[str]]:
    """Rows of the first table, for one number of classes."""
    rows, seconds = [], []
    for size in sizes:
        turns = max(5, min(31, 1_000_000 // size))
        cases = [make_case(size, classes, i) for i in range(min(turns, -(-LEARNED // size)))]
        for name, other in others.items():
            assert np.allclose(ours(*cases[0]), other(*cases[0]), atol=1e-6), name
        ways: dict[str, Callable[..., object]] = {
            "score": score,
            "argmax": lambda logits, *_: logits.argmax(axis=1),
            **others,
        }
        times = take_turns({name: in_turn(way, cases) for name, way in ways.items()}, turns)
        mine = times.pop("score")
        seconds.append(sorted(mine.cpu)[turns // 2])
        over = ratios(mine.cpu, times.pop("argmax").cpu)
        rows.append([f"{classes}", f"{size:,}", spread([1000 * s for s in mine.cpu])])
        rows[-1] += [spread(over, 1), *(spread(ratios(t.cpu, mine.cpu), 1) for t in times.values())]
        print(f"C = {classes}, N = {size}: done", file=sys.stderr)
    if len(sizes) > 1:
        print(f"C = {classes}: growth exponent in N {growth(sizes, seconds):.2f}  ", flush=True)
    return rows


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = [1_000, 10_000, 100_000, 1_000_000]
    parser.add_argument("--sizes", type=int, nargs="+", default=default)
    parser.add_argument("--classes", type=int, nargs="+", default=[65, 182, 345])
    args = parser.parse_args()
    torch.set_num_threads(1)
    others: dict[str, Callable[..., list[float]]] = {"scikit-learn": with_scikit_learn}
    if find_spec("torchmetrics"):
        others["torchmetrics"] = with_torchmetrics
    rows = [row for classes in args.classes for row in compare(others, args.sizes, classes)]
    headers = ["C", "N", "score, ms", "score / argmax", *(f"{name} / score" for name in others)]
    print(f"\n{table(rows, headers)}\n")
    rows = []
    for classes in args.classes:
        for size in SWEEP_SIZES:
            case = make_case(size, classes)
            assert math.isclose(score(*case).ausuc, with_a_sweep(*case), abs_tol=1e-12)
            ways: dict[str, Callable[[], object]] = {
                "score": partial(score, *case),
                "sweep": partial(with_a_sweep, *case),
            }
            times = take_turns(ways, 3)
            over = ratios(times["sweep"].cpu, times["score"].cpu)
            rows.append([f"{classes}", f"{size:,}", spread(over, 0)])
    print(table(rows, ["C", "N", "sweep / score"]))
    print(
        "\nProcessor time, medians of turns and their range. All accuracies agree to 1e-6 and AUSUC"
        f" to 1e-12. Wanted: score / argmax at most {WANTED}, all others more than 1, and a growth"
        " exponent of at most 1.1."
    )


if __name__ == "__main__":
    main()
