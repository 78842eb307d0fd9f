"""Scores and calibration curves against independent implementations."""

from __future__ import annotations

from itertools import pairwise
from statistics import fmean
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    auc,
    balanced_accuracy_score,
    recall_score,
    roc_auc_score,
)

from leaderboard import calibration_curve, picks, score
from tests.leaderboard.scoring_cases import PROPERTY, arrays, random_case, tied_cases

# A naive reference: loops only, and nothing shared with the code under test.


def naive_argmax(row, gamma, seen, columns):
    best, best_value = None, None
    for column in columns:
        value = row[column] + (0 if seen[column] else gamma)
        if best is None or value > best_value:
            best, best_value = column, value
    return best


def naive_accuracy(rows, labels, seen, gamma, samples_of, columns):
    """Acc_{samples_of/columns} as (micro, macro); samples_of and columns are lists of classes."""
    hits = {c: [] for c in samples_of}
    for row, label in zip(rows, labels, strict=True):
        if label in hits:
            hits[label].append(naive_argmax(row, gamma, seen, columns) == label)
    return fmean(h for of in hits.values() for h in of), fmean(
        fmean(of) for of in hits.values() if of
    )


def naive_margins(rows, seen):
    return sorted(
        {
            max(v for v, s in zip(row, seen, strict=True) if s)
            - max(v for v, s in zip(row, seen, strict=True) if not s)
            for row in rows
        }
    )


def naive_curve(rows, labels, seen):
    """Every candidate gamma: beyond the ends, between neighbouring margins, and 0."""
    classes, margins = range(len(seen)), naive_margins(rows, seen)
    gammas = {margins[0] - 7, margins[-1] + 7, 0} | {(a + b) / 2 for a, b in pairwise(margins)}
    groups = [[c for c in classes if seen[c]], [c for c in classes if not seen[c]]]
    return [
        tuple(naive_accuracy(rows, labels, seen, g, group, classes)[0] for group in groups)
        for g in sorted(gammas)
    ]


def trapezoid(points):
    return sum((a - c) * (b + d) / 2 for (a, b), (c, d) in pairwise(points))


def naive_openworld_auc(rows, labels, seen):
    """A double loop over the pairs of a seen and a missing sample."""
    classes = range(len(seen))
    samples = []
    for row, label in zip(rows, labels, strict=True):
        group = [c for c in classes if seen[c] == seen[label]]
        margin = max(row[c] for c in classes if seen[c]) - max(
            row[c] for c in classes if not seen[c]
        )
        samples.append((seen[label], naive_argmax(row, 0, seen, group) == label, margin))
    pairs = [
        right_s and right_u and margin_s > margin_u
        for is_seen, right_s, margin_s in samples
        for other_is_seen, right_u, margin_u in samples
        if is_seen and not other_is_seen
    ]
    return fmean(pairs)


def naive_scores(rows, labels, seen):
    every = list(range(len(seen)))
    s, u = [c for c in every if seen[c]], [c for c in every if not seen[c]]
    references = {
        "overall": (every, every),
        "seen": (s, every),
        "missing": (u, every),
        "seen_within": (s, s),
        "missing_within": (u, u),
    }
    out = {}
    for name, (samples_of, columns) in references.items():
        micro, macro = naive_accuracy(rows, labels, seen, 0, samples_of, columns)
        out[name], out[f"macro_{name}"] = 100 * micro, 100 * macro
    for prefix in ("", "macro_"):
        a, b = out[f"{prefix}seen"], out[f"{prefix}missing"]
        out[f"{prefix}harmonic"] = 2 / (1 / a + 1 / b) if a and b else 0.0
    out["ausuc"] = trapezoid(naive_curve(rows, labels, seen))
    out["openworld_auc"] = naive_openworld_auc(rows, labels, seen)
    out["n_seen"] = sum(seen[label] for label in labels)
    out["n_missing"] = len(labels) - out["n_seen"]
    return out


