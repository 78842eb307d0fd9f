"""Which images are predicted together, and which of them twice."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmark.batches import batch_size, in_order, shuffled


@pytest.mark.parametrize(
    ("side", "size"), [(1, 256), (32, 256), (128, 256), (224, 83), (256, 64), (5000, 1)]
)
def test_the_size_of_a_batch_follows_the_size_of_the_images(side: int, size: int) -> None:
    assert batch_size(side) == size


def test_in_order() -> None:
    assert in_order(0, 32) == []
    batches = in_order(600, 32)
    assert list(map(len, batches)) == [256, 256, 88]
    assert [index for batch in batches for index in batch] == list(range(600))


@pytest.mark.parametrize("side", [32, 224, 1000, 3000])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 16, 31, 33, 70, 211, 418, 1566])
def test_shuffled(count: int, side: int) -> None:
    batches = shuffled(count, side, "key")
    assert {index for batch in batches for index in batch} == set(range(count)), "none is left out"
    assert all(len(batch) == len(set(batch)) for batch in batches)
    assert len(set(map(len, batches))) <= 1, "all have one size"
    assert all(len(batch) <= batch_size(side) for batch in batches)
    asks = sum(map(len, batches))
    assert asks - count >= min(count, 32)


def test_about_5_per_cent_are_asked_twice() -> None:
    for count, side in ((1566, 32), (12_000, 224), (50_000, 256)):
        asks = sum(map(len, shuffled(count, side, "key")))
        assert 1.05 * count <= asks <= 1.08 * count


def test_the_order_is_random_and_depends_on_the_key_alone() -> None:
    assert shuffled(500, 32, "a") == shuffled(500, 32, "a")
    assert shuffled(500, 32, "a") != shuffled(500, 32, "b")
    first = shuffled(500, 32, "a")[0]
    assert first != sorted(first)


def test_a_repeated_image_has_no_place_of_its_own() -> None:
    """Its places differ, and most of its company has not been asked with it before."""
    batches = shuffled(5000, 32, "key")
    known: dict[int, set[int]] = {}
    places: Counter[bool] = Counter()
    for batch in batches:
        for place, index in enumerate(batch):
            if index in known:
                places[place < len(batch) // 2] += 1
                assert len(known[index] & set(batch)) < 0.2 * len(batch)
            known.setdefault(index, set(batch))
    assert min(places.values()) > 100
