"""Logits must be a finite tensor with one column per class."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.child.job import ContractError
from benchmark.child.predict import check_logits, predict_logits
from benchmark.images.augment import Transforms
from benchmark.method import Run, TrainingRecipe
from benchmark.numerics import Streams


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


class Head(torch.nn.Module):
    """Converts the images to some precision, if any, and maps them to three logits."""

    def __init__(self, dtype: torch.dtype | None = None, width: int = 3 * 32 * 32) -> None:
        super().__init__()
        self.dtype, self.linear = dtype, torch.nn.Linear(width, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.linear(images.flatten(1).to(self.dtype or images.dtype))


IMAGES = torch.zeros(4, 3, 32, 32, dtype=torch.uint8)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    transforms = Transforms({"mean": [0.5] * 3, "std": [0.25] * 3, "train": []})
    recipe = TrainingRecipe(1, 4, 0.1, 0.1, 0.9, nesterov=True, weight_decay=0.0)
    return Run(torch.device("cpu"), recipe, transforms, Streams(0), tmp_path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_model_of_another_precision(run: Run, dtype: torch.dtype) -> None:
    with pytest.raises(ContractError, match=rf"weights of {dtype}; return model.float\(\), or"):
        predict_logits(Head().to(dtype), IMAGES, run, 3)
    if dtype != torch.float16:  # which a CPU does not have for every operation
        model = Head(dtype).to(dtype)
        assert predict_logits(model, IMAGES, run, 3).dtype == dtype


def test_another_error_of_a_model_is_its_own(run: Run) -> None:
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        predict_logits(Head(width=3), IMAGES, run, 3)
