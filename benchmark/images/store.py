"""The image store: images of a domain decoded once, into files to be mapped.

A domain's training images lie in one file per class, so that a run can be given its seen classes
and nothing else. Its test images lie in one file ordered by the SHA-256 of their pixels: a
manifest is written class by class, and its order would give the labels away. No torch.

A small data set that embeds its images is built domain by domain. Of one whose images are files
only what is needed is built (see ``images/build.py``): as raw pixels, or, where these would take
more than ``RAW_LIMIT``, as JPEG.
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
from benchmark.images import packed
from benchmark.images.embedded import embedded_images

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmark.manifest import Manifest

FORMAT = 1
MAX_INDEX_BYTES = 256 << 20
TEST_FILE = "test.u8"
INDEX_FILE = "index.json"

RAW_LIMIT = 48 << 30  # bytes of a whole manifest's pixels; DomainNet has 76 GiB at 256 pixels

Progress = Callable[[int, int], None]
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Need:
    """Which images of a domain are needed.

    Attributes:
        train: class indices whose training images are; None: of every class.
        test: whether the test images are.
    """

    train: frozenset[int] | None = None
    test: bool = True

    def __or__(self, other: Need) -> Need:
        """What either needs."""
        both = self.train is not None and other.train is not None
        train = self.train | other.train if both else None  # type: ignore[operator]
        return Need(train, self.test or other.test)


EVERYTHING = Need()


@dataclass(frozen=True)
class DomainStore:
    """The decoded images of one domain of one manifest.

    Attributes:
        root: its folder: ``train-<class index>.u8`` and ``test.u8`` of N x 3 x S x S bytes, S the
            manifest's image size; or the same with ``.pack``, see ``images/packed.py``.
        index: ``train``: class index to ids; ``test``: ids, in the order of the file.
        kind: ``raw`` or ``jpeg``.
    """

    root: Path
    image_size: int
    index: dict[str, Any]
    kind: str = "raw"

    @property
    def _suffix(self) -> str:
        return ".u8" if self.kind == "raw" else ".pack"

    @cached_property
    def test_ids(self) -> tuple[str, ...]:
        """Ids of the test images in the order of the test file."""
        return tuple(self.index["test"])

    @property
    def test_file(self) -> Path:
        """The file of all test images."""
        return self.root / f"test{self._suffix}"

    def train_files(self, classes: list[int]) -> list[tuple[Path, int, int]]:
        """File, class index and number of images of each of the classes that has any."""
        return [
            (self.root / f"train-{c}{self._suffix}", c, len(self.index["train"][str(c)]))
            for c in classes
            if str(c) in self.index["train"]
        ]


def store_key(manifest: Manifest, domain: str) -> str:
    """What the bytes of a store depend on, as a digest."""
    from importlib.metadata import version

    made_from = {
        "format": FORMAT,
        "manifest": manifest.digest,
        "domain": domain,
        "image_size": manifest.image_size,
        "pillow": version("pillow"),
    }
    if (kind := store_kind(manifest)) != "raw":
        made_from |= {"kind": kind, "quality": packed.QUALITY}
    return digest_json(made_from)


def store_kind(manifest: Manifest) -> str:
    """``raw`` or ``jpeg``: what the manifest says by ``store``, or else by its size alone."""
    chosen = manifest.document.get("store")
    if chosen is not None:
        return str(chosen)
    pixels = manifest.table.num_rows * 3 * manifest.image_size**2
    return "raw" if manifest.document["images"] == "embedded" or pixels <= RAW_LIMIT else "jpeg"


def store_folder(manifest: Manifest, domain: str) -> Path:
    """Where the store of a domain is, or would be."""
    name = f"{manifest.name}-{manifest.version}-{domain}-{store_key(manifest, domain)[:16]}"
    return data_folder() / "stores" / name


def store_state(manifest: Manifest) -> tuple[int, int]:
    """How many domains have something in the store, and how many domains there are."""
    built = [
        domain
        for domain in manifest.domains
        if any(store_folder(manifest, domain.name).glob("*.json"))
    ]
    return len(built), len(manifest.domains)


def find_store(manifest: Manifest, domain: str, need: Need = EVERYTHING) -> DomainStore | None:
    """A domain's store if what is needed of it is there, else None; nothing is built."""
    return _read(store_folder(manifest, domain), manifest, domain, need)


