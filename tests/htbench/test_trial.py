"""A trial judges a method on images that it held out of the training images of seen classes."""

from __future__ import annotations

import pytest
import torch

from benchmark.errors import UsageError
from benchmark.method import TargetData
from htbench.trial import _fold


def test_a_trial_without_held_out_images_is_refused() -> None:
    images, labels = torch.zeros(8, 3, 4, 4, dtype=torch.uint8), torch.arange(8)
    whole = TargetData(images, labels, tuple("abcdefgh"), labels >= 0)
    with pytest.raises(UsageError, match="task a-b has no image to hold out"):
        _fold(whole, 0, "a-b")
