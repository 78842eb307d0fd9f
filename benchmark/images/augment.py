"""Crop, flip, affine and colour augmentation of whole batches, on the device of the images.

Random numbers are drawn on the CPU from the run's ``augmentation`` stream, so that a seed gives
the same crops on every device; only pixels are processed on the device. The operations equal
torchvision's of the same names, on floats in [0, 1]: unlike in a chain of PIL images, no
intermediate result is rounded to 8 bits. The exception is a crop of a large image on a CPU, which
equals torchvision's on bytes and takes a quarter of the time.

On a CPU, a batch is processed in blocks that fit the cache of a core: each passes through all
operations before the next, because memory is slower than the computation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.errors import ManifestError
from benchmark.images import LARGE_PIXELS
from benchmark.images.colours import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    grey,
)

TRIES = 10  # to draw a window, as in torchvision
MAX_SIDE = 4096
BLOCK_PIXELS = 1 << 16  # of the stored images of a block


@dataclass(frozen=True)
class Operation:
    """A random change of images.

    Attributes:
        draw: draws from a generator for a number of images of a height and a width; returns
            tensors on the CPU with one row per image.
        apply: returns float images (N, 3, H, W) changed as these tensors say, each independently.
        shape: height and width of the results, from those of the images.
        on_bytes: whether ``apply`` takes and returns these images as uint8, 255 times as large.
    """

    draw: Callable[[int, int, int, torch.Generator], Sequence[Tensor]]
    apply: Callable[..., Tensor]
    shape: Callable[[int, int], tuple[int, int]] = lambda height, width: (height, width)
    on_bytes: Callable[[Tensor], bool] = lambda images: False

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Draw and apply."""
        height, width = images.shape[-2:]
        return self.apply(images, *self.draw(len(images), height, width, generator))


class Transforms:
    """The transforms of a manifest's ``[transforms]`` table, for training and for evaluation.

    Args:
        settings: ``mean`` and ``std`` of three numbers each (of pixels in [0, 1]); ``train``, a
            list of tables ``{op = name, ...}`` applied in order; and ``size``, the side in pixels
            of the network's input, if it differs from the stored size.

    Raises:
        ManifestError: an unknown operation or a wrong field.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        try:
            self._mean = torch.tensor(settings["mean"]).view(1, 3, 1, 1)
            self._std = torch.tensor(settings["std"]).view(1, 3, 1, 1)
            self._of_rows: dict[int, tuple[Tensor, Tensor]] = {}  # both, for rows of that width
            self._size = _side(settings.get("size"))
            self._train = [_operation(entry, self._size) for entry in settings.get("train", [])]
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ManifestError(f"invalid [transforms] in the manifest: {error}") from None

    def evaluate(self, images: Tensor) -> Tensor:
        """Prepare uint8 images (N, 3, H, W) for the network: float32, resized, normalised.

        The whole image is resized to a square, without a crop.
        """
        return self._in_blocks(images, [], images.shape[-2:])

    def augment(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Like :meth:`evaluate`, with a training augmentation drawn separately for every image.

        Images that do not have the network's size after all operations are resized.
        """
        height, width = images.shape[-2:]
        draws = []
        for operation in self._train:
            draws.append(operation.draw(len(images), height, width, generator))
            height, width = operation.shape(height, width)
        return self._in_blocks(images, draws, (height, width))

    def _in_blocks(
        self, images: Tensor, draws: Sequence[Sequence[Tensor]], shape: Sequence[int]
    ) -> Tensor:
        """Prepare images.

        Args:
            images: uint8.
            draws: what was drawn for each operation; empty for evaluation.
            shape: height and width after the operations.
        """
        shape = shape if self._size is None else (self._size, self._size)
        # Channels last: a training step of the small network on a CPU takes a third less time.
        out = torch.empty(
            (*images.shape[:2], *shape), device=images.device, memory_format=torch.channels_last
        )
        size = _block_size(images)
        for start in range(0, len(images), size):
            rows = slice(start, start + size)
            block_draws = [[drawn[rows] for drawn in of_operation] for of_operation in draws]
            out[rows] = self._prepare(images[rows], block_draws)
        return out

    def _prepare(self, images: Tensor, draws: Sequence[Sequence[Tensor]]) -> Tensor:
        steps = [*zip(self._train, draws, strict=False)]  # none for evaluation
        while steps and steps[0][0].on_bytes(images):
            operation, drawn = steps.pop(0)
            images = operation.apply(images, *drawn)
        # Operations on floats round as they do for planes, in whichever layout the images are.
        # Interleaved bytes that need no more operations stay interleaved, as the batch is.
        planes = bool(steps) or self._resizes(images)
        layout = torch.contiguous_format if planes else torch.preserve_format
        floats = images.to(torch.float32, memory_format=layout).div_(255)
        for operation, drawn in steps:
            floats = operation.apply(floats, *drawn)
        if self._size is not None and self._resizes(floats):
            floats = resize(floats, self._size)
        return self._normalise(floats)

    def _normalise(self, images: Tensor) -> Tensor:
        mean, std = self._mean.to(images.device), self._std.to(images.device)
        interleaved = images.is_contiguous(memory_format=torch.channels_last)
        if interleaved and images.stride(1) == 1 and images.device.type == "cpu":
            # In rows of pixels, because torch computes three values at a time slowly.
            count, channels, height, width = images.shape
            rows = images.permute(0, 2, 3, 1).reshape(count * height, width * channels)
            if width not in self._of_rows:
                self._of_rows[width] = (mean.view(-1).repeat(width), std.view(-1).repeat(width))
            mean, std = self._of_rows[width]
            normalised = (rows - mean).div_(std).view(count, height, width, channels)
            return normalised.permute(0, 3, 1, 2)
        return (images - mean).div_(std)

    def _resizes(self, images: Tensor) -> bool:
        return self._size is not None and images.shape[-2:] != (self._size, self._size)