def lacking_images(manifest: Manifest, domain: str, need: Need) -> list[str]:
    """Paths of needed images that are neither in the store nor in the local copy."""
    if manifest.document["images"] == "embedded" or find_store(manifest, domain, need) is not None:
        return []
    from benchmark.images.local import images_folder

    root = images_folder(manifest)
    members = _parts(manifest, domain, need).values()
    return [path for part in members for _, path in part if not (root / path).is_file()]


def open_store(
    manifest: Manifest,
    domain: str,
    progress: Progress | None = None,
    need: Need = EVERYTHING,
    tell: Tell | None = None,
) -> DomainStore:
    """Open a domain's store; build first what of it is needed and not there or not whole.

    Args:
        manifest: a checked manifest.
        domain: name of one of its domains.
        progress: called with images done and their total while building.
        need: what must be there; what the manifest embeds is all built at once.
        tell: is told how large and how long a build will be.

    Raises:
        DataError: an image is missing, damaged or of the wrong size; the disk is too small.
    """
    from filelock import FileLock

    folder = store_folder(manifest, domain)
    if (store := _read(folder, manifest, domain, need)) is not None:
        return store
    folder.parent.mkdir(parents=True, exist_ok=True)
    progress, tell = progress or (lambda done, total: None), tell or (lambda text: None)
    with FileLock(folder.with_name(folder.name + ".lock")):
        # Another process may have built it.
        if (store := _read(folder, manifest, domain, need)) is None:
            if manifest.document["images"] == "embedded":
                _build(folder, manifest, domain, progress)
            else:
                _build_needed(folder, manifest, domain, need, progress, tell)
            store = _read(folder, manifest, domain, need)
    if store is None:
        raise DataError(f"the image store {folder} is not readable after it was built")
    return store


def _read(folder: Path, manifest: Manifest, domain: str, need: Need) -> DomainStore | None:
    """The store in a folder, or None if a needed file is absent or has not the size it must."""
    if manifest.document["images"] == "embedded":
        return _read_whole(folder, manifest)
    index: dict[str, Any] = {"train": {}, "test": []}
    kind = store_kind(manifest)
    store = DomainStore(folder, manifest.image_size, index, kind)
    for name, members in _parts(manifest, domain, need).items():
        ids = _read_part(store, name, len(members))
        if ids is None:
            return None
        if name == "test":
            index["test"] = ids
        else:
            index["train"][name.removeprefix("train-")] = ids
    return store


def _read_part(store: DomainStore, name: str, count: int) -> list[str] | None:
    """The ids of a part in the order of its file; None if it is not whole."""
    path = store.root / f"{name}.json"
    if not path.is_file():
        return None
    try:
        index = read_json(path, MAX_INDEX_BYTES, DataError)
        ids, size = list(index["ids"]), index["bytes"]
        found = (store.root / f"{name}{store._suffix}").stat().st_size
    except (DataError, KeyError, TypeError, OSError):
        return None
    return ids if len(ids) == count and found == size else None


def _parts(manifest: Manifest, domain: str, need: Need) -> dict[str, list[tuple[str, str]]]:
    """The (id, path) of the images of every part that is needed, by the part's name."""
    paths = dict(
        zip(manifest.table["image_id"].to_pylist(), manifest.table["path"].to_pylist(), strict=True)
    )
    parts: dict[str, list[tuple[str, str]]] = {}
    train = manifest.samples(domain, "train")
    for image_id, label in zip(train.ids, train.labels.tolist(), strict=True):
        if need.train is None or label in need.train:
            parts.setdefault(f"train-{label}", []).append((image_id, paths[image_id]))
    if need.test:
        parts["test"] = [(i, paths[i]) for i in manifest.samples(domain, "test").ids]
    return parts


def _build_needed(
    folder: Path, manifest: Manifest, domain: str, need: Need, progress: Progress, tell: Tell
) -> None:
    """Build those of the needed parts that are not there."""
    from benchmark.images.build import Parts, build_parts
    from benchmark.images.local import images_folder

    kind = store_kind(manifest)
    store = DomainStore(folder, manifest.image_size, {}, kind)
    lacking = {
        name: members
        for name, members in _parts(manifest, domain, need).items()
        if _read_part(store, name, len(members)) is None
    }
    name = f"{manifest.reference} {domain}"
    parts = Parts(folder, images_folder(manifest), manifest.image_size, kind, lacking, name,
                  manifest.reference)  # fmt: skip
    build_parts(parts, progress, tell)


def _read_whole(folder: Path, manifest: Manifest) -> DomainStore | None:
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
