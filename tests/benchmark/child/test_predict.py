"""Logits must have one finite column per class, and must not depend on the batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmark.child.job import ContractError
from benchmark.child.predict import _check_batch_independence, _check_logits
from benchmark.images.augment import Transforms
from benchmark.method import Run, TrainingRecipe
from benchmark.numerics import Streams
from benchmark.training import predict

TRANSFORMS = {"mean": [0.5] * 3, "std": [0.25] * 3, "train": []}


class Linear(nn.Module):
    """Five classes from the pixels; in training mode the batch's mean is subtracted."""

    def __init__(self, *, of_batch: bool) -> None:
        super().__init__()
        self.of_batch = of_batch
        self.weights = torch.randn(5, 3 * 8 * 8, generator=torch.Generator().manual_seed(0))

    def forward(self, images: Tensor) -> Tensor:
        flat = images.flatten(1)
        return (flat - flat.mean(0) if self.of_batch else flat) @ self.weights.T


@pytest.fixture
def run(tmp_path: Path) -> Run:
    recipe = TrainingRecipe(1, 4, 0.1, 0.1, 0.9, True, 0.0)
    return Run(torch.device("cpu"), recipe, Transforms(TRANSFORMS), Streams(0), tmp_path)


@pytest.fixture
def images() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8, generator=generator)


def test_a_model_that_takes_each_image_alone(run: Run, images: Tensor) -> None:
    model = Linear(of_batch=False)
    _check_batch_independence(model, images, predict(model, images, run), run)


def test_a_model_that_looks_at_its_batch(run: Run, images: Tensor) -> None:
    model = Linear(of_batch=True)
    with pytest.raises(ContractError, match="depend on the other images in the batch"):
        _check_batch_independence(model, images, predict(model, images, run), run)


def test_logits_of_another_width() -> None:
    with pytest.raises(ContractError, match=r"shape \(4, 2\) for 4 images.*\(4, 3\)"):
        _check_logits(torch.zeros(4, 2), 4, 3)


def test_logits_that_are_not_finite() -> None:
    logits = torch.zeros(4, 3)
    _check_logits(logits, 4, 3)
    logits[1, 0], logits[1, 2], logits[3, 1] = float("nan"), float("inf"), float("-inf")
    with pytest.raises(ContractError, match="NaN or infinite logits for 2 of 4 images"):
        _check_logits(logits, 4, 3)
