"""Single images of a store's files, as they are stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.child.predict import decode
from benchmark.errors import DataError
from benchmark.images.store.build import stored
from benchmark.images.store.encoded import EncodedImages
from benchmark.images.store.jpeg import encode, write_pack
from benchmark.images.store.tensors import open_images
from benchmark.jobs import ImageFormat

SIZE = 4
COUNTS = (3, 1, 5)


@pytest.fixture(params=["raw", "interleaved", "jpeg"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def files(tmp_path: Path, kind: str) -> list[tuple[Path, int]]:
    random = np.random.default_rng(0)
    files = []
    for number, count in enumerate(COUNTS):
        path = tmp_path / f"{number}"
        images = random.integers(0, 256, (count, 3, SIZE, SIZE), dtype=np.uint8)
        if kind != "jpeg":
            path.write_bytes(b"".join(stored(image, kind) for image in images))
        else:
            encoded = list(map(encode, images))
            with path.open("wb") as file:
                write_pack(file, list(map(len, encoded)), encoded)
        files.append((path, count))
    return files


def test_a_batch_decodes_to_the_images_of_the_files(
    files: list[tuple[Path, int]], kind: str
) -> None:
    expected = []
    for path, count in files:
        with path.open("rb") as file:
            part = open_images(file.fileno(), count, SIZE, kind)
        for index in range(count):
            image = part[index] if isinstance(part, torch.Tensor) else part.decode(index)
            expected.append(torch.as_tensor(image))
    order = [8, 0, 3, 4, 2, 8]
    with EncodedImages(files, SIZE, kind) as images:
        assert len(images) == sum(COUNTS)
        batch = decode([images.read(index) for index in order], ImageFormat(SIZE, kind))
    assert batch.dtype == torch.uint8
    assert torch.equal(batch, torch.stack([expected[index] for index in order]))


def test_a_file_of_another_length_is_named(files: list[tuple[Path, int]], kind: str) -> None:
    path, _ = files[1]
    path.write_bytes(path.read_bytes()[:-1])
    with (
        pytest.raises(DataError, match=rf"{path}: .*delete .* and run the command again"),
        EncodedImages(files, SIZE, kind),
    ):
        pass


def test_no_files() -> None:
    with EncodedImages([], SIZE, "raw") as images:
        assert len(images) == 0
