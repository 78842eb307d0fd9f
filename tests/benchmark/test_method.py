"""What a method is given: target data, split by class."""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmark.method import held_out
from htbench import TargetData


def data(labels):
    labels = torch.tensor(labels)
    images = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1)
    return TargetData(images, labels, tuple("abcdefg"), torch.ones(7, dtype=torch.bool))


@given(st.integers(1, 500), st.sampled_from(["0", "0.1", "0.2", "0.5", "0.9", "1"]))
def test_a_share_is_held_out_at_least_one_never_all(count, share):
    found = held_out(count, float(share))
    exact = math.floor(Fraction(share) * count)
    assert found == (0 if count == 1 else min(max(exact, 1), count - 1))


@given(st.lists(st.integers(0, 6), min_size=1, max_size=60), st.integers(0, 5))
def test_every_row_is_kept_or_held_out_class_by_class(labels, seed):
    target = data(labels)
    kept, held = target.hold_out(0.3, torch.Generator().manual_seed(seed))
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(len(labels)))
    for label in set(labels):
        assert (target.labels[held] == label).sum() == held_out(labels.count(label), 0.3)
    again = target.hold_out(0.3, torch.Generator().manual_seed(seed))
    assert torch.equal(again[0], kept)
    assert torch.equal(again[1], held)


def test_what_is_held_out_is_drawn():
    target = data([0] * 20 + [3] * 20)
    draws = {tuple(target.hold_out(0.2, torch.Generator().manual_seed(s))[1].tolist())
             for s in range(20)}  # fmt: skip
    assert len(draws) == 20
    assert {row for draw in draws for row in draw} > set(range(0, 40, 5))
    part = target.rows(torch.tensor([1, 39]))
    assert part.labels.tolist() == [0, 3]
    assert part.images.flatten().tolist() == [1, 39]


def test_single_images_are_trained_on():
    kept, held = data([2, 4, 5]).hold_out(0.5, torch.Generator())
    assert sorted(kept.tolist()) == [0, 1, 2]
    assert held.tolist() == []
