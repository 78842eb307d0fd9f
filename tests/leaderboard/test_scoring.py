from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import FrozenInstanceError
from itertools import pairwise
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, auc, balanced_accuracy_score, recall_score

from benchmark.errors import ScoringError
from leaderboard import Scores, calibration_curve, match_samples, score

# A shared machine may stall any example, and a test leaves nothing on disk.
PROPERTY = settings(deadline=None, database=None)


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


def naive_scores(rows, labels, seen):
    every = list(range(len(seen)))
    s, u = [c for c in every if seen[c]], [c for c in every if not seen[c]]
    wanted = {
        "overall": (every, every),
        "seen": (s, every),
        "missing": (u, every),
        "seen_within": (s, s),
        "missing_within": (u, u),
    }
    out = {}
    for name, (samples_of, columns) in wanted.items():
        micro, macro = naive_accuracy(rows, labels, seen, 0, samples_of, columns)
        out[name], out[f"macro_{name}"] = 100 * micro, 100 * macro
    for prefix in ("", "macro_"):
        a, b = out[f"{prefix}seen"], out[f"{prefix}missing"]
        out[f"{prefix}harmonic"] = 2 / (1 / a + 1 / b) if a and b else 0.0
    out["ausuc"] = trapezoid(naive_curve(rows, labels, seen))
    out["n_seen"] = sum(seen[label] for label in labels)
    out["n_missing"] = len(labels) - out["n_seen"]
    return out


@st.composite
def tied_cases(draw):
    """Small whole-number logits: ties within a row, across the groups, and between margins."""
    n_classes = draw(st.integers(2, 6))
    n_samples = draw(st.integers(2, 24))
    seen = draw(
        st.lists(st.booleans(), min_size=n_classes, max_size=n_classes).filter(
            lambda mask: any(mask) and not all(mask)
        )
    )
    spread = draw(st.sampled_from([0, 1, 3]))
    row = st.lists(st.integers(-spread, spread), min_size=n_classes, max_size=n_classes)
    rows = draw(st.lists(row, min_size=n_samples, max_size=n_samples))
    label = st.integers(0, n_classes - 1)
    rest = draw(st.lists(label, min_size=n_samples - 2, max_size=n_samples - 2))
    return rows, [seen.index(True), seen.index(False), *rest], seen


def arrays(rows, labels, seen, dtype=np.float32):
    return np.array(rows, dtype=dtype), np.array(labels), np.array(seen)


def random_case(n_samples=600, n_classes=12, decimals=None, seed=0):
    """A model that knows something, with long-tailed labels; the last class has no sample."""
    rng = np.random.default_rng(seed)
    labels = rng.geometric(0.25, n_samples) % (n_classes - 1)
    logits = rng.normal(size=(n_samples, n_classes))
    logits[np.arange(n_samples), labels] += 1.5
    seen = np.arange(n_classes) % 2 == 0
    logits[:, seen] += 1.0  # fine-tuning inflates the seen logits
    return logits if decimals is None else logits.round(decimals), labels, seen


# S = {0, 1}, U = {2, 3}; margins 1, -2, 0, 3, -1 and 0, the last two a tie of the groups at 0.
TINY = (
    [
        [5, 1, 4, 0],  # 0: right; best of S is 0; lost when gamma passes 1
        [2, 0, 1, 4],  # 1: taken for 3; wrong in S as well
        [3, 1, 3, 0],  # 0: tie with 2, right by the lower index; lost at 0
        [7, 0, 2, 4],  # 3: taken for 0; right in U; won at 3
        [0, 1, 2, 1],  # 2: right; won at -1
        [1, 2, 2, 0],  # 2: tie with 1, taken for 1; right in U; won at 0
    ],
    [0, 1, 0, 3, 2, 2],
    [True, True, False, False],
)


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
        # Margins 2 (seen), 1 (missing) and 6 (missing), all shifted; 0 stands for its interval.
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


class TestAgainstReferences:
    @given(tied_cases())
    @settings(PROPERTY, max_examples=300)
    def test_naive_loops_with_many_ties(self, case):
        assert score(*arrays(*case)).as_dict() == pytest.approx(naive_scores(*case), abs=1e-9)

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


LOGITS, LABELS, SEEN = arrays(*TINY)


def with_value(array, index, value):
    changed = array.copy()
    changed[index] = value
    return changed


