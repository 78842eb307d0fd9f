"""What runs cost in GPU hours, estimated from published speeds of training ResNet-50.

An estimate of this kind is for planning only: nothing of it was measured with htbench.

Loads no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from benchmark.manifest.manifest import Manifest, Task
from benchmark.runs.shards import STEP, work

NETWORK, SIDE = "resnet50", 224  # what the published speeds are for


@dataclass(frozen=True)
class PublishedSpeed:
    """How fast a card trains ResNet-50 at 224 x 224 pixels.

    Attributes:
        card, precision: of the measurement.
        images_per_second: in training, on one card.
    """

    card: str
    precision: str
    images_per_second: float

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.card}, {self.precision}"


# NVIDIA, DeepLearningExamples, PyTorch/Classification/ConvNets/resnet50v1.5/README.md, "Training
# performance results" (pytorch-21.03 container, one GPU with its share of a DGX).
SOURCE = "NVIDIA, DeepLearningExamples, ResNet50 v1.5 for PyTorch, training performance on one GPU"
PUBLISHED = (
    PublishedSpeed("V100 16 GB", "float32", 367.0),
    PublishedSpeed("A100 80 GB", "TF32", 938.0),
    PublishedSpeed("A100 80 GB", "mixed precision", 2470.0),
)


def is_known(manifest: Manifest) -> bool:
    """Whether the published speeds are those of a manifest's network and image size."""
    return manifest.model["name"] == NETWORK and manifest.input_size == SIDE


def images_of_runs(
    manifest: Manifest, runs: Iterable[tuple[Task, str]], costs: Mapping[str, float]
) -> float:
    """The work of runs, in training steps on one image.

    Args:
        manifest: has the recipe.
        runs: the task and the name of the method of each.
        costs: see :func:`benchmark.runs.shards.split`.
    """
    return sum(work(manifest, task, method, costs) for task, method in runs) / STEP


def images_of_source(manifest: Manifest) -> float:
    """The work of training a source model, in training steps on one image."""
    return float(manifest.source_recipe["steps"] * manifest.source_recipe["batch_size"])


def hours(images: float, speed: PublishedSpeed) -> float:
    """GPU hours of training steps on so many images."""
    return images / speed.images_per_second / 3600


def sentence(images: float) -> str:
    """The cost for people, with its origin."""
    each = "; ".join(f"{hours(images, speed):.3g} on {speed.name}" for speed in PUBLISHED)
    return (
        f"GPU hours, estimated from published speeds and not measured: {each} ({SOURCE}). Runs use "
        "float32 unless the recipe asks for TF32"
    )
