"""Logits must be a finite tensor with one column per class."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch

from benchmark.child.job import ContractError
from benchmark.child.predict import check_logits


class ModelOutput(OrderedDict[str, Any]):
    """As models of the transformers library return it."""


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ((torch.zeros(4, 3), torch.zeros(4, 8)), "a tuple of 2"),
        ([torch.zeros(4, 3)], "a list of 1"),
        ({"logits": torch.zeros(4, 3), "features": 1}, "a dict with logits, features"),
        ({}, "a dict with no entries"),
        (ModelOutput(logits=torch.zeros(4, 3)), "a ModelOutput with logits"),
        (None, "None"),
        (torch.zeros(4, 3).numpy(), "a ndarray"),
    ],
)
def test_only_a_tensor_will_do(value: object, words: str) -> None:
    with pytest.raises(ContractError, match=f"gives {words} instead of a tensor of logits") as e:
        check_logits(value, 4, 3)
    assert "must return one tensor, (4, 3) for 4 images" in str(e.value)
    assert "whose forward() returns only the logits" in str(e.value)


@pytest.mark.parametrize("shape", [(4, 2), (4,), (3, 3), (4, 3, 1), ()])
def test_logits_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ContractError, match=r"for 4 images.*\(4, 3\)"):
        check_logits(torch.zeros(shape), 4, 3)


def test_logits_that_are_not_finite() -> None:
    logits = torch.zeros(4, 3)
    assert check_logits(logits, 4, 3) is logits
    logits[1, 0], logits[1, 2], logits[3, 1] = float("nan"), float("inf"), float("-inf")
    with pytest.raises(ContractError, match="NaN or infinite logits for 2 of 4 images"):
        check_logits(logits, 4, 3)
