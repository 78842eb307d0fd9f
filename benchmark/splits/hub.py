"""Convert a task to Hugging Face ``datasets``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.manifest.catalogue import load_manifest
from benchmark.manifest.roles import ordered_classes, roles_in, task_frame
from benchmark.splits.pictures import find_images

if TYPE_CHECKING:
    from datasets import DatasetDict

    from benchmark.manifest.manifest import Manifest


def to_datasets(
    manifest: str | Path | Manifest, task: str, class_order: str = "manifest"
) -> DatasetDict:
    """All roles of a task as a ``datasets.DatasetDict``.

    Args:
        manifest: a reference such as ``icons@2.0``, a folder, or a loaded manifest.
        task: id of one of its tasks.
        class_order: decides the label of each class: ``manifest``, ``sorted`` (by name) or
            ``seen-first``.

    Returns:
        A split for each role of the task (``train_missing`` is for oracles only), with the columns
        ``image`` (``datasets.Image``: embedded bytes, or the path of the user's file), ``label``
        (``datasets.ClassLabel`` over all classes), ``image_id``, ``path``, ``domain`` and ``seen``.
        ``datasets`` decodes images by its own rules: unlike :func:`torch_dataset`, it keeps their
        mode and turns them as EXIF says.

    Raises:
        ManifestError: there is no such manifest or task.
        UsageError: there is no such class order.
        DataError: images are absent; the message names the command that gets them.

    Example:
        >>> from htbench import to_datasets
        >>> splits = to_datasets("icons@2.0", "outline-solid")
        >>> splits["train"].features["label"].num_classes
        65
    """
    import pandas as pd
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value

    manifest = load_manifest(manifest)
    names = ordered_classes(manifest, manifest.task(task), class_order)
    frame = task_frame(manifest, task, class_order)
    frame["image"] = pd.Series([_image_value(image) for image in find_images(manifest, frame)])
    texts = ("image_id", "path", "domain")
    features = Features(
        {"image": Image(), "label": ClassLabel(names=list(names))}
        | {column: Value("string") for column in texts}
        | {"seen": Value("bool")}
    )
    parts = {role: frame[frame["role"] == role] for role in roles_in(frame)}
    return DatasetDict(
        {
            role: Dataset.from_dict(
                {column: part[column].tolist() for column in features}, features=features
            )
            for role, part in parts.items()
        }
    )


def _image_value(image: bytes | Path) -> dict[str, bytes | str | None]:
    """An image as ``datasets.Image`` stores it."""
    if isinstance(image, Path):
        return {"bytes": None, "path": str(image)}
    return {"bytes": image, "path": None}
