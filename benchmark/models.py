"""Networks: a backbone that gives features and a linear head that gives logits."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from benchmark.errors import ManifestError


class Classifier(nn.Module):
    """A backbone and a linear head.

    Attributes:
        backbone: maps prepared images (N, 3, H, W) float32 to features (N, d).
        head: ``nn.Linear(d, C)``, maps features to logits.
    """

    def __init__(self, backbone: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def features(self, images: Tensor) -> Tensor:
        """Features (N, d) of prepared images (N, 3, H, W)."""
        out: Tensor = self.backbone(images)
        return out

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, C) of prepared images (N, 3, H, W)."""
        out: Tensor = self.head(self.features(images))
        return out

    def copy(self) -> Self:
        """A deep copy whose parameters all want gradients."""
        return copy.deepcopy(self).requires_grad_(True)


def build(model: Mapping[str, Any], classes: int) -> Classifier:
    """The network that a manifest's ``[model]`` table describes, freshly initialised.

    Args:
        model: ``name`` and that network's own keys.
        classes: number of classes C.

    Raises:
        ManifestError: unknown name or key.
    """
    settings = dict(model)
    name = settings.pop("name", None)
    if name != "convnet":
        raise ManifestError(f"unknown model {name!r} in [model]; known: convnet")
    try:
        return _convnet(classes, **settings).to(memory_format=torch.channels_last)
    except TypeError as error:
        raise ManifestError(f"[model] convnet: {error}") from None


def _convnet(classes: int, width: int) -> Classifier:
    """Four 3x3 convolution blocks with BatchNorm for 32-pixel images; 16 wide it has 65 k weights.

    The first block strides: at 32 pixels it costs a third of the same network without, and the
    later blocks still see 16 x 16 positions.
    """
    widths = (width, 2 * width, 4 * width, 4 * width)
    layers: list[nn.Module] = []
    channels = 3
    for block, out in enumerate(widths):
        stride = 2 if block == 0 else 1
        layers += [
            nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(inplace=True),
        ]
        if block in (1, 2):
            layers.append(nn.MaxPool2d(2))
        channels = out
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return Classifier(nn.Sequential(*layers), nn.Linear(channels, classes))


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A model's state on the CPU, contiguous, ready for safetensors."""
    return {k: v.detach().to("cpu").contiguous() for k, v in model.state_dict().items()}


def all_finite(model: nn.Module) -> bool:
    """Whether every value of the model's state is finite (a diverged model must not be shared)."""
    return all(bool(torch.isfinite(v).all()) for v in model.state_dict().values())
