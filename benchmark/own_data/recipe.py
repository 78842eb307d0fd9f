"""The network, transforms and recipes of a new manifest: set beforehand, not searched.

They generalise those of the published manifests: `pacs` for networks that start from pretrained
weights, and `icons` for all others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmark.networks.names import OWN

DEFAULT_MODEL = "mobilenet_v2@MobileNet_V2_Weights.IMAGENET1K_V1"  # that of pacs: it runs on CPUs
OWN_MODEL = {"name": OWN, "width": 16}  # that of icons
MAX_STEPS = 10_000  # those of office-home
STEPS_MULTIPLE = 50
CROPS = [
    {"op": "random-resized-crop", "scale": [0.7, 1.0], "ratio": [0.75, 1.3333333333333333]},
    {"op": "horizontal-flip", "p": 0.5},
]


def network_settings(model: Mapping[str, Any], source: int, seen: int) -> dict[str, Any]:
    """The entries of a manifest that say how models are trained.

    Args:
        model: the table ``[model]``, as ``parse_network`` returns it.
        source: training images of the largest domain.
        seen: training images of seen classes in the largest target.

    Returns:
        ``image_size``, ``model``, ``transforms``, ``source`` and ``recipe``.
    """
    if "weights" in model:
        source_rates = {"head_lr": 0.02, "backbone_lr": 0.005}
        source_recipe = _recipe(source_rates, 32, 5, source, 200, "the rates of pacs@1.0")
        recipe = _recipe({"lr": 0.0027}, 32, 10, seen, 200, "the rate of pacs@1.0")
    else:
        source_recipe = _recipe({"lr": 0.1}, 64, 50, source, 1000, "half the rate of icons@2.0")
        recipe = _recipe({"lr": 0.027}, 64, 10, seen, 200, "the rate of icons@2.0")
    is_own = model["name"] == OWN
    return {
        "image_size": 64 if is_own else 128,
        "model": dict(model),
        "transforms": {
            "size": 56 if is_own else 112,
            "mean": [0.5] * 3 if is_own else [0.485, 0.456, 0.406],
            "std": [0.25] * 3 if is_own else [0.229, 0.224, 0.225],
            "train": CROPS,
        },
        "source": {"seeds": 3, **source_recipe},
        "recipe": recipe,
    }


def _recipe(
    rates: Mapping[str, float], batch: int, passes: int, images: int, least: int, why: str
) -> dict[str, Any]:
    steps = -(-passes * images // (batch * STEPS_MULTIPLE)) * STEPS_MULTIPLE
    return {
        "steps": min(MAX_STEPS, max(least, steps)),
        **rates,
        "batch_size": batch,
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 0.0005,
        "chosen": "The default of `htbench manifest new`, set beforehand without a search:\n"
        f"{why}, and {passes} passes over {images} training images, between {least} and\n"
        f"{MAX_STEPS} steps.",
    }
