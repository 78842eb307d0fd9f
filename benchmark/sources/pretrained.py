"""Pretrained weights in the data folder, from which a source model is trained."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.errors import DataError, ManifestError
from benchmark.files import matches_digest, read_sealed
from benchmark.folders import data_folder
from benchmark.networks.names import is_weights_name

WEIGHTS_FILE = "weights.safetensors"
RECORD_FILE = "weights.json"
MAX_RECORD_BYTES = 1 << 16


@dataclass(frozen=True)
class PretrainedWeights:
    """Pretrained weights in the data folder.

    Attributes:
        path: safetensors under the names of the library's network.
        digest: SHA-256 of that file; equal tensors give equal files.
        record: ``file_sha256`` of the file they came in, and whether it is ``verified``.
    """

    path: Path
    digest: str
    record: Mapping[str, Any]


def pretrained_name(model: Mapping[str, Any]) -> str | None:
    """The name of the pretrained weights in a manifest's ``[model]``, if it has any.

    Raises:
        ManifestError: it is not a name such as ``ResNet50_Weights.IMAGENET1K_V1``.
    """
    name = model.get("weights")
    if name is not None and not is_weights_name(name):
        raise ManifestError(
            f"[model] weights is {name!r}; it must be a name such as "
            "'ResNet50_Weights.IMAGENET1K_V1'"
        )
    return name


def find_pretrained(model: Mapping[str, Any]) -> PretrainedWeights | None:
    """A network's pretrained weights, or None if it names none or they are not in the data folder.

    Raises:
        DataError: they are damaged.
    """
    name = pretrained_name(model)
    if name is None or not (weights_folder(name) / RECORD_FILE).is_file():
        return None
    folder = weights_folder(name)
    remedy = f"delete its folder to download it again: rm -r {shlex.quote(str(folder))}"
    try:
        record = read_sealed(folder / RECORD_FILE, MAX_RECORD_BYTES, DataError)
    except DataError as error:
        raise DataError(f"{error}; {remedy}") from None
    if not isinstance(record.get("digest"), str):
        raise DataError(f"{folder / RECORD_FILE} is damaged; {remedy}")
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise DataError(f"{path} is missing; {remedy}")
    return PretrainedWeights(path, record["digest"], record)


def pretrained_path(model: Mapping[str, Any]) -> str | None:
    """The verified file of a network's pretrained weights; None if it names none.

    Raises:
        DataError: they are missing or damaged.
    """
    name, weights = pretrained_name(model), find_pretrained(model)
    if name is None:
        return None
    if weights is None or not matches_digest(weights.path, weights.digest):
        raise DataError(
            f"the pretrained weights {name} are missing or corrupted; delete "
            f"their folder to download them again: rm -r {shlex.quote(str(weights_folder(name)))}"
        )
    return str(weights.path)


def weights_folder(name: str) -> Path:
    """The folder of pretrained weights in the data folder, whether or not it exists."""
    return data_folder() / "weights" / name
