"""Names of networks, as manifests and users write them. No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from benchmark.errors import UsageError

OWN = "convnet"  # this suite's own network; every other name is torchvision's, or begins with TIMM
TIMM = "timm/"
_TEXT = re.compile(r"(timm/)?([A-Za-z0-9_-]+)(?:([.@])([A-Za-z0-9_.]+))?")


def parse_network(text: str, own: Mapping[str, Any]) -> Mapping[str, Any]:
    """The ``[model]`` table that ``--model`` means.

    Args:
        text: ``NAME`` or ``NAME@WEIGHTS`` of torchvision, such as ``resnet18`` or
            ``resnet18@ResNet18_Weights.IMAGENET1K_V1``; ``timm/NAME`` or ``timm/NAME.TAG``.
        own: the manifest's table, which its own name stands for.

    Raises:
        UsageError: it is none of these.
    """
    found = _TEXT.fullmatch(text)
    if found is None or (found[3] is not None and (found[3] == ".") != bool(found[1])):
        raise UsageError(
            f"--model {text[:100]!r}: write NAME or NAME@WEIGHTS of torchvision, such as resnet18, "
            "or timm/NAME or timm/NAME.TAG, such as timm/resnet18.a1_in1k"
        )
    library, name, _, weights = found.groups()
    if text == own["name"]:
        return own
    table = {"name": f"{library or ''}{name}"}
    if weights is not None:
        table["weights"] = f"{name}.{weights}" if library else weights
    return table


def library_of(model: Mapping[str, Any]) -> dict[str, str]:
    """The library that a network is of, and its version; none for this suite's own.

    Raises:
        UsageError: it is timm, which is not installed.
    """
    name = str(model.get("name"))
    if name == OWN:
        return {}
    if not name.startswith(TIMM):
        return {"torchvision": version("torchvision")}
    if find_spec("timm") is None:
        raise UsageError(
            f"{name} is a network of timm, which is not installed: "
            "pip install 'holistic-transfer-bench[timm]'"
        )
    return {"timm": version("timm")}


def network_label(model: Mapping[str, Any]) -> str:
    """How ``--model`` writes a ``[model]`` table, such as ``resnet18`` or ``timm/resnet10t``."""
    name, weights = str(model.get("name")), model.get("weights")
    if weights is None:
        return name
    return f"{TIMM}{weights}" if name.startswith(TIMM) else f"{name}@{weights}"
