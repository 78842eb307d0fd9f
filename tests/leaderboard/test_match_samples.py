"""Predictions are matched with the manifest's samples by id."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.errors import ScoringError
from leaderboard import match_samples


@pytest.mark.parametrize("kind", [list, tuple, np.array])
def test_puts_predictions_into_the_manifests_order(kind):
    ids = kind(["b", "c", "a"])
    order = match_samples(ids, ["a", "b", "c"])
    assert order.tolist() == [2, 0, 1]
    assert np.issubdtype(order.dtype, np.integer)


def test_many():
    expected = [f"image-{i}" for i in range(50_000)]
    shuffled = np.random.default_rng(0).permutation(expected)
    assert shuffled[match_samples(shuffled, expected)].tolist() == expected


def test_nothing():
    assert match_samples([], []).shape == (0,)


@pytest.mark.parametrize(
    ("given_ids", "expected", "message"),
    [
        (["a", "b", "x", "y"], ["a", "b"], r"2 unknown sample ids: 'x', 'y';"),
        (["a"], ["a", "b", "c", "d", "e"], r"4 missing .*: 'b', 'c', 'd' and 1 more;"),
        (["a", "x"], ["a", "b"], r"1 unknown .*: 'x' and 1 missing .*: 'b';"),
        (["a", "b", "a"], ["a", "b"], r"1 .* repeated in the predictions: 'a';"),
        (["a", "b"], ["a", "b", "b"], r"1 .* repeated in the expected samples: 'b';"),
        ([1], ["1"], r"1 unknown .*: 1 and 1 missing .*: '1';"),
    ],
)
def test_what_does_not_match(given_ids, expected, message):
    for kind in (list, np.array):
        with pytest.raises(ScoringError, match=message):
            match_samples(kind(given_ids), expected)
