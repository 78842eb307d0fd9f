"""Colour changes against torchvision's functions, with the same factors on the same floats."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from benchmark.images.colours import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    grey,
)


@pytest.fixture
def images():
    """Random colours, greys, corners of the colour cube, and colours with two equal channels."""
    images = torch.rand(6, 3, 12, 12, generator=torch.Generator().manual_seed(4))
    images[0, 0] = images[0, 1] = images[0, 2]
    images[1] = images[1].round()
    for number, (one, other) in enumerate([(0, 1), (1, 2), (0, 2)], start=2):
        images[number, one] = images[number, other]
    return images


@pytest.mark.parametrize(
    ("ours", "theirs", "factors"),
    [
        (adjust_brightness, reference.adjust_brightness, (0.0, 0.4, 1.0, 1.7)),
        (adjust_contrast, reference.adjust_contrast, (0.0, 0.4, 1.0, 1.7)),
        (adjust_saturation, reference.adjust_saturation, (0.0, 0.4, 1.0, 1.7)),
        (adjust_hue, reference.adjust_hue, torch.linspace(-0.5, 0.5, 37).tolist()),
    ],
)
def test_a_change_is_that_of_torchvision(images, ours, theirs, factors):
    before = images.clone()
    for factor in factors:
        torch.testing.assert_close(
            ours(images, torch.full((6, 1, 1, 1), factor)),
            theirs(images, factor),
            rtol=0,
            atol=5e-6,
        )
    assert torch.equal(images, before)


def test_a_turn_of_no_hue_changes_nothing(images):
    torch.testing.assert_close(adjust_hue(images, torch.zeros(6, 1, 1, 1)), images)


def test_every_image_has_its_own_factor(images):
    factors = torch.linspace(0.5, 1.5, 6).view(-1, 1, 1, 1)
    for change in (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue):
        turns = factors - 1 if change is adjust_hue else factors
        alone = [change(images[i : i + 1], turns[i : i + 1]) for i in range(6)]
        torch.testing.assert_close(change(images, turns), torch.cat(alone))


def test_grey_is_that_of_torchvision(images):
    torch.testing.assert_close(grey(images), reference.rgb_to_grayscale(images))