def _block_size(images: Tensor) -> int:
    """How many images are processed together."""
    if images.device.type != "cpu":
        return len(images)
    return max(1, BLOCK_PIXELS // images.shape[-2:].numel())


def affine(degrees: float, translate: float, scale: tuple[float, float]) -> Operation:
    """Rotate, scale and shift each image, bilinear, with the border pixels repeated outwards.

    Args:
        degrees: rotation is uniform in [-degrees, degrees].
        translate: shift is uniform in [-translate, translate] of the side, per axis.
        scale: zoom factor, uniform in [low, high].
    """
    low, high = scale

    def draw_thetas(
        count: int, height: int, width: int, generator: torch.Generator
    ) -> Sequence[Tensor]:
        draw = torch.rand(4, count, generator=generator)
        angle = (2 * draw[0] - 1) * math.radians(degrees)
        zoom = low + (high - low) * draw[1]
        # theta maps output to input coordinates, so a zoom of 2 halves the sampled window.
        cosine, sine = torch.cos(angle) / zoom, torch.sin(angle) / zoom
        shift = (2 * draw[2:] - 1) * 2 * translate  # grid coordinates span 2
        theta = torch.stack([cosine, -sine, shift[0], sine, cosine, shift[1]], dim=1)
        return (theta.view(-1, 2, 3),)

    def apply(images: Tensor, theta: Tensor) -> Tensor:
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        return F.grid_sample(
            images, grid.to(images.device), padding_mode="border", align_corners=False
        )

    return Operation(draw_thetas, apply)


def horizontal_flip(p: float) -> Operation:
    """Mirror each image left to right with probability ``p``."""
    return replace(_sometimes(p, lambda images: images.flip(-1)), on_bytes=lambda images: True)


def grayscale(p: float) -> Operation:
    """Convert each image to three equal grey channels with probability ``p``."""
    return _sometimes(p, lambda images: grey(images).expand_as(images))


def _sometimes(p: float, change: Callable[[Tensor], Tensor]) -> Operation:
    """Change each image with probability ``p``."""

    def draw(count: int, height: int, width: int, generator: torch.Generator) -> Sequence[Tensor]:
        return (torch.rand(count, generator=generator) < p,)

    def apply(images: Tensor, chosen: Tensor) -> Tensor:
        if not chosen.any():
            return images
        if chosen.all():
            return change(images)
        return torch.where(chosen.to(images.device).view(-1, 1, 1, 1), change(images), images)

    return Operation(draw, apply)


def random_resized_crop(
    scale: tuple[float, float],
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    size: int | None = None,
) -> Operation:
    """Crop a random window of each image and resize it, bilinear with antialiasing.

    A window is drawn as in torchvision: the first of ten random areas and aspects that fits, then
    a position, in whole pixels. If none fits, it is the largest centred window with an allowed
    aspect.

    Args:
        scale: area of the window as a share of the image's, uniform in [low, high].
        ratio: width over height, its logarithm uniform between those of [low, high].
        size: side of the result in pixels; default: the network's, else the image's height.
    """
    (low, high), (narrow, wide) = scale, ratio
    if not (0 < low <= high <= 1 and 0 < narrow <= wide):
        raise ValueError(
            f"random-resized-crop: scale is {scale} and ratio is {ratio}; each must be two "
            "positive numbers, the smaller one first, and scale at most 1"
        )
    size = _side(size)

    def draw(count: int, height: int, width: int, generator: torch.Generator) -> Sequence[Tensor]:
        return (draw_windows(count, height, width, scale, ratio, generator),)

    def apply(images: Tensor, windows: Tensor) -> Tensor:
        return resized_crops(images, windows, size or images.shape[-2])

    return Operation(
        draw,
        apply,
        shape=lambda height, width: (size or height, size or height),
        on_bytes=_one_by_one,
    )


def draw_windows(
    count: int,
    height: int,
    width: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    generator: torch.Generator,
) -> Tensor:
    """Draw windows, int64 (count, 4): top, left, height, width. See :func:`random_resized_crop`."""
    draw = torch.rand(count, 2 * TRIES + 2, generator=generator, dtype=torch.float64)
    area = height * width * (scale[0] + (scale[1] - scale[0]) * draw[:, :TRIES])
    logs = math.log(ratio[0]), math.log(ratio[1])
    aspect = torch.exp(logs[0] + (logs[1] - logs[0]) * draw[:, TRIES : 2 * TRIES])
    heights = torch.sqrt(area / aspect).round().long()
    widths = torch.sqrt(area * aspect).round().long()
    fits = (heights > 0) & (heights <= height) & (widths > 0) & (widths <= width)
    first = fits.int().argmax(dim=1, keepdim=True)
    size = torch.cat([heights.gather(1, first), widths.gather(1, first)], dim=1)
    room = torch.tensor([height, width]) - size
    corner = (draw[:, 2 * TRIES :] * (room + 1)).long()
    whole = torch.tensor([height, width])
    if width / height < ratio[0]:
        whole[0] = round(width / ratio[0])
    elif width / height > ratio[1]:
        whole[1] = round(height * ratio[1])
    middle = torch.cat([(torch.tensor([height, width]) - whole) // 2, whole])
    return torch.where(fits.any(dim=1, keepdim=True), torch.cat([corner, size], dim=1), middle)


def resized_crops(images: Tensor, windows: Tensor, size: int) -> Tensor:
    """Crop windows (N, 4) of images (N, C, H, W) and resize them to (size, size).

    Bilinear, with antialiasing where a window is larger than the result, like torchvision's
    ``resized_crop(antialias=True)``. Large images on a CPU, floats or uint8, are resized one by
    one, by the function of torch that torchvision calls; all others, which must be floats,
    together.
    """
    if _one_by_one(images):
        crops = [
            _interpolate(image[None, :, top : top + height, left : left + width], size)
            for image, (top, left, height, width) in zip(images, windows.tolist(), strict=True)
        ]
        return crops[0] if len(crops) == 1 else torch.cat(crops)
    return _by_products(images, windows, size)


def _by_products(images: Tensor, windows: Tensor, size: int) -> Tensor:
    """Resizing is linear and separable: two matrix products, over an image's rows and columns."""
    windows = windows.to(images.device, torch.float32)
    rows = _resampling(windows[:, 0], windows[:, 2], images.shape[-2], size)
    columns = _resampling(windows[:, 1], windows[:, 3], images.shape[-1], size)
    return rows.unsqueeze(1) @ images @ columns.transpose(1, 2).unsqueeze(1)


def _one_by_one(images: Tensor) -> bool:
    return images.device.type == "cpu" and images.shape[-2:].numel() > LARGE_PIXELS


def _interpolate(images: Tensor, size: int) -> Tensor:
    # Of a window of bytes, torch would make a slower copy.
    layout = torch.channels_last if images.stride(1) == 1 else torch.contiguous_format
    images = images.contiguous(memory_format=layout)
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True)


def _resampling(start: Tensor, length: Tensor, pixels: int, size: int) -> Tensor:
    """Weights (N, size, pixels) of a row's pixels in the pixels of its resized window."""
    step = (length / size).view(-1, 1, 1)
    reach = step.clamp(min=1)  # of the triangle filter
    centre = start.view(-1, 1, 1) + step * (
        torch.arange(size, device=start.device).view(1, -1, 1) + 0.5
    )
    pixel = torch.arange(pixels, device=start.device).view(1, 1, -1)
    inside = (pixel >= start.view(-1, 1, 1)) & (pixel < (start + length).view(-1, 1, 1))
    weights = (1 - (pixel + 0.5 - centre).abs() / reach).clamp(min=0) * inside
    return weights / weights.sum(dim=2, keepdim=True)


def resize(images: Tensor, size: int) -> Tensor:
    """Resize float images (N, C, H, W) to (N, C, size, size), bilinear with antialiasing."""
    if _one_by_one(images):
        return _interpolate(images, size)
    height, width = images.shape[-2:]
    whole = torch.tensor([[0, 0, height, width]])
    return resized_crops(images, whole, size)


def color_jitter(
    brightness: float = 0.0, contrast: float = 0.0, saturation: float = 0.0, hue: float = 0.0
) -> Operation:
    """Change the colours of each image by random factors, in a random order per image.

    Args:
        brightness, contrast, saturation: a factor is uniform in [max(0, 1 - x), 1 + x].
        hue: a turn of the colour circle is uniform in [-hue, hue]; at most 0.5.
    """
    ranges = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
    if min(*ranges.values(), hue) < 0 or hue > 0.5:
        raise ValueError(
            f"color-jitter: brightness is {brightness}, contrast is {contrast}, saturation is "
            f"{saturation} and hue is {hue}; none may be negative, and hue must be at most 0.5"
        )
    bounds = {name: (max(0.0, 1 - x), 1 + x) for name, x in ranges.items() if x}
    if hue:
        bounds["hue"] = (-hue, hue)
    low = torch.tensor([a for a, _ in bounds.values()])
    high = torch.tensor([b for _, b in bounds.values()])
    changes = [_CHANGES[name] for name in bounds]

    def draw(count: int, height: int, width: int, generator: torch.Generator) -> Sequence[Tensor]:
        # One draw for the factors, one for the orders: sorting random numbers permutes them.
        draw = torch.rand(2, count, len(changes), generator=generator)
        return low + (high - low) * draw[0], draw[1].argsort(dim=1)

    def apply(images: Tensor, factors: Tensor, order: Tensor) -> Tensor:
        if len(images) == 1:
            for number in order[0].tolist():
                images = changes[number](images, factors[:, number].view(-1, 1, 1, 1))
            return images
        images = images.clone()
        for place in range(len(changes)):
            for number, change in enumerate(changes):
                chosen = (order[:, place] == number).nonzero().squeeze(1)
                if len(chosen):
                    factor = factors[chosen, number].view(-1, 1, 1, 1).to(images.device)
                    index = chosen.to(images.device)
                    images[index] = change(images[index], factor)
        return images

    return Operation(draw, apply)


_CHANGES = {
    "brightness": adjust_brightness,
    "contrast": adjust_contrast,
    "saturation": adjust_saturation,
    "hue": adjust_hue,
}

_OPERATIONS: dict[str, Callable[..., Operation]] = {
    "affine": affine,
    "color-jitter": color_jitter,
    "grayscale": grayscale,
    "horizontal-flip": horizontal_flip,
    "random-resized-crop": random_resized_crop,
}


def _operation(entry: Mapping[str, Any], size: int | None) -> Operation:
    settings = dict(entry)
    name = settings.pop("op", None)
    if name not in _OPERATIONS:
        raise ValueError(f"unknown operation {name!r}; known: {', '.join(_OPERATIONS)}")
    if name == "random-resized-crop" and size is not None:
        settings.setdefault("size", size)
    return _OPERATIONS[name](**settings)


def _side(size: object) -> int | None:
    if size is not None and (type(size) is not int or not 1 <= size <= MAX_SIDE):
        raise ValueError(
            f"size is {size!r}; it must be a whole number of pixels from 1 to {MAX_SIDE}"
        )
    return size
