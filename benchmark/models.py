"""Networks: a backbone that gives features and a linear head that gives logits."""

from __future__ import annotations

import copy
import difflib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from benchmark.errors import ManifestError, first
from benchmark.networks import OWN, TIMM

USUAL_SIZE = 224  # pixels; what the networks of the libraries are made for if nobody says
# Where networks of torchvision have their last layer.
HEADS = ("fc", "classifier", "heads", "head")


class Classifier(nn.Module):
    """A backbone and a linear head.

    Attributes:
        backbone: module that maps prepared images, float32 (N, 3, H, W), to features, float32
            (N, d).
        head: ``nn.Linear(d, C)``, which maps features to logits.

    Example:
        >>> from htbench import Classifier
        >>> backbone = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        >>> model = Classifier(backbone, torch.nn.Linear(3, len(target.classes)))
        >>> logits = model(run.transforms.evaluate(target.images[:8]))
        >>> tuple(logits.shape) == (8, len(target.classes))
        True
    """

    def __init__(self, backbone: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def features(self, images: Tensor) -> Tensor:
        """Return features, float32 (N, d), of prepared images, float32 (N, 3, H, W)."""
        features: Tensor = self.backbone(images)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, float32 (N, C), of prepared images, float32 (N, 3, H, W)."""
        logits: Tensor = self.head(self.features(images))
        return logits

    def copy(self) -> Self:
        """Return a deep copy whose parameters all require gradients."""
        return copy.deepcopy(self).requires_grad_(True)


def build(model: Mapping[str, Any], classes: int, size: int = USUAL_SIZE) -> Classifier:
    """The network that a manifest's ``[model]`` table describes, freshly initialised.

    Args:
        model: ``name`` and that network's own keys. ``convnet`` has ``width``; ``timm/NAME`` is a
            network of timm; every other name is that of a classification network of torchvision,
            such as ``resnet50``. Both may have ``weights``, the name of initial weights: they are
            not loaded here.
        classes: number of classes C.
        size: side of prepared images in pixels, for networks that are made for one.

    Raises:
        ManifestError: unknown name or key, or a network that cannot be split.
    """
    name = model.get("name")
    try:
        if name == OWN:
            made = _convnet(classes, **{k: v for k, v in model.items() if k != "name"})
        elif is_timm(name):
            made = _from_timm(library_network(model, size, num_classes=0), classes)
        else:
            made = split(library_network(model, size), classes)
    except TypeError as error:
        raise ManifestError(f"[model] {name}: {error}") from None
    return made.to(memory_format=torch.channels_last)


def is_timm(name: object) -> bool:
    """Whether a network is of timm."""
    return isinstance(name, str) and name.startswith(TIMM)


def library_network(model: Mapping[str, Any], size: int = USUAL_SIZE, **settings: Any) -> nn.Module:
    """A network of torchvision or timm as it is there, with random weights and its own last layer.

    Args:
        model: the manifest's ``[model]``.
        size: side of prepared images in pixels, for networks that are made for one.
        settings: for the library's constructor.

    Raises:
        ManifestError: the library has none of that name.
        TypeError: the table has keys that such a network has not.
    """
    given = {k: v for k, v in model.items() if k not in ("name", "weights")} | settings
    name = model.get("name")
    return (_timm if is_timm(name) else _torchvision)(str(name), size, **given)


def split(network: nn.Module, classes: int) -> Classifier:
    """A network of torchvision: its last linear layer is left out, and a new head follows.

    Dropout just in front of that layer is left out too (MobileNet, EfficientNet, VGG have it): it
    would act where a head is trained with the backbone and not where it is trained on cached
    features, and methods would differ by it. Randomness inside the backbone stays.

    Raises:
        ManifestError: it does not end in a linear layer.
    """
    place = head_place(network)
    parent = network.get_submodule(place.rpartition(".")[0])
    last = place.rpartition(".")[2]
    width: Any = network.get_submodule(place).in_features
    setattr(parent, last, nn.Identity())
    if isinstance(parent, nn.Sequential) and len(parent) > 1 and isinstance(parent[-2], nn.Dropout):
        parent[-2] = nn.Identity()
    return Classifier(network, nn.Linear(width, classes))


def _torchvision(name: str, size: int, **settings: Any) -> nn.Module:
    from torchvision import models  # a second or two, for manifests that need it

    known = models.list_models(module=models)
    if name not in known:
        raise _unknown(name, known, "torchvision.models.list_models()")
    if name.startswith("vit_"):  # it learns an embedding for every place in the image
        settings = {"image_size": size, **settings}
    network: nn.Module = models.get_model(name, weights=None, **settings)
    return network


def _timm(name: str, size: int, **settings: Any) -> nn.Module:
    import timm  # seconds, and an extra

    plain = name.removeprefix(TIMM)
    if "." in plain or not timm.is_model(plain):
        raise _unknown(name, [TIMM + n for n in timm.list_models()], "timm.list_models()")
    try:
        made = timm.create_model(plain, pretrained=False, img_size=size, **settings)
    except TypeError:  # one that takes images of any size
        made = timm.create_model(plain, pretrained=False, **settings)
    network: nn.Module = made
    return network


def _from_timm(backbone: nn.Module, classes: int) -> Classifier:
    width: Any = backbone.head_hidden_size
    return Classifier(backbone, nn.Linear(width, classes))


def _unknown(name: str, known: Sequence[str], listing: str) -> ManifestError:
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return ManifestError(
        f"unknown model {name!r}; {hint}{listing} has all names, and convnet is this suite's own"
    )


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
        f"[model] {type(network).__name__} cannot be split into a backbone and a linear head; "
        "choose another"
    )


def last_layer(network: nn.Module, model: Mapping[str, Any]) -> str:
    """Where the last linear layer of a network of a library is, such as ``fc``.

    Raises:
        ManifestError: it has none, or several.
    """
    if not is_timm(model["name"]):
        return head_place(network)
    config: Any = network.pretrained_cfg
    place = config["classifier"]
    if not isinstance(place, str):
        raise ManifestError(f"[model] {model['name']} has several last layers: {', '.join(place)}")
    return place


def own_names(
    state: Mapping[str, Tensor], model: Mapping[str, Any], size: int = USUAL_SIZE
) -> dict[str, Tensor]:
    """A state whose names are those of a library's network, under the names of a Classifier."""
    if model["name"] == OWN or any(key.startswith("backbone.") for key in state):
        return dict(state)
    place = last_layer(library_network(model, size), model)
    return {
        (
            f"head.{key.removeprefix(place + '.')}"
            if key.startswith(f"{place}.")
            else f"backbone.{key}"
        ): value
        for key, value in state.items()
    }


def load_backbone(
    model: Classifier, initial: Mapping[str, Tensor], table: Mapping[str, Any], size: int
) -> None:
    """Put weights of a library's network into a backbone; the head stays as it is.

    What a vision transformer of torchvision has learned of places is interpolated where the images
    are of another size, as torchvision does it.

    Args:
        model: what :func:`build` made of ``table``.
        initial: the network's whole state, under the library's names; its last layer is not used.
        table: the manifest's ``[model]``.
        size: side of prepared images in pixels.

    Raises:
        ManifestError: they are of another network, or of one for images of another size.
    """
    state = own_names(initial, table, size)
    ours = {
        name.removeprefix("backbone."): value
        for name, value in state.items()
        if name.startswith("backbone.")
    }
    if table["name"].startswith("vit_"):
        from torchvision.models.vision_transformer import interpolate_embeddings

        patch: Any = model.backbone.patch_size
        ours = dict(interpolate_embeddings(size, patch, OrderedDict(ours)))
    if problem := difference(model.backbone.state_dict(), ours):
        raise ManifestError(f"[model] {table['name']}: its initial weights do not fit: {problem}")
    model.backbone.load_state_dict(ours)


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


def _convnet(classes: int, width: int = 16) -> Classifier:
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
