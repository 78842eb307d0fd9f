"""A role of a task as a dataset of torch."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from benchmark.errors import DataError
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.roles import ROLES, role_frame
from htbench import to_datasets, torch_dataset
from tests.benchmark.expected_roles import TASK, expected_roles


def test_ids_labels_and_images_agree_with_the_files(mini: Manifest) -> None:
    from torch.utils.data import DataLoader, Dataset
    from torchvision.transforms.v2.functional import pil_to_tensor

    truth = expected_roles(mini, TASK)
    for role in list(ROLES)[:5]:
        part = truth[truth["role"] == role]
        data = torch_dataset(mini, TASK, role, pil_to_tensor)
        assert isinstance(data, Dataset)
        assert len(data) == len(part)
        assert data.image_ids == part["image_id"].tolist()
        assert [data.classes[n] for n in data.labels] == part["class"].tolist()
        images, labels = next(iter(DataLoader(data, batch_size=len(data))))
        assert images.shape == (len(part), 3, 32, 32)
        assert labels.tolist() == data.labels


def test_without_a_transform_images_are_pictures(mini: Manifest) -> None:
    image, label = torch_dataset(mini, TASK, "test", class_order="seen-first")[0]
    assert isinstance(image, Image.Image)
    assert image.mode == "RGB"
    assert isinstance(label, int)


def test_images_in_a_folder_agree_with_embedded_ones(
    folder_manifest: Manifest, images: Path, mini: Manifest
) -> None:
    embedded = torch_dataset(mini, "outline-solid", "test")
    files = torch_dataset(folder_manifest, "outline-solid", "test")
    hub = to_datasets(folder_manifest, "outline-solid")["test"]
    for (a, label), (b, other), row in zip(embedded, files, hub, strict=True):
        assert a.tobytes() == b.tobytes() == row["image"].convert("RGB").tobytes()
        assert label == other == row["label"]


def test_a_missing_image_names_the_command(folder_manifest: Manifest, images: Path) -> None:
    path = role_frame(folder_manifest, "outline-solid", "test")["path"][0]
    (images / path).unlink()
    with pytest.raises(DataError, match="htbench data import"):
        torch_dataset(folder_manifest, "outline-solid", "test")


def test_another_image_in_place_of_one_is_refused(folder_manifest: Manifest, images: Path) -> None:
    first, second = role_frame(folder_manifest, "outline-solid", "test")["path"][:2]
    (images / first).write_bytes((images / second).read_bytes())
    data = torch_dataset(folder_manifest, "outline-solid", "test")
    with pytest.raises(DataError, match="is another image: its SHA-256 is"):
        data[0]
    assert data[1][1] == data.labels[1]
