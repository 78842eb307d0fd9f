"""Augmentation against scipy and torch, and the normalisation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from benchmark.errors import ManifestError
from benchmark.images.augment import Transforms, affine, horizontal_flip

SIDE = 12


@pytest.fixture
def images():
    return torch.rand(5, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(4))


def generator(seed: int = 7) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def by_scipy(image, angle, zoom, shift):
    """Rotate anticlockwise by ``angle`` and zoom about the centre, then sample ``shift`` further.

    ``shift`` is (right, down) in pixels; the border is repeated, interpolation is linear.
    """
    right, down = shift
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    matrix = turn / zoom  # of (row, column), from the output to the input
    centre = np.full(2, (SIDE - 1) / 2)
    offset = centre - matrix @ centre + np.array([down, right])
    return np.stack(
        [ndimage.affine_transform(c, matrix, offset, order=1, mode="nearest") for c in image]
    )


class TestAffine:
    def test_without_any_range_it_is_the_identity(self, images):
        same = affine(degrees=0, translate=0, scale=(1, 1))(images, generator())
        torch.testing.assert_close(same, images)

    def test_it_is_what_scipy_does_with_the_same_draws(self, images):
        out = affine(degrees=30, translate=0.2, scale=(0.8, 1.3))(images, generator())
        draw = torch.rand(4, len(images), generator=generator()).numpy()
        for i, image in enumerate(images.numpy()):
            expected = by_scipy(
                image,
                angle=math.radians(30) * (2 * draw[0, i] - 1),
                zoom=0.8 + 0.5 * draw[1, i],
                shift=0.2 * SIDE * (2 * draw[2:, i] - 1),
            )
            np.testing.assert_allclose(out[i], expected, atol=1e-4)

    def test_a_fixed_zoom_of_2_shows_the_middle(self):
        ramp = torch.arange(SIDE, dtype=torch.float32).expand(1, 3, SIDE, SIDE).clone()
        out = affine(degrees=0, translate=0, scale=(2, 2))(ramp, generator())
        centre = (SIDE - 1) / 2
        torch.testing.assert_close(out[0, 0, 0], centre + (torch.arange(SIDE) - centre) / 2)

    def test_every_image_has_its_own_draw(self, images):
        out = affine(degrees=10, translate=0.1, scale=(0.9, 1.1))(
            images[:1].expand(5, -1, -1, -1), generator()
        )
        assert len({image.numpy().tobytes() for image in out}) == 5

    def test_shifts_stay_within_their_range(self):
        """On a ramp a shift is the change of the middle pixel."""
        ramp = torch.arange(SIDE, dtype=torch.float32).expand(400, 3, SIDE, SIDE)
        out = affine(degrees=0, translate=0.25, scale=(1, 1))(ramp.clone(), generator())
        shifts = (out - ramp)[:, 0, SIDE // 2, SIDE // 2]
        assert 2.9 < shifts.max() <= 3
        assert -3 <= shifts.min() < -2.9


class TestFlip:
    def test_always_and_never(self, images):
        assert torch.equal(horizontal_flip(1)(images, generator()), images.flip(-1))
        assert torch.equal(horizontal_flip(0)(images, generator()), images)

    def test_each_image_by_itself(self, images):
        many = images[:1].expand(400, -1, -1, -1)
        out = horizontal_flip(0.25)(many, generator())
        flipped = (out == images[0].flip(-1)).all((1, 2, 3))
        kept = (out == images[0]).all((1, 2, 3))
        assert (flipped ^ kept).all()
        assert 0.15 < flipped.float().mean() < 0.35


class TestTransforms:
    SETTINGS = {"mean": [0.5, 0.4, 0.3], "std": [0.25, 0.2, 0.1]}
    FLIP = {"op": "horizontal-flip", "p": 1.0}

    @pytest.fixture
    def raw(self):
        return torch.arange(2 * 3 * 16, dtype=torch.uint8).view(2, 3, 4, 4)

    def test_evaluation_is_pixel_over_255_less_mean_over_std(self, raw):
        before = raw.clone()
        out = Transforms(self.SETTINGS | {"train": [self.FLIP]}).evaluate(raw)
        mean = np.array(self.SETTINGS["mean"]).reshape(3, 1, 1)
        std = np.array(self.SETTINGS["std"]).reshape(3, 1, 1)
        np.testing.assert_allclose(out, (raw.numpy() / 255 - mean) / std, rtol=1e-5, atol=1e-6)
        assert out.dtype == torch.float32
        assert torch.equal(raw, before)

    def test_training_applies_the_operations_in_order_then_normalises(self, raw):
        enlarge = {"op": "affine", "degrees": 20.0, "translate": 0.1, "scale": [1.5, 2.0]}
        transforms = Transforms(self.SETTINGS | {"train": [enlarge, self.FLIP]})
        out = transforms.augment(raw, generator())
        zoomed = affine(degrees=20, translate=0.1, scale=(1.5, 2.0))(raw / 255, generator())
        expected = Transforms(self.SETTINGS).evaluate((zoomed.flip(-1) * 255).double())
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)

    def test_the_generator_alone_decides(self, raw):
        transforms = Transforms(self.SETTINGS | {"train": [self.FLIP | {"p": 0.5}]})
        first = transforms.augment(raw.repeat(8, 1, 1, 1), generator(1))
        assert torch.equal(first, transforms.augment(raw.repeat(8, 1, 1, 1), generator(1)))
        assert not torch.equal(first, transforms.augment(raw.repeat(8, 1, 1, 1), generator(2)))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"train": [{"op": "mirror"}]}, "unknown op 'mirror'; known: affine, horizontal-flip"),
            ({"train": [{"p": 0.5}]}, "unknown op None"),
            ({"train": [{"op": "horizontal-flip", "chance": 0.5}]}, "chance"),
            ({"mean": [0.5]}, "shape"),
        ],
    )
    def test_a_wrong_table_is_a_manifest_error(self, change, message):
        with pytest.raises(ManifestError, match=message):
            Transforms(self.SETTINGS | change)

    def test_a_lacking_key_is_a_manifest_error(self):
        with pytest.raises(ManifestError, match="std"):
            Transforms({"mean": [0.5, 0.5, 0.5]})
