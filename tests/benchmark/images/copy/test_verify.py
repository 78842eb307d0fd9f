"""Verification names every image that is absent, damaged, changed or unusual."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from benchmark import pool
from benchmark.errors import DataError
from benchmark.images import decode
from benchmark.images.copy.verify import digests_file, verify_images
from benchmark.images.place import absent_paths, images_folder
from benchmark.images.store.build import read_image
from benchmark.manifest.manifest import Manifest

NAMES = [f"Art/cup/{number}.jpg" for number in range(4)]


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """A manifest of four plain images, with a local copy."""
    monkeypatch.setenv("HTBENCH_DATA", str(tmp_path / "data"))
    rows = [
        {"image_id": n, "path": n, "domain": "Art", "split": "train", "class": "cup"} for n in NAMES
    ]
    document: dict[str, Any] = {"name": "small", "version": "0.1", "domains": []}
    manifest = Manifest(tmp_path, document, pa.Table.from_pylist(rows))
    for name in NAMES:
        (images_folder(manifest) / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), "red").save(images_folder(manifest) / name, "JPEG")
    return manifest


def test_plain_images_have_no_notes(manifest: Manifest) -> None:
    verification = verify_images(manifest)
    assert verification.ok
    assert verification.notes == {}


def test_unusual_images_are_good_and_named(manifest: Manifest) -> None:
    """A 16-bit greyscale ramp became white, and was called good without a word."""
    file = images_folder(manifest) / NAMES[1]
    ramp = np.linspace(0, 65535, 48 * 40).reshape(48, 40).astype(np.uint16)
    Image.fromarray(ramp).save(file, "PNG")
    verification = verify_images(manifest)
    assert verification.ok
    assert verification.notes == {
        "PNG, but the name ends in .jpg": [NAMES[1]],
        decode.SIXTEEN_BIT: [NAMES[1]],
    }
    pixels, _ = read_image(file, 48)
    assert 127 < pixels.mean() < 128
    assert (pixels == 255).mean() < 0.01


def test_other_files_are_damaged(manifest: Manifest) -> None:
    root = images_folder(manifest)
    (root / NAMES[0]).write_bytes(b"GIF89a")
    (root / NAMES[1]).unlink()
    os.mkfifo(root / NAMES[1])
    (root / NAMES[2]).write_bytes(b"")
    verification = verify_images(manifest)
    assert not verification.ok
    assert verification.damaged == {
        NAMES[0]: "it is a GIF image; images must be JPEG or PNG",
        NAMES[1]: "it is not a regular file",
        NAMES[2]: "it is empty; images must be JPEG or PNG",
    }


def test_linked_folders_are_followed_as_runs_do(manifest: Manifest, tmp_path: Path) -> None:
    root = images_folder(manifest)
    shutil.move(root / "Art" / "cup", tmp_path / "cups")
    shutil.move(root / "Art", tmp_path / "art")
    (root / "Art").symlink_to(tmp_path / "art")
    (tmp_path / "art" / "cup").symlink_to(tmp_path / "cups")
    (tmp_path / "cups" / NAMES[3][-5:]).unlink()
    (tmp_path / "cups" / "more.txt").touch()
    (tmp_path / "cups" / "up").symlink_to(root)
    verification = verify_images(manifest)
    assert absent_paths(manifest) == {NAMES[3]}
    assert verification.missing == [NAMES[3]]
    assert verification.unexpected == ["Art/cup/more.txt", "Art/cup/up"]


def test_an_image_that_takes_too_much_memory_is_damaged(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker that decoded it does the next job."""
    root = images_folder(manifest)
    Image.new("RGB", (6000, 6000)).save(root / NAMES[1])  # 144 MB in PIL
    monkeypatch.setattr(pool, "worker_count", lambda images: 2)
    monkeypatch.setattr("benchmark.images.copy.verify.CHUNK", 1)
    monkeypatch.setattr(pool, "MEMORY", 128 << 20)
    verification = verify_images(manifest)
    assert verification.damaged == {
        NAMES[1]: "it takes more memory to decode than one image may take"
    }
    assert sum(good for *_, good in verification.counts) == 3


def test_changed_pixels_are_noticed_against_the_first_verification(manifest: Manifest) -> None:
    assert verify_images(manifest).since is None
    record = pq.read_table(digests_file(manifest))
    assert record["path"].to_pylist() == NAMES
    files = [images_folder(manifest) / name for name in NAMES]
    assert record["bytes"].to_pylist() == [file.stat().st_size for file in files]
    pixels = np.full((8, 8, 3), np.asarray(Image.open(files[0])))
    digest = hashlib.sha256(b"8 8 " + pixels.tobytes()).hexdigest()
    assert record["pixels_sha256"].to_pylist() == [digest] * 4
    Image.new("RGB", (8, 8), "blue").save(files[3], "JPEG")
    Image.new("RGB", (8, 8), "blue").save(files[1], "JPEG")
    again = verify_images(manifest)
    assert again.changed == [NAMES[1], NAMES[3]]
    assert again.counts == [("Art", "train", 4, 2)]
    assert again.classes == {"Art/train/cup": (2, 4)}


@pytest.mark.parametrize("value", [None, "not hexadecimal", 3, "", "ab"])
def test_a_damaged_record_of_earlier_verifications_is_named(manifest: Manifest, value: Any) -> None:
    verify_images(manifest)
    record = pq.read_table(digests_file(manifest))
    column = pa.array([value] * record.num_rows)
    record = record.set_column(2, "pixels_sha256", column)
    pq.write_table(record, digests_file(manifest))
    with pytest.raises(DataError, match="record of earlier verifications, cannot be read"):
        verify_images(manifest)
