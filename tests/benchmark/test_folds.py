"""Folds of seen training data: which classes play missing, and what is held out."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.folds import draw_fold

SIZES = st.dictionaries(st.integers(0, 40), st.integers(1, 30), min_size=2, max_size=12)
SHARES = st.floats(0.01, 0.99)


def numbered(sizes: dict[int, int]) -> dict[int, list[int]]:
    """The samples of each class: different numbers."""
    return {label: [100 * label + i for i in range(count)] for label, count in sizes.items()}


@given(SIZES, SHARES, SHARES, st.integers(0, 99))
def test_its_parts(sizes, share, held_out, seed):
    samples, rng = numbered(sizes), random.Random(seed)
    fold = draw_fold(samples, share, held_out, lambda _, items: rng.sample(items, len(items)))
    assert set(fold.missing) < set(samples)
    assert len(fold.missing) == min(max(1, int(share * len(samples))), len(samples) - 1)
    for label, numbers in samples.items():
        tests, train = (set(numbers) & set(part) for part in (fold.held_out, fold.train))
        assert len(tests) == min(max(1, int(held_out * len(numbers))), len(numbers) - 1)
        assert train == (set() if label in fold.missing else set(numbers) - tests)


@given(st.permutations(range(6)))
def test_the_order_of_the_classes_in_the_input_does_not_matter(order):
    samples = numbered(dict.fromkeys(range(6), 5))
    again = {label: samples[label] for label in order}
    folds = [draw_fold(s, 0.5, 0.2, lambda _, items: list(items)) for s in (samples, again)]
    assert folds[0] == folds[1]


@pytest.mark.parametrize(("share", "held_out"), [(0, 0.2), (1, 0.2), (0.5, 0), (0.5, 1.5)])
def test_shares_lie_between_0_and_1(share, held_out):
    with pytest.raises(ValueError, match="must lie between 0 and 1"):
        draw_fold(numbered({0: 2, 1: 2}), share, held_out, lambda _, items: list(items))
