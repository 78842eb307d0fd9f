"""Skip the tests of this folder where torch finds no NVIDIA GPU."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(scope="session", autouse=True)
def cuda() -> None:
    """Skip without a GPU; torch is imported here, so that collecting loads none."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device")
