"""The per-class table against scikit-learn's confusion matrix."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from leaderboard.per_class import per_class

NAMES = [f"class {i}" for i in range(6)]
SEEN = np.array([True, True, True, False, False, False])


@pytest.fixture
def answers() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = random.integers(0, 5, 300)  # class 5 has no test image
    return random.normal(size=(300, 6)), labels


def test_counts_accuracy_and_confusion_match_scikit_learn(answers):
    logits, labels = answers
    expected = confusion_matrix(labels, logits.argmax(axis=1), labels=range(6))
    rows = {row.name: row for row in per_class(logits, labels, SEEN, NAMES)}
    assert set(rows) == set(NAMES[:5])
    for index in range(5):
        row, counts = rows[NAMES[index]], expected[index]
        assert row.n == counts.sum()
        assert row.accuracy == pytest.approx(100 * counts[index] / counts.sum())
        wrong = np.delete(counts, index).max()
        assert row.taken == pytest.approx(100 * wrong / counts.sum())
        assert counts[NAMES.index(row.taken_for)] == wrong


def test_seen_classes_come_first_and_each_group_rises(answers):
    rows = per_class(*answers, SEEN, NAMES)
    assert [row.seen for row in rows] == [True] * 3 + [False] * 2
    for group in (rows[:3], rows[3:]):
        accuracies = [row.accuracy for row in group]
        assert accuracies == sorted(accuracies)


def test_a_class_that_is_always_right_is_taken_for_nothing():
    logits = np.eye(6)[[0, 0, 3]]
    first = per_class(logits, np.array([0, 0, 3]), SEEN, NAMES)[0]
    assert (first.accuracy, first.taken_for, first.taken) == (100.0, None, 0.0)
