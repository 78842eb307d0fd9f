"""One role of a task as a map-style torch dataset, for your own training loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch.utils.data import Dataset

from benchmark.manifest.catalogue import load_manifest
from benchmark.manifest.roles import ordered_classes, role_frame
from benchmark.splits.pictures import find_images, open_image

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

    from benchmark.manifest.manifest import Manifest


class TaskDataset(Dataset[tuple[Any, int]]):
    """Images and labels of one role of a task, by index.

    Attributes:
        classes: names of all classes of the manifest, including those without an image in this
            role; a label is an index into them.
        labels: the label of each image; ``image_ids``: its id in the manifest.
    """

    def __init__(
        self,
        images: list[bytes | Path],
        labels: list[int],
        image_ids: list[str],
        classes: tuple[str, ...],
        checksums: list[str | None],
        transform: Callable[[Image.Image], Any] | None = None,
    ) -> None:
        self.labels, self.image_ids, self.classes = labels, image_ids, classes
        self._images, self._checksums, self._transform = images, checksums, transform

    def __len__(self) -> int:
        """The number of images."""
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """The image (PIL, RGB, or the output of the transform) and its label.

        Raises:
            DataError: its file cannot be decoded, or is not the one that the manifest names.
        """
        image = open_image(self._images[index], self._checksums[index])
        return (self._transform(image) if self._transform else image), self.labels[index]


def torch_dataset(
    manifest: str | Path | Manifest,
    task: str,
    role: str,
    transform: Callable[[Image.Image], Any] | None = None,
    class_order: str = "manifest",
) -> TaskDataset:
    """One role of a task as a map-style dataset of (image, label).

    Args:
        manifest: a reference such as ``icons@2.0``, a folder, or a loaded manifest.
        task: id of one of its tasks.
        role: ``source_train``, ``source_test``, ``train`` (target, seen classes), ``test``
            (target, seen and missing classes), ``test_excluded`` (target, all other classes), or,
            for oracles only, ``train_missing``.
        transform: applied to the PIL image (RGB, the size it is stored in), such as
            ``torchvision.transforms.v2.ToImage()``.
        class_order: decides the label of each class: ``manifest``, ``sorted`` (by name) or
            ``seen-first``.

    Returns:
        A dataset of (image, label), with ``classes`` (the names, in the order of the labels),
        ``labels`` and ``image_ids``.

    Raises:
        UsageError: there is no such role or class order.
        ManifestError: there is no such manifest or task.
        DataError: images are absent; the message names the command that gets them.

    Example:
        >>> from htbench import torch_dataset
        >>> train = torch_dataset("icons@2.0", "outline-solid", "train")
        >>> image, label = train[0]
        >>> image.size
        (32, 32)
    """
    manifest = load_manifest(manifest)
    frame = role_frame(manifest, task, role, class_order)
    classes = ordered_classes(manifest, manifest.task(task), class_order)
    images = find_images(manifest, frame)
    labels, image_ids = frame["label"].tolist(), frame["image_id"].tolist()
    checksums = frame["sha256"].tolist() if "sha256" in frame else [None] * len(frame)
    return TaskDataset(images, labels, image_ids, classes, checksums, transform)
