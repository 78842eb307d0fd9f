"""A job opens the files of its own classes, and the rows of features that belong to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from benchmark.child import data
from benchmark.child.data import on_device, open_model, open_training, prepare_model
from benchmark.jobs import FeatureRows, ImageFile, ImageFormat, ImageJob, Network, Setup
from benchmark.networks.build import build, weights_of

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


def test_a_prepared_network_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "_prepared", {})
    table, size = {"name": "convnet", "width": 4}, 32
    network, other = (Network({**table, "width": width}, CLASSES, size) for width in (4, 8))
    trained = {width: build({**table, "width": width}, len(CLASSES), size) for width in (4, 8)}
    for width, model in trained.items():
        safetensors.torch.save_file(weights_of(model), tmp_path / f"{width}.safetensors")
    prepare_model(table, len(CLASSES), size)
    (prepared,) = data._prepared.values()
    images = torch.rand(2, 3, size, size)
    opened = [open_model(network, str(tmp_path / "4.safetensors")) for _ in range(2)]
    assert opened[0] is prepared
    assert opened[1] is not prepared, "its base has the same network, but other weights"
    for model in opened:
        assert not model.training
        assert torch.equal(model(images), trained[4].eval()(images))
    prepare_model(table, len(CLASSES), size)
    wide = open_model(other, str(tmp_path / "8.safetensors"))
    assert torch.equal(wide(images), trained[8].eval()(images))
