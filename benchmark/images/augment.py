"""Augmentation and normalisation of whole batches on the device they are on.

Random numbers are drawn on the CPU from the run's ``augmentation`` stream, so that a seed gives
the same crops on every device; only the pixels move on the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.errors import ManifestError

Operation = Callable[[Tensor, torch.Generator], Tensor]


class Transforms:
    """What a manifest's ``[transforms]`` table says, for training and for evaluation.

    Args:
        settings: ``mean`` and ``std`` of three numbers each (of pixels in [0, 1]), and ``train``,
            a list of tables ``{op = name, ...}`` applied in order.

    Raises:
        ManifestError: an unknown operation or a wrong field.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        try:
            self._mean = torch.tensor(settings["mean"]).view(1, 3, 1, 1)
            self._std = torch.tensor(settings["std"]).view(1, 3, 1, 1)
            self._train = [_operation(entry) for entry in settings.get("train", [])]
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ManifestError(f"[transforms] of the manifest: {error}") from None

    def evaluate(self, images: Tensor) -> Tensor:
        """Prepare uint8 images (N, 3, H, W) for the network: float32, normalised."""
        return self._normalise(images.to(torch.float32).div_(255))

    def augment(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The same with the training augmentation, drawn afresh for every image."""
        floats = images.to(torch.float32).div_(255)
        for operation in self._train:
            floats = operation(floats, generator)
        return self._normalise(floats)

    def _normalise(self, floats: Tensor) -> Tensor:
        # Channels last: on a CPU a step of the small network takes two thirds of the time.
        mean, std = self._mean.to(floats.device), self._std.to(floats.device)
        return ((floats - mean) / std).contiguous(memory_format=torch.channels_last)


def affine(degrees: float, translate: float, scale: tuple[float, float]) -> Operation:
    """Rotate, scale and shift each image, bilinear, the border repeated outwards.

    Args:
        degrees: rotation is uniform in [-degrees, degrees].
        translate: shift is uniform in [-translate, translate] of the side, per axis.
        scale: zoom factor, uniform in [low, high].
    """
    low, high = scale

    def apply(images: Tensor, generator: torch.Generator) -> Tensor:
        draw = torch.rand(4, len(images), generator=generator)
        angle = (2 * draw[0] - 1) * math.radians(degrees)
        zoom = low + (high - low) * draw[1]
        # theta maps output to input coordinates, so a zoom of 2 halves the sampled window.
        cosine, sine = torch.cos(angle) / zoom, torch.sin(angle) / zoom
        shift = (2 * draw[2:] - 1) * 2 * translate  # grid coordinates span 2
        theta = torch.stack([cosine, -sine, shift[0], sine, cosine, shift[1]], dim=1)
        grid = F.affine_grid(theta.view(-1, 2, 3), list(images.shape), align_corners=False)
        return F.grid_sample(
            images, grid.to(images.device), padding_mode="border", align_corners=False
        )

    return apply


def horizontal_flip(p: float) -> Operation:
    """Mirror each image left to right with probability ``p``."""

    def apply(images: Tensor, generator: torch.Generator) -> Tensor:
        chosen = torch.rand(len(images), generator=generator) < p
        return torch.where(chosen.to(images.device).view(-1, 1, 1, 1), images.flip(-1), images)

    return apply


_OPERATIONS: dict[str, Callable[..., Operation]] = {
    "affine": affine,
    "horizontal-flip": horizontal_flip,
}


def _operation(entry: Mapping[str, Any]) -> Operation:
    settings = dict(entry)
    name = settings.pop("op", None)
    if name not in _OPERATIONS:
        raise ValueError(f"unknown op {name!r}; known: {', '.join(_OPERATIONS)}")
    return _OPERATIONS[name](**settings)
