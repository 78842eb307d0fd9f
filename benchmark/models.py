"""Networks: a backbone that gives features and a linear head that gives logits."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from benchmark.errors import ManifestError, first

# Where networks of torchvision have their last layer.
HEADS = ("fc", "classifier", "heads", "head")


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
        model: ``name`` and that network's own keys. ``convnet`` has ``width``; every other name is
            that of a classification network of torchvision, such as ``resnet50``, and may have
            ``weights``, the name of torchvision's initial weights: they are not loaded here.
        classes: number of classes C.

    Raises:
        ManifestError: unknown name or key.
    """
    settings = dict(model)
    name = settings.pop("name", None)
    try:
        if name == "convnet":
            made = _convnet(classes, **settings)
        else:
            made = _from_torchvision(classes, name, **settings)
    except TypeError as error:
        raise ManifestError(f"[model] {name}: {error}") from None
    return made.to(memory_format=torch.channels_last)


def _from_torchvision(classes: int, name: object, weights: str | None = None) -> Classifier:
    """A network of torchvision: its last linear layer is left out, and a new head follows.

    Dropout just in front of that layer is left out too (MobileNet, EfficientNet, VGG have it): it
    would act where a head is trained with the backbone and not where it is trained on cached
    features, and methods would differ by it. Randomness inside the backbone stays.
    """
    network = torchvision_network(name)
    place = head_place(network)
    parent = network.get_submodule(place.rpartition(".")[0])
    last = place.rpartition(".")[2]
    width: Any = network.get_submodule(place).in_features
    setattr(parent, last, nn.Identity())
    if isinstance(parent, nn.Sequential) and len(parent) > 1 and isinstance(parent[-2], nn.Dropout):
        parent[-2] = nn.Identity()
    return Classifier(network, nn.Linear(width, classes))


def torchvision_network(name: object, **settings: Any) -> nn.Module:
    """A classification network of torchvision, with random weights.

    Raises:
        ManifestError: torchvision has none of that name.
    """
    from torchvision import models  # a second or two, for manifests that need it

    if not isinstance(name, str) or name not in models.list_models(module=models):
        raise ManifestError(
            f"unknown model {name!r} in [model]; known: convnet, and the classification networks "
            "of torchvision, such as resnet50 (see torchvision.models.list_models)"
        )
    network: nn.Module = models.get_model(name, weights=None, **settings)
    return network


def head_place(network: nn.Module) -> str:
    """Where the last linear layer of a network of torchvision is, such as ``classifier.1``.

    Raises:
        ManifestError: the network does not end in one, or has a second, auxiliary output.
    """
    for place in HEADS:
        module = getattr(network, place, None)
        if isinstance(module, nn.Sequential) and len(module):
            name, module = list(module.named_children())[-1]
            place = f"{place}.{name}"
        if isinstance(module, nn.Linear) and not hasattr(network, "aux_logits"):
            return place
    raise ManifestError(
        f"[model] {type(network).__name__} cannot be split into a backbone and a linear head"
    )


def own_names(state: Mapping[str, Tensor], model: Mapping[str, Any]) -> dict[str, Tensor]:
    """A state whose names are those of torchvision's network, under the names of a Classifier."""
    if model["name"] == "convnet" or any(key.startswith("backbone.") for key in state):
        return dict(state)
    place = head_place(torchvision_network(model["name"]))
    return {
        (
            f"head.{key.removeprefix(place + '.')}"
            if key.startswith(f"{place}.")
            else f"backbone.{key}"
        ): value
        for key, value in state.items()
    }


def load_backbone(
    model: Classifier, initial: Mapping[str, Tensor], table: Mapping[str, Any]
) -> None:
    """Put weights of torchvision's network into a backbone; the head stays as it is.

    Args:
        model: what :func:`build` made of ``table``.
        initial: the network's whole state, under torchvision's names; its last layer is not used.
        table: the manifest's ``[model]``.
    """
    state = own_names(initial, table)
    model.backbone.load_state_dict(
        {
            name.removeprefix("backbone."): value
            for name, value in state.items()
            if name.startswith("backbone.")
        }
    )


def difference(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str | None:
    """What is wrong with a state, for people: names that lack, are unknown, have other shapes.

    Returns:
        A sentence, or None where names and shapes are as expected.
    """
    lacking = [name for name in expected if name not in found]
    unknown = [name for name in found if name not in expected]
    shapes = [
        f"{name} is {tuple(found[name].shape)}, not {tuple(expected[name].shape)}"
        for name in expected
        if name in found and found[name].shape != expected[name].shape
    ]
    problems = []
    if lacking:
        problems.append(f"it lacks {first(lacking)}")
    if unknown:
        problems.append(f"it has unknown {first(unknown)}")
    if shapes:
        more = f" and {len(shapes) - 3} more" if len(shapes) > 3 else ""
        problems.append(f"of other shapes: {'; '.join(shapes[:3])}{more}")
    return "; ".join(problems) or None


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
