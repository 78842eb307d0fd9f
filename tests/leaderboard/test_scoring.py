"""Scores and calibration curves: cases worked out by hand, and invariants of every case."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leaderboard import Scores, calibration_curve, score
from tests.leaderboard.scoring_cases import PROPERTY, TINY, arrays, random_case, tied_cases


class TestByHand:
    def test_scores(self):
        third = 100 / 3
        assert score(*arrays(*TINY)).as_dict() == pytest.approx(
            {
                "overall": 50.0,  # samples 0, 2 and 4
                "seen": 2 * third,
                "missing": third,
                "seen_within": 2 * third,
                "missing_within": 100.0,
                "harmonic": 400 / 9,
                "macro_overall": 37.5,  # 100, 0, 50 and 0 for the four classes
                "macro_seen": 50.0,
                "macro_missing": 25.0,
                "macro_seen_within": 50.0,
                "macro_missing_within": 100.0,
                "macro_harmonic": 100 / 3,
                "ausuc": 7 / 18,  # 1/3 wide at heights 1/3 to 2/3, and 1/3 wide at height 2/3
                "openworld_auc": 3 / 9,  # the pair whose margins are both 0 does not count
                "n_seen": 3,
                "n_missing": 3,
            }
        )

    def test_curve_with_a_tie_at_zero(self):
        curve = calibration_curve(*arrays(*TINY))
        # Distinct margins -2, -1, 0, 1, 3; at 0 both tied samples keep their lower (seen) column.
        np.testing.assert_array_equal(curve.gamma, [-3, -1.5, -0.5, 0, 0.5, 2, 4])
        np.testing.assert_array_equal(curve.seen, np.array([2, 2, 2, 2, 1, 0, 0]) / 3)
        np.testing.assert_array_equal(curve.missing, np.array([0, 0, 1, 1, 2, 2, 3]) / 3)

    @pytest.mark.parametrize(
        ("shift", "gamma"), [(0, [0, 1.5, 4, 7]), (-3, [-3, -1.5, 0, 4]), (-7, [-7, -5.5, -3, 0])]
    )
    def test_curve_without_a_tie(self, shift, gamma):
        # Margins 2 (seen), 1 (missing) and 6 (missing), all shifted; 0 represents its interval.
        logits = np.array([[2.0 + shift, 0], [1 + shift, 0], [6 + shift, 0]])
        labels, seen = np.array([0, 1, 1]), np.array([True, False])
        curve = calibration_curve(logits, labels, seen)
        np.testing.assert_array_equal(curve.gamma, gamma)
        np.testing.assert_array_equal(curve.seen, [1, 1, 0, 0])
        np.testing.assert_array_equal(curve.missing, [0, 0.5, 0.5, 1])
        assert score(logits, labels, seen).ausuc == 0.5

    def test_samples_with_equal_margins_flip_together(self):
        # One at a time the area would be 0 or 1, depending on the order of the samples.
        logits, seen = np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([True, False])
        curve = calibration_curve(logits, np.array([0, 1]), seen)
        np.testing.assert_array_equal(curve.gamma, [0, 2])
        assert score(logits, np.array([0, 1]), seen).ausuc == 0.5

    @pytest.mark.parametrize("seen_first", [True, False])
    def test_a_tie_goes_to_the_lowest_class_index(self, seen_first):
        logits, seen = np.zeros((2, 4)), np.array([seen_first, not seen_first] * 2)
        result = score(logits, np.array([0, 1]), seen)
        assert (result.seen, result.missing) == ((100, 0) if seen_first else (0, 100))
        assert (result.seen_within, result.missing_within) == (100, 100)
        result = score(logits, np.array([2, 3]), seen)
        assert (result.seen_within, result.missing_within) == (0, 0)

    @pytest.mark.parametrize(
        ("rows", "labels", "corner"),
        [([[-1, 0, 0], [0, 0, -1]], [2, 1], 0), ([[0, 0, -1], [-1, 0, 0]], [0, 1], 1)],
    )
    def test_the_plain_argmax_of_tied_samples_is_a_corner_of_the_curve(self, rows, labels, corner):
        case = arrays(rows, labels, [True, False, True])
        curve = calibration_curve(*case)
        np.testing.assert_array_equal(curve.gamma, [-1, 0, 1])
        np.testing.assert_array_equal(curve.seen, [1, corner, 0])
        np.testing.assert_array_equal(curve.missing, [0, corner, 1])
        assert score(*case).ausuc == corner

    def test_harmonic_mean_of_nothing_is_zero(self):
        case = arrays([[0, 1, 2], [1, 2, 0], [1, 0, 2]], [0, 2, 0], [True, True, False])
        result = score(*case)
        assert (result.seen, result.missing) == (0, 0)
        assert (result.harmonic, result.macro_harmonic) == (0, 0)

    def test_scores_are_plain_numbers_and_frozen(self):
        result = score(*arrays(*TINY))
        counts = {"n_seen", "n_missing"}
        for name, value in result.as_dict().items():
            assert type(value) is (int if name in counts else float), name
        assert Scores(**json.loads(json.dumps(result.as_dict()))) == result
        with pytest.raises(FrozenInstanceError):
            result.overall = 100.0


class TestInvariants:
    @given(tied_cases())
    @PROPERTY
    def test_overall_is_the_weighted_mean_of_the_groups(self, case):
        r = score(*arrays(*case))
        weighted = (r.n_seen * r.seen + r.n_missing * r.missing) / (r.n_seen + r.n_missing)
        assert r.overall == pytest.approx(weighted)

    @given(tied_cases())
    @PROPERTY
    def test_the_curve_is_monotone_between_the_within_group_accuracies(self, case):
        curve, result = calibration_curve(*arrays(*case)), score(*arrays(*case))
        assert (np.diff(curve.gamma) > 0).all()
        assert (np.diff(curve.seen) <= 0).all()
        assert (np.diff(curve.missing) >= 0).all()
        assert (curve.missing[0], curve.seen[-1]) == (0, 0)
        assert 100 * curve.seen[0] == pytest.approx(result.seen_within)
        assert 100 * curve.missing[-1] == pytest.approx(result.missing_within)
        (zero,) = np.flatnonzero(curve.gamma == 0)
        assert 100 * curve.seen[zero] == pytest.approx(result.seen)
        assert 100 * curve.missing[zero] == pytest.approx(result.missing)

    @given(tied_cases(), st.randoms(use_true_random=False))
    @PROPERTY
    def test_the_order_of_samples_does_not_matter(self, case, random):
        logits, labels, seen = arrays(*case)
        order = np.array(random.sample(range(len(labels)), len(labels)))
        assert score(logits[order], labels[order], seen) == score(logits, labels, seen)

    @given(st.integers(0, 2**32 - 1))
    @settings(PROPERTY, max_examples=25)
    def test_the_order_of_classes_does_not_matter_without_ties(self, seed):
        logits, labels, seen = random_case(n_samples=40, n_classes=7, seed=seed)
        order = np.random.default_rng(seed).permutation(7)
        moved = score(logits[:, order], np.argsort(order)[labels], seen[order])
        assert moved.as_dict() == pytest.approx(score(logits, labels, seen).as_dict())

    @given(tied_cases(), st.integers(-1000, 1000))
    @PROPERTY
    def test_a_constant_added_to_a_row_does_not_matter(self, case, constant):
        logits, labels, seen = arrays(*case)
        moved = logits + constant * np.arange(len(labels), dtype=np.float32)[:, None]
        assert score(moved, labels, seen) == score(logits, labels, seen)

    @given(tied_cases(), st.sampled_from([np.float16, np.float64, ">f4"]))
    @PROPERTY
    def test_the_type_does_not_matter(self, case, dtype):
        expected = score(*arrays(*case))
        logits, labels, seen = arrays(*case, dtype=dtype)
        for integer in (np.uint8, np.int32, np.uint64):
            assert score(logits, labels.astype(integer), seen) == expected
        assert score(np.asfortranarray(logits), labels, seen) == expected

    def test_margins_are_taken_in_float64(self):
        # In float16 both margins round to 2048.
        logits = np.array([[2048, 0], [2048, -1]], dtype=np.float16)
        curve = calibration_curve(logits, np.array([0, 1]), np.array([True, False]))
        np.testing.assert_array_equal(curve.gamma, [0, 2048.5, 2050])

    def test_the_input_is_left_alone(self):
        given_arrays = arrays(*TINY)
        copies = [a.copy() for a in given_arrays]
        for a in given_arrays:
            a.flags.writeable = False
        score(*given_arrays)
        calibration_curve(*given_arrays)
        for a, copy in zip(given_arrays, copies, strict=True):
            np.testing.assert_array_equal(a, copy)
