"""Images that stay in their files: how they are indexed, and how a GPU keeps them."""

from __future__ import annotations

import pytest
import torch

from benchmark.images.store import tensors
from benchmark.images.store.tensors import Kept, LazyImages, fits_on, open_images

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SIDE = 4


@pytest.fixture
def parts():
    generator = torch.Generator().manual_seed(0)
    shape = (3, SIDE, SIDE)
    return [
        torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator)
        for count in (5, 0, 7)
    ]


class Counting(LazyImages):
    """Counts how often each image is read."""

    def _read(self, rows):
        self.reads.extend(rows.tolist())
        return super()._read(rows)


def test_kept_images_are_those_of_the_files_and_read_once(parts):
    whole = torch.cat(parts)
    images = Counting(parts, SIDE, kept=Kept(12, SIDE, CPU))
    images.reads = []
    for rows in ([3, 3, 11], [11, 0], [4, 5, 6, 3]):
        index = torch.tensor(rows)
        assert torch.equal(images[index], whole[index])
        assert torch.equal(LazyImages(parts, SIDE)[index], whole[index])
    assert torch.equal(images[2:9], whole[2:9])
    assert sorted(images.reads) == sorted(set(images.reads)) == [0, 2, 3, 4, 5, 6, 7, 8, 11]


def test_interleaved_images_stay_so_and_are_the_same(parts):
    whole = torch.cat(parts)
    interleaved = [part.to(memory_format=torch.channels_last) for part in parts]
    rows = torch.tensor([11, 0, 7, 7])
    images = LazyImages(interleaved, SIDE)[rows]
    assert torch.equal(images, whole[rows])
    assert images.is_contiguous(memory_format=torch.channels_last)
    mixed = LazyImages([interleaved[0], *parts[1:]], SIDE)[rows]
    assert torch.equal(mixed, whole[rows])
    assert mixed.is_contiguous()


def test_a_file_without_images_does_not_change_the_layout_of_the_others(tmp_path):
    parts = []
    for count in (2, 0):
        path = tmp_path / str(count)
        path.write_bytes(bytes(range(3 * SIDE * SIDE)) * count)
        with path.open("rb") as file:
            parts.append(open_images(file.fileno(), count, SIDE, "interleaved"))
    for images in (LazyImages(parts, SIDE)[torch.tensor([1])], tensors.join(parts, SIDE)):
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert images[0, :, 0, 1].tolist() == [3, 4, 5]


def test_a_selection_shares_what_is_kept(parts):
    whole, kept = torch.cat(parts), Kept(12, SIDE, CPU)
    images = Counting(parts, SIDE, kept=kept)
    images.reads = []
    images[torch.tensor([1, 6])]
    few = images.select(torch.tensor([6, 2, 1]))
    few.reads = []
    assert torch.equal(few[:], whole[[6, 2, 1]])
    assert few.reads == [2]


def test_what_a_prediction_kept_can_be_completed_in_training(parts):
    images = LazyImages(parts, SIDE, kept=Kept(12, SIDE, CPU))
    with torch.inference_mode():
        images[torch.tensor([1])]
    assert torch.equal(images[:], torch.cat(parts))


def test_no_memory_is_taken_before_the_first_image(parts, monkeypatch):
    monkeypatch.setattr(tensors, "fits_on", lambda device, size: True)
    monkeypatch.setattr(torch, "empty", lambda *_, **__: pytest.fail("memory was taken"))
    LazyImages(parts, SIDE).to(CPU).select(torch.tensor([1]))


@pytest.mark.parametrize(("free", "fits"), [(6 * 576, True), (6 * 576 - 1, False)])
def test_a_sixth_of_the_free_memory_may_be_taken(parts, monkeypatch, free, fits):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10 * free))
    size = 12 * 3 * SIDE * SIDE
    assert fits_on(CUDA, size) == fits
    assert (LazyImages(parts, SIDE).to(CUDA)._kept is not None) == fits
    assert not fits_on(CPU, size)
