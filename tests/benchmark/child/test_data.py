"""A job opens the files of its own classes, and the rows of features that belong to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.child.data import on_device, open_training
from benchmark.jobs import FeatureRows, ImageFile, ImageFormat, ImageJob, Network, Setup

SIZE, WIDTH = 2, 3
CLASSES = ("bell", "bug", "house", "star")
JOB = ImageJob(
    scratch="unused",
    setup=Setup("cpu", 0, {}, {}),
    network=Network({}, CLASSES, SIZE),
    images=ImageFormat(SIZE, "raw"),
)


@pytest.fixture
def files(tmp_path: Path) -> dict[int, ImageFile]:
    """For each class c, c + 1 images whose pixels are all 10 * c."""
    files = {}
    for label in range(len(CLASSES)):
        path = tmp_path / f"{label}.u8"
        count = label + 1
        path.write_bytes(np.full((count, 3, SIZE, SIZE), 10 * label, np.uint8).tobytes())
        files[label] = ImageFile(str(path), label, count)
    return files


def test_the_images_of_the_seen_classes(files: dict[int, ImageFile]) -> None:
    target = open_training(JOB, [files[0], files[2]], seen=[0, 2])
    assert target.labels.tolist() == [0, 2, 2, 2]
    assert target.seen.tolist() == [True, False, True, False]
    assert target.classes == CLASSES
    assert target.missing is None
    assert target.features is None
    pixels = target.images[torch.arange(4)]
    assert pixels.shape == (4, 3, SIZE, SIZE)
    assert pixels[:, 0, 0, 0].tolist() == [0, 20, 20, 20]


def test_the_missing_classes_of_an_oracle(files: dict[int, ImageFile]) -> None:
    target = open_training(JOB, [files[1]], seen=[1], missing=[files[0], files[3]])
    assert target.missing is not None
    assert target.missing.labels.tolist() == [0, 3, 3, 3, 3]
    assert target.missing.missing is None


def test_features_are_the_rows_of_the_classes(files: dict[int, ImageFile], tmp_path: Path) -> None:
    rows = np.arange(10 * WIDTH, dtype=np.float32).reshape(10, WIDTH)  # of all classes in order
    path = tmp_path / "features.f32"
    path.write_bytes(rows.tobytes())
    seen_rows = FeatureRows(str(path), WIDTH, ((1, 2), (6, 4)))  # classes 1 and 3
    target = open_training(JOB, [files[1], files[3]], seen=[1, 3], features=seen_rows)
    assert target.features is not None
    np.testing.assert_array_equal(target.features.numpy(), rows[[1, 2, 6, 7, 8, 9]])
    assert len(target.features) == len(target)


def test_on_a_device_everything_moves(files: dict[int, ImageFile]) -> None:
    target = open_training(JOB, [files[1]], seen=[1], missing=[files[0]])
    meta = on_device(target, torch.device("meta"))
    assert {t.device.type for t in (meta.images, meta.labels, meta.seen)} == {"meta"}
    assert meta.missing is not None
    assert meta.missing.labels.device.type == "meta"
