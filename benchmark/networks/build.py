"""Build networks: a backbone that computes features and a linear head that computes logits."""

from __future__ import annotations

import copy
import difflib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from benchmark.errors import ManifestError, first
from benchmark.networks.names import OWN, TIMM

DIMENSIONS = 4  # of the weights whose layout channels_last changes
DEFAULT_SIZE = 224  # pixels; the input size that library networks were designed for
# Attributes that hold the last layer of torchvision's networks.
HEADS = ("fc", "classifier", "heads", "head")


class Classifier(nn.Module):
    """A backbone and a linear head.

    Attributes:
        backbone: maps transformed images, float32 (N, 3, H, W), to features (N, d).
        head: ``nn.Linear(d, C)``, which maps features to logits.

    Example:
        >>> import torch
        >>> from htbench import Classifier
        >>> backbone = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 8))
        >>> model = Classifier(backbone, torch.nn.Linear(8, 5))
        >>> model(torch.zeros(4, 3, 2, 2)).shape
        torch.Size([4, 5])
    """

    def __init__(self, backbone: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def features(self, images: Tensor) -> Tensor:
        """Return features (N, d) of transformed images (N, 3, H, W)."""
        out: Tensor = self.backbone(images)
        return out

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, C) of transformed images (N, 3, H, W)."""
        out: Tensor = self.head(self.features(images))
        return out

    def copy(self) -> Self:
        """Return a deep copy whose parameters all require gradients."""
        return copy.deepcopy(self).requires_grad_(True)


def build(model: Mapping[str, Any], classes: int, size: int = DEFAULT_SIZE) -> Classifier:
    """Build the network that a manifest's ``[model]`` table describes, with random weights.

    Args:
        model: ``name`` and the keys that this network accepts. ``convnet`` has ``width``;
            ``timm/NAME`` is a network of timm; every other name is a classification network of
            torchvision, such as ``resnet50``. The last two may have ``weights``, the name of
            pretrained weights, which this function does not load.
        classes: number of classes C.
        size: side length of transformed images in pixels, for networks with a fixed input size.

    Raises:
        ManifestError: unknown name or key, or a network without a linear head.
    """
    return _build(model, classes, size).to(memory_format=torch.channels_last)


def _build(model: Mapping[str, Any], classes: int, size: int) -> Classifier:
    name = model.get("name")
    try:
        if name == OWN:
            return _convnet(classes, **{k: v for k, v in model.items() if k != "name"})
        if is_timm(name):
            return _from_timm(library_network(model, size, num_classes=0), classes)
        return split(library_network(model, size), classes)
    except TypeError as error:
        raise ManifestError(f"[model] {name}: {error}") from None


def build_to_load(model: Mapping[str, Any], classes: int, size: int = DEFAULT_SIZE) -> Classifier:
    """Like :func:`build`, with arbitrary weights, for a caller that loads a state dict next.

    Random weights take several times as long as the rest of a large network. Memory for weights is
    neither read nor written, so the kernel provides it when they are loaded.
    """
    with _SkipWeights():
        network = _build(model, classes, size)
    for weights in network.parameters():
        if weights.dim() == DIMENSIONS:
            weights.data = torch.empty_like(weights, memory_format=torch.channels_last)
    for buffer in network.buffers():
        if buffer.dim() == DIMENSIONS:
            buffer.data = buffer.to(memory_format=torch.channels_last)
    return network


class _SkipWeights(TorchFunctionMode):
    """Within this context, ``torch.nn.init`` and random tensors in place do nothing."""

    RANDOM = (Tensor.normal_, Tensor.uniform_)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in self.RANDOM or getattr(func, "__module__", None) == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def is_timm(name: object) -> bool:
    """Return whether a name refers to a timm network."""
    return isinstance(name, str) and name.startswith(TIMM)


def library_network(
    model: Mapping[str, Any], size: int = DEFAULT_SIZE, **settings: Any
) -> nn.Module:
    """Build an unmodified torchvision or timm network: random weights, its original last layer.

    Args:
        model: the manifest's ``[model]``.
        size: side length of transformed images in pixels, for networks with a fixed input size.
        settings: arguments of the library's constructor.

    Raises:
        ManifestError: the library has no network of that name.
        TypeError: the table has keys that the network does not accept.
    """
    arguments = {k: v for k, v in model.items() if k not in ("name", "weights")} | settings
    name = model.get("name")
    return (_timm if is_timm(name) else _torchvision)(str(name), size, **arguments)


def split(network: nn.Module, classes: int) -> Classifier:
    """Split a torchvision network into a backbone and a new head, which replaces its last layer.

    Dropout directly before that layer is removed too (MobileNet, EfficientNet and VGG have it):
    it would apply when a head is trained with the backbone but not when it is trained on cached
    features, and methods would differ for that reason alone. Randomness inside the backbone is
    kept.

    Raises:
        ManifestError: the network does not end in a linear layer.
    """
    head = head_name(network)
    parent_name, _, attribute = head.rpartition(".")
    parent = network.get_submodule(parent_name)
    width: Any = network.get_submodule(head).in_features
    setattr(parent, attribute, nn.Identity())
    if isinstance(parent, nn.Sequential) and len(parent) > 1 and isinstance(parent[-2], nn.Dropout):
        parent[-2] = nn.Identity()
    return Classifier(network, nn.Linear(width, classes))


def _torchvision(name: str, size: int, **settings: Any) -> nn.Module:
    from torchvision import models  # takes a second or two, and few manifests need it

    known = models.list_models(module=models)
    if name not in known:
        raise _unknown(name, known, "torchvision.models.list_models()")
    if name.startswith("vit_"):  # its position embeddings depend on the image size
        settings = {"image_size": size, **settings}
    network: nn.Module = models.get_model(name, weights=None, **settings)
    return network


def _timm(name: str, size: int, **settings: Any) -> nn.Module:
    import timm  # an extra that takes seconds to import

    architecture = name.removeprefix(TIMM)
    if "." in architecture or not timm.is_model(architecture):
        raise _unknown(name, [TIMM + n for n in timm.list_models()], "timm.list_models()")
    network: nn.Module
    try:
        network = timm.create_model(architecture, pretrained=False, img_size=size, **settings)
    except TypeError:  # it accepts images of any size
        network = timm.create_model(architecture, pretrained=False, **settings)
    return network


def _from_timm(backbone: nn.Module, classes: int) -> Classifier:
    width: Any = backbone.head_hidden_size
    return Classifier(backbone, nn.Linear(width, classes))


def _unknown(name: str, known: Sequence[str], listing: str) -> ManifestError:
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return ManifestError(
        f"unknown model {name!r}; {hint}{listing} lists all names; "
        "the benchmark also has its own network, convnet"
    )


def head_name(network: nn.Module) -> str:
    """Return the name of the last linear layer of a torchvision network, such as ``classifier.1``.

    Raises:
        ManifestError: the network does not end in a linear layer, or has an auxiliary output.
    """
    for head in HEADS:
        module, suffix = getattr(network, head, None), ""
        if isinstance(module, nn.Sequential) and len(module):
            name, module = list(module.named_children())[-1]
            suffix = f".{name}"
        if isinstance(module, nn.Linear) and not hasattr(network, "aux_logits"):
            return head + suffix
    raise ManifestError(
        f"[model] {type(network).__name__} cannot be split into a backbone and a linear head; "
        "choose another network"
    )


def last_layer(network: nn.Module, model: Mapping[str, Any]) -> str:
    """Return the name of the last linear layer of a library's network, such as ``fc``.

    Raises:
        ManifestError: the network has no such layer, or several.
    """
    if not is_timm(model["name"]):
        return head_name(network)
    config: Any = network.pretrained_cfg
    layer = config["classifier"]
    if not isinstance(layer, str):
        raise ManifestError(
            f"[model] {model['name']} has several output layers ({', '.join(layer)}); "
            "choose a network with a single one"
        )
    return layer


def own_names(
    state: Mapping[str, Tensor], model: Mapping[str, Any], size: int = DEFAULT_SIZE
) -> dict[str, Tensor]:
    """Rename the keys of a library's state dict to those of a :class:`Classifier`."""
    if model["name"] == OWN or any(key.startswith("backbone.") for key in state):
        return dict(state)
    layer = last_layer(library_network(model, size), model)
    return {
        (
            f"head.{key.removeprefix(layer + '.')}"
            if key.startswith(f"{layer}.")
            else f"backbone.{key}"
        ): value
        for key, value in state.items()
    }


