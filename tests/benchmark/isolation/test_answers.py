"""The rows that a child answers with: put in order, and compared where an image came twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmark.batches import shuffled
from benchmark.isolation.answers import Answers, BadAnswer, HandOut

COUNT, WIDTH = 70, 8
LOGITS = np.random.default_rng(0).normal(0, 4, (COUNT, WIDTH)).astype(np.float32)
Batch = Sequence[int]
Model = Callable[[Batch], NDArray[np.float32]]


class Numbers:
    """Images that are their own indices."""

    size = 32

    def __len__(self) -> int:
        return COUNT

    def read(self, index: int) -> bytes:
        return bytes([index])


def answer(model: Model) -> NDArray[np.float32]:
    hand_out = HandOut.shuffled(Numbers(), WIDTH, "key")
    answers = Answers(hand_out)
    for batch in hand_out.batches:
        answers.add(batch, model(batch).astype(np.float32).tobytes())
    return answers.rows


def honest(batch: Batch) -> NDArray[np.float32]:
    return LOGITS[list(batch)]


def of_its_batch(batch: Batch) -> NDArray[np.float32]:
    rows = honest(batch)
    return rows - rows.mean(axis=0)


class Drifts:
    """Changes a little with every batch that it has seen."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, batch: Batch) -> NDArray[np.float32]:
        self.seen += 1
        return honest(batch) * np.float32(1 + 0.1 * self.seen)


class Noisy:
    def __init__(self, scale: float) -> None:
        self.random, self.scale = np.random.default_rng(1), scale

    def __call__(self, batch: Batch) -> NDArray[np.float32]:
        noise = self.random.normal(0, self.scale, (len(batch), WIDTH))
        return (honest(batch) + noise).astype(np.float32)


def test_rows_come_back_in_the_order_of_the_images() -> None:
    np.testing.assert_array_equal(answer(honest), LOGITS)
    images = Numbers()
    assert HandOut.in_order(images, WIDTH).batches == [list(range(COUNT))]
    assert HandOut.shuffled(images, WIDTH, "k").batches == shuffled(COUNT, 32, "k")


@pytest.mark.parametrize(
    "model",
    [
        lambda batch: np.zeros((len(batch), WIDTH)),
        lambda batch: np.eye(WIDTH)[np.array(batch) % WIDTH],  # votes
        lambda batch: honest(batch) + 1e6,
        lambda batch: honest(batch) * 1e-9,
        Noisy(1e-5),
    ],
)
def test_what_does_not_depend_on_the_company_is_accepted(model: Model) -> None:
    answer(model)


def sacrifice_a_class(batch: Batch) -> NDArray[np.float32]:
    rows = of_its_batch(batch)
    rows[:, 0] = -1e7
    return rows


@pytest.mark.parametrize(
    "model",
    [
        of_its_batch,
        Drifts(),
        Noisy(0.1),
        # No scale, offset or large constant hides a change.
        lambda batch: of_its_batch(batch) * 1e-6,
        lambda batch: of_its_batch(batch) * 1e30,
        lambda batch: of_its_batch(batch) + 1e5,
        sacrifice_a_class,
    ],
)
def test_what_depends_on_the_company_is_not(model: Model) -> None:
    with pytest.raises(BadAnswer, match="depend on the other images in the batch") as error:
        answer(model)
    assert "running statistics in evaluation mode" in str(error.value)


def test_the_first_answer_counts() -> None:
    rows = answer(Noisy(1e-5))
    by_first = np.zeros_like(LOGITS)
    noisy, known = Noisy(1e-5), set()
    for batch in shuffled(COUNT, 32, "key"):
        for index, row in zip(batch, noisy(batch), strict=True):
            if index not in known:
                by_first[index] = row
                known.add(index)
    np.testing.assert_array_equal(rows, by_first)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_every_number_is_finite(value: float) -> None:
    def model(batch: Batch) -> NDArray[np.float32]:
        rows = honest(batch)
        rows[-1, -1] = value
        return rows

    with pytest.raises(BadAnswer, match="NaN or infinite"):
        answer(model)
