"""The rules of a manifest's ``[model]``, which is read long before a network is built."""

from __future__ import annotations

import re

from benchmark.errors import first
from benchmark.manifest.reader import Reader
from benchmark.networks.names import OWN, is_weights_name

MAX_WIDTH = 1024  # the network then has 245 million weights
_NETWORK = re.compile(r"(timm/)?[A-Za-z0-9_-]+")


def check_model(reader: Reader) -> None:
    """Check the values of ``[model]``.

    Other entries of a library's network are arguments of its constructor, which only the library
    can check.

    Raises:
        ManifestError: a value is missing, of another type, or out of range.
    """
    model = reader.document["model"]
    name = model.get("name")
    if not isinstance(name, str) or not _NETWORK.fullmatch(name):
        raise reader.fail(
            f"model.name {'is missing' if name is None else f'is {name!r}'}; it must be the name "
            "of a network, such as 'convnet', 'resnet18' or 'timm/resnet18'"
        )
    if name != OWN:
        if "weights" in model and not is_weights_name(model["weights"]):
            raise reader.fail(
                f"model.weights is {model['weights']!r}; it must be a name such as "
                "'ResNet50_Weights.IMAGENET1K_V1'"
            )
        return
    if extra := sorted(model.keys() - {"name", "width"}):
        raise reader.fail(f"model has {first(extra)}; {OWN} has only width")
    width = model.get("width", 1)
    if type(width) is not int or not 1 <= width <= MAX_WIDTH:
        raise reader.fail(
            f"model.width is {width!r}; it must be a whole number from 1 to {MAX_WIDTH}"
        )
