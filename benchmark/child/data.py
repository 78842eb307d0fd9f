"""Open the images, features and models of a job, before the sandbox is entered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from benchmark.files import canonical_json
from benchmark.images.store.tensors import LazyImages, join, open_images
from benchmark.jobs import FeatureRows, ImageFile, ImageFormat, ImageJob, Network
from benchmark.method import TargetData
from benchmark.networks.build import Classifier, build_to_load


def open_training(
    job: ImageJob,
    train: Sequence[ImageFile],
    seen: Sequence[int],
    *,
    missing: Sequence[ImageFile] = (),
    features: FeatureRows | None = None,
) -> TargetData:
    """The training images that a job may see: one file for each of its classes.

    Args:
        job: names the classes and the image format.
        train: the files; ``seen``: the indices of the seen classes.
        missing: files of the missing classes, for the oracle track.
        features: of the images in ``train``.
    """
    classes = job.network.classes
    mask = torch.zeros(len(classes), dtype=torch.bool)
    mask[list(seen)] = True
    missing_data = None
    if missing:
        missing_data = TargetData(*_open_classes(missing, job.images), classes, mask)
    rows = None if features is None else _open_features(features)
    images, labels = _open_classes(train, job.images)
    return TargetData(images, labels, classes, mask, rows, missing_data)


def _open_classes(
    files: Sequence[ImageFile], form: ImageFormat
) -> tuple[Tensor | LazyImages, Tensor]:
    parts, labels = [], []
    for image_file in files:
        with Path(image_file.path).open("rb") as file:
            parts.append(open_images(file.fileno(), image_file.count, form.size, form.store))
        labels.append(torch.full((image_file.count,), image_file.label, dtype=torch.int64))
    return join(parts, form.size), torch.cat(labels)


def _open_features(features: FeatureRows) -> Tensor:
    """Rows of a features file, class by class as the images are; no other row is read."""
    parts, width = [], features.width
    with Path(features.path).open("rb") as file:
        for start, count in features.ranges:
            file.seek(start * width * 4)
            rows = bytearray(file.read(count * width * 4))
            parts.append(torch.frombuffer(rows, dtype=torch.float32).view(count, width))
    return torch.cat(parts)


def on_device(target: TargetData, device: torch.device) -> TargetData:
    """The data on a device."""
    return TargetData(
        target.images.to(device),
        target.labels.to(device),
        target.classes,
        target.seen.to(device),
        None if target.features is None else target.features.to(device),
        None if target.missing is None else on_device(target.missing, device),
    )


# The network that the fork server built for its children, each of which has a copy of its own.
_prepared: dict[bytes, Classifier] = {}


def prepare_model(model: Mapping[str, Any], classes: int, size: int) -> None:
    """Build a network for the first :func:`open_model` of each process that is forked later."""
    _prepared.clear()
    _prepared[canonical_json([model, classes, size])] = build_to_load(model, classes, size)


def open_model(network: Network, path: str) -> Classifier:
    """A network in evaluation mode with the weights of a safetensors file."""
    built_from = (network.model, len(network.classes), network.input_size)
    model = _prepared.pop(canonical_json(list(built_from)), None)
    if model is None:
        model = build_to_load(*built_from)
    model.load_state_dict(safetensors.torch.load_file(path), strict=True)
    return model.eval()
