"""Network names: parse and format values of `--model`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from benchmark.errors import UsageError

OWN = "convnet"  # the benchmark's own network; all others are torchvision's or begin with TIMM
TIMM = "timm/"
_WEIGHTS = re.compile(r"[A-Za-z0-9_]+\.[A-Za-z0-9_]+")
_TEXT = re.compile(r"(timm/)?([A-Za-z0-9_-]+)(?:([.@])([A-Za-z0-9_.]+))?")


def parse_network(text: str, own: Mapping[str, Any]) -> Mapping[str, Any]:
    """Parse the value of ``--model`` into a ``[model]`` table.

    Args:
        text: torchvision's ``NAME`` or ``NAME@WEIGHTS``, such as ``resnet18`` or
            ``resnet18@ResNet18_Weights.IMAGENET1K_V1``; ``timm/NAME`` or ``timm/NAME.TAG``.
        own: the manifest's ``[model]`` table, which is returned if ``text`` is its name.

    Raises:
        UsageError: the text does not have one of these forms.
    """
    match = _TEXT.fullmatch(text)
    if match is None or (match[3] is not None and (match[3] == ".") != bool(match[1])):
        raise UsageError(
            f"--model {text[:100]!r} is not valid; use a torchvision network (NAME or "
            "NAME@WEIGHTS, such as resnet18) or a timm network (timm/NAME or timm/NAME.TAG, such "
            "as timm/resnet18.a1_in1k)"
        )
    library, name, _, weights = match.groups()
    if text == own["name"]:
        return own
    table = {"name": f"{library or ''}{name}"}
    if weights is not None:
        table["weights"] = f"{name}.{weights}" if library else weights
    return table


def is_weights_name(name: object) -> bool:
    """Whether it may name pretrained weights, as ``ResNet50_Weights.IMAGENET1K_V1`` does."""
    return isinstance(name, str) and _WEIGHTS.fullmatch(name) is not None


def library_of(model: Mapping[str, Any]) -> dict[str, str]:
    """Return the name and version of a network's library; empty for the benchmark's own network.

    Raises:
        UsageError: the network is from timm, which is not installed.
    """
    name = str(model.get("name"))
    if name == OWN:
        return {}
    if not name.startswith(TIMM):
        return {"torchvision": version("torchvision")}
    if find_spec("timm") is None:
        raise UsageError(
            f"{name} needs timm, which is not installed; run "
            "pip install 'holistic-transfer-bench[timm]'"
        )
    return {"timm": version("timm")}


def library_module(model: Mapping[str, Any]) -> str | None:
    """The module that builds a network; None for the benchmark's own."""
    name = str(model.get("name"))
    if name == OWN:
        return None
    return "timm" if name.startswith(TIMM) else "torchvision.models"


def network_label(model: Mapping[str, Any]) -> str:
    """Return the value of ``--model`` for a ``[model]`` table, such as ``timm/resnet10t``.

    This is the inverse of :func:`parse_network`.
    """
    name, weights = str(model.get("name")), model.get("weights")
    if weights is None:
        return name
    return f"{TIMM}{weights}" if name.startswith(TIMM) else f"{name}@{weights}"
