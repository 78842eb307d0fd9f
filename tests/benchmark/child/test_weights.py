"""A network is timed on as few images as tell how long a step takes."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmark.child import weights


class Slow(nn.Module):
    """Takes some seconds for an image, and keeps the sizes of its batches."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds, self.sizes = seconds, list[int]()
        self.head = nn.Linear(1, 2)

    def forward(self, images: Tensor) -> Tensor:
        self.sizes.append(len(images))
        time.sleep(self.seconds * len(images))
        logits: Tensor = self.head(images.mean((1, 2, 3))[:, None])
        return logits


@pytest.mark.parametrize(("seconds", "sizes"), [(0.02, [4, 4]), (0.0, [4, 64, 64])])
def test_a_slow_network_is_timed_on_a_few_images(seconds: float, sizes: list[int]) -> None:
    run: Any = SimpleNamespace(device=torch.device("cpu"), recipe=SimpleNamespace(batch_size=64))
    model = Slow(seconds)
    times = weights._time(model, run, 8)
    assert model.sizes == sizes
    assert times["step_seconds"] >= 64 * seconds
    assert times["image_seconds"] >= seconds