class TestAgainstReferences:
    @given(tied_cases())
    @settings(PROPERTY, max_examples=300)
    def test_naive_loops_with_many_ties(self, case):
        assert score(*arrays(*case)).as_dict() == pytest.approx(naive_scores(*case), abs=1e-9)

    @given(tied_cases(), st.sampled_from([np.float16, np.float32, np.float64]))
    @settings(PROPERTY, max_examples=50)
    def test_blocks_of_three_rows(self, case, dtype):
        rows, labels, seen = case
        with patch.object(picks, "BLOCK_BYTES", 3 * 4 * len(seen)):
            scores = score(*arrays(rows, labels, seen, dtype))
        assert scores.as_dict() == pytest.approx(naive_scores(*case), abs=1e-9)

    @given(tied_cases())
    @settings(PROPERTY, max_examples=150)
    def test_each_gamma_gives_its_point(self, case):
        rows, labels, seen = case
        classes = range(len(seen))
        curve = calibration_curve(*arrays(*case))
        for gamma, *point in zip(curve.gamma, curve.seen, curve.missing, strict=True):
            for group, accuracy in zip((True, False), point, strict=True):
                of = [c for c in classes if seen[c] == group]
                naive, _ = naive_accuracy(rows, labels, seen, gamma, of, classes)
                assert accuracy == pytest.approx(naive, abs=1e-12)

    def test_naive_loops_on_a_bigger_case(self):
        logits, labels, seen = random_case(n_samples=60, n_classes=6, decimals=1)
        logits = (logits * 8).round() / 8  # sums with gamma stay exact
        naive = naive_scores(logits.tolist(), labels.tolist(), seen.tolist())
        assert score(logits, labels, seen).as_dict() == pytest.approx(naive, abs=1e-9)

    @pytest.mark.parametrize("decimals", [None, 0])
    def test_scikit_learn(self, decimals):
        logits, labels, seen = random_case(decimals=decimals)
        result, predicted = score(logits, labels, seen).as_dict(), logits.argmax(axis=1)
        expected = {"overall": accuracy_score(labels, predicted)}
        with pytest.warns(UserWarning, match="classes not in y_true"):  # the class without sample
            expected["macro_overall"] = balanced_accuracy_score(labels, predicted)
        for name, group in (("seen", seen), ("missing", ~seen)):
            of = group[labels]
            within = np.where(group, logits, -np.inf).argmax(axis=1)
            for suffix, guess in (("", predicted[of]), ("_within", within[of])):
                expected[name + suffix] = accuracy_score(labels[of], guess)
                expected[f"macro_{name}{suffix}"] = recall_score(
                    labels[of], guess, labels=np.unique(labels[of]), average="macro"
                )
        for name, value in expected.items():
            assert result[name] == pytest.approx(100 * value), name

    @given(tied_cases())
    @settings(PROPERTY, max_examples=50)
    def test_area_is_that_of_the_curve(self, case):
        curve = calibration_curve(*arrays(*case))
        assert score(*arrays(*case)).ausuc == pytest.approx(
            auc(curve.seen, curve.missing), abs=1e-12
        )

    def test_the_two_areas_are_equal_without_ties(self):
        result = score(*random_case(decimals=None))
        assert 0 < result.openworld_auc < 1
        assert result.openworld_auc == pytest.approx(result.ausuc, abs=1e-12)

    @given(tied_cases())
    @settings(PROPERTY, max_examples=50)
    @example(([[0, 0, 0], [0, 1, 1]], [0, 1], [True, False, True]))
    def test_the_two_areas_differ_by_half_of_the_tied_pairs(self, case):
        """Or, at a margin of 0, by half of the samples of a pair that the tie rule leaves right."""
        logits, labels, seen = arrays(*case)
        of_seen, of_missing = (np.where(mask, logits, -np.inf) for mask in (seen, ~seen))
        margin = of_seen.max(axis=1) - of_missing.max(axis=1)
        # gamma = 0 is a point of the curve, at which the lowest class index decides between equal
        # logits, so samples with a margin of 0 need not flip together.
        share = np.where(margin == 0, logits.argmax(axis=1) == labels, 0.5)
        pairs = [
            (share[a] + share[b]) / 2
            for a in np.flatnonzero(of_seen.argmax(axis=1) == labels)
            for b in np.flatnonzero(of_missing.argmax(axis=1) == labels)
            if margin[a] == margin[b]
        ]
        n_seen = int(seen[labels].sum())
        n_pairs = n_seen * (len(labels) - n_seen)
        result = score(logits, labels, seen)
        difference = result.ausuc - result.openworld_auc
        assert difference == pytest.approx(sum(pairs) / n_pairs, abs=1e-12)

    def test_openworld_auc_is_the_auroc_of_the_margin_times_the_share_of_correct_pairs(self):
        logits, labels, seen = random_case(decimals=None)
        of_seen, of_missing = (np.where(mask, logits, -np.inf) for mask in (seen, ~seen))
        is_seen = seen[labels]
        within = np.where(is_seen, of_seen.argmax(axis=1), of_missing.argmax(axis=1))
        right = within == labels
        margin = of_seen.max(axis=1) - of_missing.max(axis=1)
        share = right[is_seen].mean() * right[~is_seen].mean()
        expected = share * roc_auc_score(is_seen[right], margin[right])
        assert score(logits, labels, seen).openworld_auc == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize("decimals", [None, 2])
    def test_one_flip_at_a_time(self, decimals):
        """The sum of the evaluator released with arXiv 2409.16223, which flips ties in turn."""
        logits, labels, seen = random_case(decimals=decimals)
        of_seen, of_missing = (np.where(mask, logits, -np.inf) for mask in (seen, ~seen))
        margin = of_seen.max(axis=1) - of_missing.max(axis=1)
        n_seen = seen[labels].sum()
        n_missing = len(labels) - n_seen
        lost = (of_seen.argmax(axis=1) == labels) / n_seen
        won = (of_missing.argmax(axis=1) == labels) / n_missing
        points = [(lost.sum(), 0.0)]
        for sample in np.argsort(margin, kind="stable"):
            points.append((points[-1][0] - lost[sample], points[-1][1] + won[sample]))
        assert score(logits, labels, seen).ausuc == pytest.approx(trapezoid(points), abs=5e-4)