def load_backbone(
    model: Classifier, pretrained: Mapping[str, Tensor], table: Mapping[str, Any], size: int
) -> None:
    """Load pretrained weights of a library's network into a backbone; the head is unchanged.

    Position embeddings of torchvision's vision transformers are interpolated to the image size,
    with torchvision's own function.

    Args:
        model: the output of :func:`build` for ``table``.
        pretrained: the network's state dict, with the library's names; its last layer is ignored.
        table: the manifest's ``[model]``.
        size: side length of transformed images in pixels.

    Raises:
        ManifestError: the weights do not fit this network or image size.
    """
    state = own_names(pretrained, table, size)
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
        raise ManifestError(f"[model] {table['name']}: pretrained weights do not fit: {problem}")
    model.backbone.load_state_dict(ours)


def difference(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str | None:
    """Describe how a state dict differs from the expected one, in keys or shapes.

    Returns:
        A sentence, or None if names and shapes match.
    """
    missing = [name for name in expected if name not in state]
    unexpected = [name for name in state if name not in expected]
    shapes = [
        f"{name} is {tuple(state[name].shape)}, not {tuple(expected[name].shape)}"
        for name in expected
        if name in state and state[name].shape != expected[name].shape
    ]
    problems = []
    if missing:
        problems.append(f"missing keys {first(missing)}")
    if unexpected:
        problems.append(f"unexpected keys {first(unexpected)}")
    if shapes:
        more = f" and {len(shapes) - 3} more" if len(shapes) > 3 else ""
        problems.append(f"shape mismatch: {'; '.join(shapes[:3])}{more}")
    return "; ".join(problems) or None


def _convnet(classes: int, width: int = 16) -> Classifier:
    """Four 3x3 convolution blocks with BatchNorm for 32-pixel images; 16 wide it has 65 k weights.

    The first block has stride 2, which cuts the cost to a third at 32 pixels and leaves 16 x 16
    positions to the later blocks.
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
    """Return a model's state dict as contiguous CPU tensors, ready for safetensors."""
    return {k: v.detach().to("cpu").contiguous() for k, v in model.state_dict().items()}


def all_finite(model: nn.Module) -> bool:
    """Return whether all values of a model are finite; a diverged model must not be shared."""
    return all(bool(torch.isfinite(v).all()) for v in model.state_dict().values())
