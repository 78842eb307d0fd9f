"""Augmentation against scipy, torch and torchvision, and the normalisation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torchvision.transforms.v2 import functional as reference

from benchmark.errors import ManifestError
from benchmark.images import augment
from benchmark.images.augment import (
    Transforms,
    affine,
    color_jitter,
    draw_windows,
    grayscale,
    horizontal_flip,
    random_resized_crop,
    resize,
    resized_crops,
)
from benchmark.images.colours import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    grey,
)
from benchmark.manifest.catalogue import load_manifest

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
        unflipped = (out == images[0]).all((1, 2, 3))
        assert (flipped ^ unflipped).all()
        assert 0.15 < flipped.float().mean() < 0.35


class TestGrayscale:
    def test_it_takes_the_colour_from_some_images(self, images):
        many = images[:1].expand(400, -1, -1, -1)
        out = grayscale(0.1)(many, generator())
        without = (out == grey(images[:1])).all((1, 2, 3))
        assert (without ^ (out == images[0]).all((1, 2, 3))).all()
        assert 0.05 < without.float().mean() < 0.16


class TestColorJitter:
    def test_without_any_range_it_is_the_identity(self, images):
        assert torch.equal(color_jitter()(images, generator()), images)

    def test_of_one_property_is_that_change_within_its_range(self):
        white = torch.full((400, 3, 2, 2), 0.5)
        factors = color_jitter(brightness=0.3)(white, generator())[:, 0, 0, 0] / 0.5
        assert factors.min() == pytest.approx(0.7, abs=0.01)
        assert factors.max() == pytest.approx(1.3, abs=0.01)

    def test_the_order_is_drawn_for_each_image(self, images):
        """With the factors at their ends, each of the 24 orders gives a different image."""
        jitter = color_jitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.3)
        draw = torch.rand(2, 300, 4, generator=generator())
        out = jitter(images[:1].expand(300, -1, -1, -1), generator())
        changes = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)
        orders = set()
        for i in range(300):
            expected = images[:1]
            order = draw[1, i].argsort().tolist()
            for number in order:
                factor = draw[0, i, number] * 0.6 + (-0.3 if number == 3 else 0.7)
                expected = changes[number](expected, factor.view(1, 1, 1, 1))
            torch.testing.assert_close(out[i : i + 1], expected, rtol=1e-4, atol=1e-5)
            orders.add(tuple(order))
        assert len(orders) == 24

    def test_the_images_that_were_passed_in_stay_as_they_are(self, images):
        before = images.clone()
        color_jitter(brightness=0.5, hue=0.2)(images, generator())
        assert torch.equal(images, before)


class TestCrop:
    @pytest.fixture
    def photo(self):
        return torch.rand(4, 3, 40, 50, generator=torch.Generator().manual_seed(4))

    @pytest.mark.parametrize("size", [8, 24, 64])
    def test_a_window_is_resized_as_torchvision_does(self, photo, size):
        windows = torch.tensor([[0, 0, 40, 50], [3, 5, 20, 16], [30, 1, 10, 49], [39, 49, 1, 1]])
        out = resized_crops(photo, windows, size)
        for image, window, ours in zip(photo, windows.tolist(), out, strict=True):
            theirs = reference.resized_crop(image, *window, [size, size], antialias=True)
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("size", [96, 224, 300])
    def test_large_images_are_resized_as_torchvision_does(self, size):
        """Exactly, and as the matrix products for small images do it."""
        photos = torch.rand(2, 3, 256, 200, generator=generator())
        windows = torch.tensor([[3, 5, 230, 190], [100, 40, 60, 45]])
        out = resized_crops(photos, windows, size)
        for photo, window, ours in zip(photos, windows.tolist(), out, strict=True):
            theirs = reference.resized_crop(photo, *window, [size, size], antialias=True)
            assert torch.equal(ours, theirs)
        by_products = augment._by_products(photos, windows, size)
        torch.testing.assert_close(out, by_products, rtol=0, atol=1e-4)
        whole = reference.resize(photos, [size, size], antialias=True)
        assert torch.equal(resize(photos, size), whole)

    @pytest.mark.parametrize("size", [8, 40, 224])
    def test_resize_is_that_of_torchvision(self, photo, size):
        theirs = reference.resize(photo, [size, size], antialias=True)
        torch.testing.assert_close(resize(photo, size), theirs, rtol=1e-4, atol=1e-5)

    def test_windows_keep_to_the_ranges_of_area_and_aspect(self):
        top, left, height, width = draw_windows(
            4000, 224, 224, (0.3, 0.6), (0.75, 4 / 3), generator()
        ).T
        area, aspect = height * width / 224**2, width / height
        assert 0.295 < area.min() < 0.31
        assert 0.59 < area.max() < 0.605
        assert area.mean() == pytest.approx(0.45, abs=0.01)
        assert 0.74 < aspect.min() < 0.76
        assert 1.32 < aspect.max() < 1.345
        assert aspect.log().mean() == pytest.approx(0, abs=0.01)
        for corner, length in ((top, height), (left, width)):
            share = corner / (224 - length)
            assert corner.min() >= 0
            assert (corner + length <= 224).all()
            assert share.mean() == pytest.approx(0.5, abs=0.02)

    def test_where_no_window_fits_it_is_the_largest_allowed_in_the_middle(self):
        """A quarter as high as wide: the whole height, and a third more than that in width."""
        windows = draw_windows(3, 25, 100, (1, 1), (0.75, 4 / 3), generator())
        assert windows.tolist() == [[0, 33, 25, 33]] * 3

    def test_each_image_has_its_own_window(self, photo):
        crop = random_resized_crop(scale=(0.3, 1.0), size=16)
        out = crop(photo[:1].expand(5, -1, -1, -1), generator())
        assert out.shape == (5, 3, 16, 16)
        assert len({image.numpy().tobytes() for image in out}) == 5

    def test_the_result_of_an_image_does_not_depend_on_others(self, photo):
        crop = random_resized_crop(scale=(0.3, 1.0), size=16)
        other = torch.cat([photo[:1], torch.rand(3, 3, 40, 50)])
        torch.testing.assert_close(crop(photo, generator())[0], crop(other, generator())[0])

    @pytest.mark.parametrize("scale", [(0.0, 1.0), (0.8, 0.5), (0.5, 1.5)])
    def test_an_invalid_range_is_refused(self, scale):
        with pytest.raises(ValueError, match="each must be two positive numbers"):
            random_resized_crop(scale=scale)


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

    def test_evaluation_resizes_the_whole_image(self, raw):
        out = Transforms(self.SETTINGS | {"size": 6}).evaluate(raw)
        floats = reference.resize(raw / 255, [6, 6], antialias=True)
        expected = reference.normalize(floats, self.SETTINGS["mean"], self.SETTINGS["std"])
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(
        "train",
        [[], [FLIP], [{"op": "random-resized-crop", "scale": [0.5, 1.0]}, FLIP]],
    )
    def test_training_images_come_at_the_same_size(self, raw, train):
        transforms = Transforms(self.SETTINGS | {"size": 6, "train": train})
        assert transforms.augment(raw, generator()).shape == (2, 3, 6, 6)

    def test_without_a_size_a_crop_keeps_that_of_the_store(self, raw):
        crop = {"op": "random-resized-crop", "scale": [0.5, 1.0], "ratio": [0.75, 1.25]}
        out = Transforms(self.SETTINGS | {"train": [crop]}).augment(raw, generator())
        assert out.shape == raw.shape

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"size": "large"}, "size is 'large'"),
            ({"train": [{"op": "color-jitter", "hue": 0.6}]}, "hue must be at most 0.5"),
            ({"train": [{"op": "mirror"}]}, "unknown operation 'mirror'; known: affine, "),
            ({"train": [{"p": 0.5}]}, "unknown operation None"),
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


class TestOfficeHome:
    """All operations of office-home, on images of its size."""

    SETTINGS = load_manifest("office-home@1.0").document["transforms"]

    @pytest.fixture
    def raw(self):
        """Smooth images, as photos are, with some noise."""
        coarse = torch.rand(8, 3, 16, 16, generator=generator(1))
        images = resize(coarse, 256) + 0.05 * torch.rand(8, 3, 256, 256, generator=generator(2))
        return (images.clamp(0, 1) * 255).to(torch.uint8)

    def test_it_is_what_torchvision_does_with_the_same_draws(self, raw):
        """To 1e-5, a 400th of a step of 8 bits; windows are cropped as bytes.

        A window of bytes differs from one of floats by at most a step.
        """
        out = Transforms(self.SETTINGS).augment(raw, generator())
        draws, draw = [], generator()
        for operation in Transforms(self.SETTINGS)._train:
            draws.append(operation.draw(len(raw), 256, 256, draw))
        (windows,), (flipped,), (factors, orders), (without_colour,) = draws
        changes = (
            reference.adjust_brightness,
            reference.adjust_contrast,
            reference.adjust_saturation,
            reference.adjust_hue,
        )
        for i, image in enumerate(raw):
            window = windows[i].tolist()
            expected = reference.resized_crop(image, *window, [224, 224]) / 255
            floats = reference.resized_crop(image / 255, *window, [224, 224])
            torch.testing.assert_close(expected, floats, rtol=0, atol=1.01 / 255)
            if flipped[i]:
                expected = reference.horizontal_flip(expected)
            for number in orders[i].tolist():
                expected = changes[number](expected, float(factors[i, number]))
            if without_colour[i]:
                expected = reference.rgb_to_grayscale(expected, num_output_channels=3)
            std = torch.tensor(self.SETTINGS["std"]).view(3, 1, 1)
            mean = torch.tensor(self.SETTINGS["mean"]).view(3, 1, 1)
            torch.testing.assert_close(out[i] * std + mean, expected, rtol=0, atol=1e-5)
        assert 0 < flipped.sum() < 8

    def test_an_image_does_not_depend_on_the_others_of_its_batch(self, raw):
        other = torch.cat([raw[:1], raw[3:].flip(0)])
        transforms = Transforms(self.SETTINGS | {"train": self.SETTINGS["train"][:2]})
        first = transforms.augment(raw[:6], generator())[0]
        assert torch.equal(first, transforms.augment(other, generator())[0])

    @pytest.mark.parametrize("operations", [0, 2, 4])
    @pytest.mark.parametrize("size", [None, 224, 256])
    def test_the_layout_of_the_images_does_not_change_a_byte(self, raw, operations, size):
        settings = self.SETTINGS | {"train": self.SETTINGS["train"][:operations], "size": size}
        transforms = Transforms({key: value for key, value in settings.items() if value})
        interleaved = raw.to(memory_format=torch.channels_last)
        assert interleaved.stride() != raw.stride()
        for prepare in (
            transforms.evaluate,
            lambda images: transforms.augment(images, generator()),
        ):
            planes, pixels = prepare(raw), prepare(interleaved)
            assert torch.equal(planes, pixels)
            assert planes.stride() == pixels.stride()

    def test_the_number_of_threads_does_not_change_a_byte(self, raw):
        before = torch.get_num_threads()
        results = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(Transforms(self.SETTINGS).augment(raw[:3], generator()))
        torch.set_num_threads(before)
        assert torch.equal(*results)


@pytest.mark.parametrize("name", ["icons@2.0", "icons-pretrained@2.0"])
def test_a_block_of_images_is_what_it_is_in_the_whole_batch(name, monkeypatch):
    """The published results of these were computed on whole batches."""
    transforms = Transforms(load_manifest(name).document["transforms"])
    raw = torch.randint(256, (150, 3, 32, 32), dtype=torch.uint8, generator=generator())
    in_blocks = transforms.augment(raw, generator()), transforms.evaluate(raw)
    monkeypatch.setattr(augment, "BLOCK_PIXELS", raw.numel())
    whole = transforms.augment(raw, generator()), transforms.evaluate(raw)
    for blocks, batch in zip(in_blocks, whole, strict=True):
        assert torch.equal(blocks, batch)
        assert blocks.stride() == batch.stride()