REFUSED = {
    "nan": (with_value(LOGITS, (4, 1), np.nan), LABELS, SEEN, r"NaN.* 1 of 6 samples \(rows 4\);"),
    "infinite": (
        with_value(LOGITS, (slice(1, 6), 0), -np.inf),
        LABELS,
        SEEN,
        r"infinite.* 5 of 6 samples \(rows 1, 2, 3 and 2 more\);",
    ),
    "too far apart": (
        with_value(LOGITS.astype(np.float64), 3, [1.5e308, 0, -1.5e308, -1.5e308]),
        LABELS,
        SEEN,
        r"overflows float64 in .* \(rows 3\); scale",
    ),
    "list": (LOGITS.tolist(), LABELS, SEEN, r"logits must be a numpy array \(N, C\), not list"),
    "flat logits": (LOGITS.ravel(), LABELS, SEEN, r"logits must have shape \(N, C\), not \(24,\)"),
    "labels 2-d": (LOGITS, LABELS[:, None], SEEN, r"labels must have shape \(N,\), not \(6, 1\)"),
    "seen 2-d": (LOGITS, LABELS, SEEN[None], r"seen must have shape \(C,\), not \(1, 4\)"),
    "integer logits": (LOGITS.astype(int), LABELS, SEEN, r"logits must be float.*not int64"),
    "object logits": (LOGITS.astype(object), LABELS, SEEN, r"logits must be float.*not object"),
    "complex logits": (LOGITS.astype(complex), LABELS, SEEN, r"logits must be float.*complex"),
    "float labels": (LOGITS, LABELS.astype(float), SEEN, r"labels must be integers.*not float64"),
    "bool labels": (LOGITS, LABELS.astype(bool), SEEN, r"labels must be integers.*not bool"),
    "object labels": (LOGITS, LABELS.astype(object), SEEN, r"labels must be integers.*not object"),
    "integer seen": (LOGITS, LABELS, SEEN.astype(int), r"seen must be a boolean mask.*not int64"),
    "object seen": (
        LOGITS,
        LABELS,
        SEEN.astype(object),
        r"seen must be a boolean mask.*not object",
    ),
    "no sample": (LOGITS[:0], LABELS[:0], SEEN, r"no samples to score"),
    "wrong width": (LOGITS[:, :3], LABELS, SEEN, r"3 columns, but the seen mask has 4 entries"),
    "too few labels": (LOGITS, LABELS[:5], SEEN, r"logits have 6 rows but there are 5 labels"),
    "label too big": (
        LOGITS,
        LABELS + 2,
        SEEN,
        r"outside 0\.\.3 \(such as 5\) in 3 .*\(rows 3, 4, 5\)",
    ),
    "label negative": (
        LOGITS,
        LABELS - 1,
        SEEN,
        r"outside 0\.\.3 \(such as -1\) in 2 .*\(rows 0, 2\);",
    ),
    "label huge": (LOGITS, LABELS.astype(np.uint64) + 2**63, SEEN, r"outside 0\.\.3 "),
    "no seen class": (LOGITS, LABELS, np.zeros_like(SEEN), r"there are no seen classes"),
    "no missing class": (LOGITS, LABELS, np.ones_like(SEEN), r"there are no missing classes"),
    "no seen sample": (LOGITS, LABELS % 2 + 2, SEEN, r"no test sample belongs to a seen class"),
    "no missing sample": (LOGITS, LABELS % 2, SEEN, r"no test sample belongs to a missing class"),
}
if np.dtype(np.longdouble).itemsize > 8:  # on some systems it is float64
    REFUSED["long double"] = (LOGITS.astype(np.longdouble), LABELS, SEEN, r"logits must be float")


class TestRefusals:
    @pytest.mark.parametrize("case", REFUSED)
    @pytest.mark.parametrize("function", [score, calibration_curve])
    def test_what_cannot_be_scored(self, function, case):
        *bad, message = REFUSED[case]
        with pytest.raises(ScoringError, match=message):
            function(*bad)


class TestMatchSamples:
    @pytest.mark.parametrize("kind", [list, tuple, np.array])
    def test_puts_predictions_into_the_manifests_order(self, kind):
        ids = kind(["b", "c", "a"])
        order = match_samples(ids, ["a", "b", "c"])
        assert order.tolist() == [2, 0, 1]
        assert np.issubdtype(order.dtype, np.integer)

    def test_many(self):
        expected = [f"image-{i}" for i in range(50_000)]
        shuffled = np.random.default_rng(0).permutation(expected)
        assert shuffled[match_samples(shuffled, expected)].tolist() == expected

    def test_nothing(self):
        assert match_samples([], []).shape == (0,)

    @pytest.mark.parametrize(
        ("given_ids", "expected", "message"),
        [
            (["a", "b", "x", "y"], ["a", "b"], r"2 unknown sample id\(s\): 'x', 'y';"),
            (["a"], ["a", "b", "c", "d", "e"], r"4 missing .*: 'b', 'c', 'd' and 1 more;"),
            (["a", "x"], ["a", "b"], r"1 unknown .*: 'x' and 1 missing .*: 'b';"),
            (["a", "b", "a"], ["a", "b"], r"1 .* repeated in the predictions: 'a';"),
            (["a", "b"], ["a", "b", "b"], r"1 .* repeated in the expected samples: 'b';"),
            ([1], ["1"], r"1 unknown .*: 1 and 1 missing .*: '1';"),
        ],
    )
    def test_what_does_not_match(self, given_ids, expected, message):
        for kind in (list, np.array):
            with pytest.raises(ScoringError, match=message):
                match_samples(kind(given_ids), expected)


def test_import_is_light():
    code = (
        "import sys, leaderboard; assert 'numpy' not in sys.modules; leaderboard.score; "
        "assert not {'torch', 'pandas'} & set(sys.modules); assert 'score' in dir(leaderboard)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_names_are_attribute_errors():
    import leaderboard

    with pytest.raises(AttributeError, match="no attribute 'scores'"):
        leaderboard.scores  # noqa: B018
