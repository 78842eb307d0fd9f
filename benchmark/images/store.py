"""The image store: every image of a domain decoded once into raw uint8 files to be mapped.

A domain's training images lie in one file per class, so that a run can be given its seen classes
and nothing else. Its test images lie in one file ordered by the SHA-256 of their pixels: a
manifest is written class by class, and its order would give the labels away. No torch.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.errors import DataError, first
from benchmark.files import digest_json, new_folder, read_json
from benchmark.folders import data_folder
from benchmark.images.embedded import embedded_images

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmark.manifest import Manifest

FORMAT = 1
MAX_INDEX_BYTES = 256 << 20
TEST_FILE = "test.u8"
INDEX_FILE = "index.json"

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class DomainStore:
    """The decoded images of one domain of one manifest.

    Attributes:
        root: its folder: ``train-<class index>.u8``, ``test.u8``, ``index.json``. A file holds
            N x 3 x S x S bytes, S the manifest's image size.
        index: ``train``: class index to ids; ``test``: ids, in the order of the file.
    """

    root: Path
    image_size: int
    index: dict[str, Any]

    @cached_property
    def test_ids(self) -> tuple[str, ...]:
        """Ids of the test images in the order of the test file."""
        return tuple(self.index["test"])

    @property
    def test_file(self) -> Path:
        """The file of all test images."""
        return self.root / TEST_FILE

    def train_files(self, classes: list[int]) -> list[tuple[Path, int, int]]:
        """File, class index and number of images of each of the classes that has any."""
        return [
            (self.root / f"train-{c}.u8", c, len(self.index["train"][str(c)]))
            for c in classes
            if str(c) in self.index["train"]
        ]


def store_key(manifest: Manifest, domain: str) -> str:
    """What the bytes of a store depend on, as a digest."""
    from importlib.metadata import version

    return digest_json(
        {
            "format": FORMAT,
            "manifest": manifest.digest,
            "domain": domain,
            "image_size": manifest.image_size,
            "pillow": version("pillow"),
        }
    )


def store_folder(manifest: Manifest, domain: str) -> Path:
    """Where the store of a domain is, or would be."""
    name = f"{manifest.name}-{manifest.version}-{domain}-{store_key(manifest, domain)[:16]}"
    return data_folder() / "stores" / name


def open_store(manifest: Manifest, domain: str, progress: Progress | None = None) -> DomainStore:
    """Open a domain's store; build it first if it is not there or not whole.

    Args:
        manifest: a checked manifest.
        domain: name of one of its domains.
        progress: called with images done and their total while building.

    Raises:
        DataError: an image is missing, damaged or of the wrong size.
    """
    from filelock import FileLock

    folder = store_folder(manifest, domain)
    if (store := _read(folder, manifest)) is not None:
        return store
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(folder.name + ".lock")):
        if (store := _read(folder, manifest)) is None:  # another process may have built it
            _build(folder, manifest, domain, progress or (lambda done, total: None))
            store = _read(folder, manifest)
    if store is None:
        raise DataError(f"the image store {folder} is not readable after it was built")
    return store


def _read(folder: Path, manifest: Manifest) -> DomainStore | None:
    """The store in a folder, or None if it is absent or a file has not the size it must have."""
    if not (folder / INDEX_FILE).is_file():
        return None
    try:
        index = read_json(folder / INDEX_FILE, MAX_INDEX_BYTES, DataError)
        store = DomainStore(folder, manifest.image_size, index)
        sizes = {f"train-{c}.u8": len(ids) for c, ids in index["train"].items()}
        sizes[TEST_FILE] = len(store.test_ids)
    except (DataError, AttributeError, KeyError, TypeError):
        return None  # a damaged index
    image_bytes = 3 * manifest.image_size**2
    for name, count in sizes.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != count * image_bytes:
            return None
    return store


def _build(folder: Path, manifest: Manifest, domain: str, progress: Progress) -> None:
    train = manifest.samples(domain, "train")
    test = manifest.samples(domain, "test")
    pixels = dict(_decoded(manifest, domain, progress, len(train.ids) + len(test.ids)))
    if lacking := [i for i in (*train.ids, *test.ids) if i not in pixels]:
        raise DataError(f"{manifest.reference}: no image data for {len(lacking)} ids, "
                        f"the first is {lacking[0]!r}")  # fmt: skip
    classes: dict[int, list[str]] = {}
    for image_id, label in zip(train.ids, train.labels.tolist(), strict=True):
        classes.setdefault(label, []).append(image_id)
    with new_folder(folder) as building:
        for label, ids in classes.items():
            classes[label] = _write(building / f"train-{label}.u8", ids, pixels)
        ordered = _write(building / TEST_FILE, list(test.ids), pixels)
        index = {"train": {str(c): ids for c, ids in sorted(classes.items())}, "test": ordered}
        (building / INDEX_FILE).write_text(json.dumps(index), "utf-8")


def _write(path: Path, ids: list[str], pixels: dict[str, NDArray[np.uint8]]) -> list[str]:
    """Write images in the order of their pixels' SHA-256 and return their ids in that order."""
    ordered = sorted(ids, key=lambda i: (hashlib.sha256(pixels[i].tobytes()).digest(), i))
    with path.open("wb") as file:
        for image_id in ordered:
            file.write(pixels[image_id].tobytes())
    return ordered


def _decoded(
    manifest: Manifest, domain: str, progress: Progress, total: int
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    if manifest.document["images"] != "embedded":
        raise DataError(
            f"the images of {manifest.reference} do not come with the suite, and this version "
            "cannot import them yet: its splits can be used, its tasks not run"
        )
    for done, (image_id, data) in enumerate(embedded_images(manifest, domain), start=1):
        yield image_id, _decode(image_id, data, manifest.image_size)
        if done % 256 == 0 or done == total:
            progress(done, total)


def _decode(image_id: str, data: bytes, size: int) -> NDArray[np.uint8]:
    """Pixels (3, S, S) uint8 of an encoded image, as RGB."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            if image.size != (size, size):  # known from the header, before anything is inflated
                raise DataError(f"image {image_id!r} is {image.size}, not {size} x {size} pixels")
            array = np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"image {image_id!r} cannot be decoded: {error}") from None
    return np.ascontiguousarray(array.transpose(2, 0, 1))


def check_images(manifest: Manifest) -> int:
    """Decode every packaged image of a manifest; return how many there are.

    Raises:
        DataError: one is missing, damaged, of the wrong size, or not the manifest's.
    """
    found = {
        image_id
        for domain in manifest.domains
        for image_id, _ in _decoded(manifest, domain.name, lambda done, total: None, 0)
    }
    if lacking := set(manifest.table["image_id"].to_pylist()) - found:
        raise DataError(f"{manifest.reference}: no image data for {first(sorted(lacking))}")
    return len(found)
