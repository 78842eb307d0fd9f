"""The target data that a method receives, split by class."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmark.errors import ManifestError
from benchmark.method import TrainingRecipe, check_share, held_out_count
from htbench import TargetData


def target_of(labels):
    """Return target data whose images hold their own index as the only pixel."""
    labels = torch.tensor(labels)
    images = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1)
    return TargetData(images, labels, tuple("abcdefg"), torch.ones(7, dtype=torch.bool))


@given(st.integers(1, 500), st.sampled_from(["0", "0.1", "0.2", "0.5", "0.9", "1"]))
def test_the_held_out_count_is_at_least_one_and_never_all(count, share):
    exact = math.floor(Fraction(share) * count)
    expected = 0 if count == 1 else min(max(exact, 1), count - 1)
    assert held_out_count(count, float(share)) == expected


@given(st.lists(st.integers(0, 6), min_size=1, max_size=60), st.integers(0, 5))
def test_hold_out_splits_the_rows_of_every_class(labels, seed):
    target = target_of(labels)
    train, held_out = target.hold_out(0.3, torch.Generator().manual_seed(seed))
    assert sorted([*train.tolist(), *held_out.tolist()]) == list(range(len(labels)))
    for label in set(labels):
        count = held_out_count(labels.count(label), 0.3)
        assert (target.labels[held_out] == label).sum() == count
    again = target.hold_out(0.3, torch.Generator().manual_seed(seed))
    assert torch.equal(again[0], train)
    assert torch.equal(again[1], held_out)


def test_held_out_rows_are_random():
    target = target_of([0] * 20 + [3] * 20)
    draws = {
        tuple(target.hold_out(0.2, torch.Generator().manual_seed(seed))[1].tolist())
        for seed in range(20)
    }
    assert len(draws) == 20
    assert {row for draw in draws for row in draw} > set(range(0, 40, 5))
    part = target.rows(torch.tensor([1, 39]))
    assert part.labels.tolist() == [0, 3]
    assert part.images.flatten().tolist() == [1, 39]


def test_the_only_image_of_a_class_is_not_held_out():
    train, held_out = target_of([2, 4, 5]).hold_out(0.5, torch.Generator())
    assert sorted(train.tolist()) == [0, 1, 2]
    assert held_out.tolist() == []


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 2.0, math.nan])
def test_a_share_lies_strictly_between_0_and_1(share):
    check_share("half", 0.5)
    with pytest.raises(ValueError, match=f"^half is {share}; it must lie between 0 and 1$"):
        check_share("half", share)
    with pytest.raises(ValueError, match=f"^share is {share}; it must lie between 0 and 1$"):
        target_of([0, 1]).hold_out(share, torch.Generator())


TABLE = {"steps": 5, "batch_size": 2, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}


class TestTrainingRecipe:
    def test_one_rate_or_two(self):
        assert TrainingRecipe.from_table({**TABLE, "lr": 0.3}) == TrainingRecipe(
            5, 2, head_lr=0.3, backbone_lr=0.3, momentum=0.9, nesterov=True, weight_decay=0.1
        )
        two = TrainingRecipe.from_table({**TABLE, "head_lr": 0.3, "backbone_lr": 0.1, "note": "x"})
        assert (two.head_lr, two.backbone_lr) == (0.3, 0.1)

    def test_missing_entries_are_named(self):
        with pytest.raises(ManifestError, match="recipe has no head_lr, backbone_lr; add it"):
            TrainingRecipe.from_table(TABLE)
