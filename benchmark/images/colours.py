"""Colour changes of float images in [0, 1], equal to torchvision's of the same names.

Each image of a batch has its own factor. Only sums, products, minima and maxima are used: on a
CPU, ``torch.where`` alone takes longer than the rest of a turn of the hue.
"""

from __future__ import annotations

import torch
from torch import Tensor

LUMA = (0.2989, 0.587, 0.114)  # weights of red, green and blue (ITU-R BT.601)
AXES = (0.0, 2.0, 4.0)  # hues of red, green and blue, in sixths of the colour circle


def grey(images: Tensor) -> Tensor:
    """Luma of images (N, 3, H, W), in one channel (N, 1, H, W)."""
    red, green, blue = images.chunk(3, dim=1)
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend images (N, 3, H, W) with black by factors (N, 1, 1, 1); 1 keeps them."""
    return (images * factor).clamp_(0, 1)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Blend each image with its own mean luma, which is the luma of its mean colour."""
    return _blend(images, grey(images.mean(dim=(2, 3), keepdim=True)), factor)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Blend each image with its luma."""
    return _blend(images, grey(images), factor)


def adjust_hue(images: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue of images by (N, 1, 1, 1) of the colour circle, in [-0.5, 0.5].

    Hue, saturation and value are those of HSV. The hue is an angle from red in sixths of the
    circle, here times the chroma, so that nothing is divided and grey is not a special case. That
    of a pixel whose largest channel is ``value`` and smallest ``low`` is
    ``green + blue - red + value - 2 * low``, negative if blue is more than green. A channel is
    ``value`` up to one sixth from its own axis, ``low`` from two sixths on, and linear between.
    """
    red, green, blue = images.chunk(3, dim=1)
    value = torch.maximum(torch.maximum(red, green), blue)
    low = torch.minimum(torch.minimum(red, green), blue)
    chroma = value - low
    hue = (green + blue).sub_(red).add_(value).sub_(low, alpha=2).copysign_(green - blue)
    shift = 6 * turn - torch.tensor(AXES, device=images.device).view(1, 3, 1, 1)
    shift = shift - 6 * (shift / 6).round()  # the same turn, at most half a circle
    # The angle from each axis is at most a whole circle; its distance from half a circle says how
    # far the axis is the shorter way round.
    channels = torch.addcmul(hue, chroma, shift).abs_().sub_(chroma, alpha=3).abs_()
    return torch.clamp(channels.add_(low - chroma), low, value, out=channels)


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return (images * factor).add_((1 - factor) * other).clamp_(0, 1)
