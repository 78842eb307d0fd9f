"""The image store: a domain's images, decoded once into files that are memory-mapped.

The training images are in one file per class, so that a run gets its seen classes and no others.
The test images are in one file, ordered by the SHA-256 of their pixels: manifests are ordered by
class, and that order would reveal the labels.

The store of a small data set with embedded images is built domain by domain. For a data set whose
images are files, only the required parts are built (see ``images/build.py``): as raw pixels or, if
these would exceed ``RAW_LIMIT``, as JPEG. Raw pixels of large images are interleaved: torch crops
and resizes them in half the time.

Loads no torch.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.commands import command, ways_to_images
from benchmark.errors import DataError, first
from benchmark.files import (
    digest_file,
    digest_json,
    discard,
    matches_digest,
    new_folder,
    read_sealed,
    seal,
)
from benchmark.folders import data_folder
from benchmark.images import LARGE_PIXELS
from benchmark.images.decode import RULES, decode, opened
from benchmark.images.place import image_size, images_folder
from benchmark.images.store import jpeg
from benchmark.images.store.build import (
    MAX_INDEX_BYTES,
    BuildPlan,
    Member,
    build_parts,
    part_name,
    suffix_of,
)
from benchmark.images.store.embedded import embedded_images
from benchmark.progress import Logger, Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmark.manifest.manifest import Manifest

FORMAT = 1
TEST_FILE = "test.u8"
INDEX_FILE = "index.json"

RAW_LIMIT = 48 << 30  # bytes of all pixels of a manifest; DomainNet has 76 GiB at 256 pixels


@dataclass(frozen=True)
class ImageNeed:
    """Which images of a domain are required.

    Attributes:
        train: indices of the classes whose training images are required; None: all classes.
        test: whether the test images are required.
    """

    train: frozenset[int] | None = None
    test: bool = True

    def __or__(self, other: ImageNeed) -> ImageNeed:
        """Combine two needs."""
        both = self.train is not None and other.train is not None
        train = self.train | other.train if both else None  # type: ignore[operator]
        return ImageNeed(train, self.test or other.test)


EVERYTHING = ImageNeed()


@dataclass(frozen=True)
class DomainStore:
    """The decoded images of one domain of one manifest.

    Attributes:
        root: the folder with ``train-<class index>.u8`` and ``test.u8``, uint8 (N, 3, S, S) with S
            the manifest's image size, or (N, S, S, 3) if they are interleaved; or with the same
            names in ``.pack``, see ``images/jpeg.py``.
        image_size: S.
        index: ``train``: class index to ids; ``test``: ids, in the order of the file.
        kind: ``raw``, ``interleaved`` or ``jpeg``.
    """

    root: Path
    image_size: int
    index: dict[str, Any]
    kind: str = "raw"

    @property
    def _suffix(self) -> str:
        return suffix_of(self.kind)

    @cached_property
    def test_ids(self) -> tuple[str, ...]:
        """Ids of the test images, in the order of the test file."""
        return tuple(self.index["test"])

    @property
    def test_file(self) -> Path:
        """The file of the test images."""
        return self.root / f"test{self._suffix}"

    def train_files(self, classes: list[int]) -> list[tuple[Path, int, int]]:
        """File, class index and number of images, for each of the classes that has images."""
        return [
            (self.root / f"train-{c}{self._suffix}", c, len(self.index["train"][str(c)]))
            for c in classes
            if str(c) in self.index["train"]
        ]


def store_key(manifest: Manifest, domain: str) -> str:
    """Return a digest of everything that the bytes of a store depend on."""
    from importlib.metadata import version

    inputs = {
        "format": FORMAT,
        "manifest": manifest.digest,
        "domain": domain,
        "image_size": manifest.image_size,
        "pillow": version("pillow"),
    }
    if manifest.document["images"] != "embedded":  # embedded images need no special conversion
        inputs["decoding"] = RULES
    if (kind := store_kind(manifest)) != "raw":
        inputs["kind"] = kind
    if kind == "jpeg":
        inputs["quality"] = jpeg.QUALITY
    return digest_json(inputs)


def store_kind(manifest: Manifest) -> str:
    """Return ``raw``, ``interleaved`` or ``jpeg``.

    The manifest's ``store`` decides between pixels and JPEG, or else the size of all pixels. Pixels
    of large images are interleaved; embedded images are small.
    """
    if manifest.document["images"] == "embedded":
        return "raw"
    pixels = manifest.image_size**2
    default = "raw" if manifest.table.num_rows * 3 * pixels <= RAW_LIMIT else "jpeg"
    kind = str(manifest.document.get("store", default))
    return "interleaved" if kind == "raw" and pixels > LARGE_PIXELS else kind


def store_folder(manifest: Manifest, domain: str) -> Path:
    """Return the folder of a domain's store; it may not exist yet."""
    name = f"{manifest.name}-{manifest.version}-{domain}-{store_key(manifest, domain)[:16]}"
    return data_folder() / "stores" / name


def store_state(manifest: Manifest) -> tuple[int, int]:
    """Count the domains with a store (complete or not), and all domains."""
    built = [
        domain
        for domain in manifest.domains
        if any(store_folder(manifest, domain.name).glob("*.json"))
    ]
    return len(built), len(manifest.domains)


def find_store(manifest: Manifest, domain: str, need: ImageNeed = EVERYTHING) -> DomainStore | None:
    """Return a domain's store, or None if a required part is missing.

    Nothing is built, and the pixels are not checked.
    """
    return _read(store_folder(manifest, domain), manifest, domain, need)


def absent_images(manifest: Manifest, domain: str, need: ImageNeed) -> list[str]:
    """List the paths of required images that are in neither the store nor the local copy."""
    if manifest.document["images"] == "embedded" or find_store(manifest, domain, need) is not None:
        return []
    root = images_folder(manifest)
    members = _parts(manifest, domain, need).values()
    return [m.path for part in members for m in part if not image_size(root / m.path)]


def open_store(
    manifest: Manifest,
    domain: str,
    progress: Progress | None = None,
    need: ImageNeed = EVERYTHING,
    log: Logger | None = None,
) -> DomainStore:
    """Open a domain's store; build the required parts first if they are missing or damaged.

    Args:
        manifest: a valid manifest.
        domain: name of one of its domains.
        progress: called with the number of decoded images and their total.
        need: the required images; embedded images are always built together.
        log: called with the names of damaged files, and the size and duration of a long build.

    Raises:
        DataError: an image is missing, damaged or of the wrong size, or the disk is too small.
    """
    from filelock import FileLock

    folder = store_folder(manifest, domain)
    progress, log = progress or (lambda finished, total: None), log or _ignore
    if (store := _read(folder, manifest, domain, need, _naming(log))) is not None:
        return store
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(folder.name + ".lock")):
        # Another process may have built it in the meantime.
        if (store := _read(folder, manifest, domain, need, _ignore)) is None:
            if manifest.document["images"] == "embedded":
                _build(folder, manifest, domain, progress)
            else:
                _build_needed(folder, manifest, domain, need, progress, log)
            store = _read(folder, manifest, domain, need, _ignore)
    if store is None:
        raise DataError(
            f"the image store {folder} was built but cannot be read; delete it and run the command "
            f"again: rm -r {shlex.quote(str(folder))}"
        )
    return store


def _ignore(text: str) -> None:
    pass


def _naming(log: Logger) -> Logger:
    """Called with the path of a damaged file, and logs a sentence."""
    return lambda path: log(f"{path} is damaged or of another version; it is built again")


def _read(
    folder: Path,
    manifest: Manifest,
    domain: str,
    need: ImageNeed,
    damaged: Logger | None = None,
) -> DomainStore | None:
    """Return the store in a folder, or None if a required file is missing or damaged.

    Args:
        folder: see :func:`store_folder`; ``manifest``, ``domain``, ``need``: as there.
        damaged: called with the paths of damaged files; None: digests of pixels are not compared.
    """
    if manifest.document["images"] == "embedded":
        return _read_whole(folder, manifest, damaged)
    index: dict[str, Any] = {"train": {}, "test": []}
    kind = store_kind(manifest)
    store = DomainStore(folder, manifest.image_size, index, kind)
    for name, members in _parts(manifest, domain, need).items():
        ids = _read_part(store, name, len(members), damaged)
        if ids is None:
            return None
        if name == "test":
            index["test"] = ids
        else:
            index["train"][name.removeprefix("train-")] = ids
    return store


def _read_part(
    store: DomainStore, name: str, count: int, damaged: Logger | None
) -> list[str] | None:
    """Return the ids of a part in the order of its file, or None if it is missing or damaged."""
    path, pixels = store.root / f"{name}.json", store.root / f"{name}{store._suffix}"
    if not path.exists():
        return None
    broken = path
    match _read_index(path):
        case {"part": part, "ids": ids, "digest": str(digest)} if (
            part == part_name(store.root, name) and _are_ids(ids) and len(ids) == count
        ):
            if _is_intact(pixels, digest, damaged):
                return list(ids)
            broken = pixels
    if damaged is not None:
        damaged(str(broken))
    return None


def _read_index(path: Path) -> dict[str, Any]:
    """Return the content of an index; empty if it is damaged."""
    try:
        return read_sealed(path, MAX_INDEX_BYTES, DataError)
    except DataError:
        return {}


def _are_ids(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(image_id, str) for image_id in value)


def _is_intact(path: Path, sha256: str, damaged: Logger | None) -> bool:
    return path.is_file() if damaged is None else matches_digest(path, sha256)


def _parts(manifest: Manifest, domain: str, need: ImageNeed) -> dict[str, list[Member]]:
    """Map the name of every required part to its images."""
    train = manifest.rows(domain, "train")
    labels = manifest.codes["class"][train]
    present = frozenset(labels.tolist())
    classes = present if need.train is None else present & need.train
    parts = {f"train-{c}": _members(manifest, train[labels == c]) for c in sorted(classes)}
    if need.test:
        parts["test"] = _members(manifest, manifest.rows(domain, "test"))
    return parts


def _members(manifest: Manifest, rows: NDArray[np.int64]) -> list[Member]:
    """The images of some rows of a manifest; a large one has far more than a store needs."""
    digest = ["sha256"] if "sha256" in manifest.table.column_names else []
    columns = manifest.table.select(["image_id", "path", *digest]).take(rows)
    return [Member(*entry) for entry in zip(*(c.to_pylist() for c in columns), strict=True)]


def _build_needed(
    folder: Path, manifest: Manifest, domain: str, need: ImageNeed, progress: Progress, log: Logger
) -> None:
    """Build the required parts that are missing or incomplete."""
    kind = store_kind(manifest)
    store = DomainStore(folder, manifest.image_size, {}, kind)
    absent = {
        name: members
        for name, members in _parts(manifest, domain, need).items()
        if _read_part(store, name, len(members), _ignore) is None
    }
    for name in absent:
        for path in (folder / f"{name}.json", folder / f"{name}{store._suffix}"):
            if path.is_dir():  # a file is replaced
                discard(path)
    plan = BuildPlan(
        folder=folder,
        images=images_folder(manifest),
        size=manifest.image_size,
        kind=kind,
        members=absent,
        name=f"{manifest.reference} {domain}",
        reference=manifest.reference,
        ways_to_images=ways_to_images(manifest),
        verify=command("data", "verify", manifest.argument),
    )
    build_parts(plan, progress, log)


def _read_whole(folder: Path, manifest: Manifest, damaged: Logger | None) -> DomainStore | None:
    path = folder / INDEX_FILE
    if not path.exists():
        return None
    broken = [path]
    match _read_index(path):
        case {"store": folder.name, "train": dict(train), "test": test, "files": dict(files)} if (
            all(map(_are_ids, [test, *train.values()]))
            and files.keys() == {TEST_FILE, *(f"train-{label}.u8" for label in train)}
        ):
            broken = [
                folder / name
                for name, sha256 in files.items()
                if not _is_intact(folder / name, sha256, damaged)
            ]
            if not broken:
                return DomainStore(folder, manifest.image_size, {"train": train, "test": test})
    if damaged is not None:
        damaged(", ".join(map(str, broken)))
    return None


def _build(folder: Path, manifest: Manifest, domain: str, progress: Progress) -> None:
    train, test = (manifest.samples(domain, split) for split in ("train", "test"))
    used = (*train.ids, *test.ids)  # a fold of a search has a part of the domain's images
    pixels = dict(_decode_all(manifest, domain, progress, frozenset(used)))
    if absent := [i for i in used if i not in pixels]:
        raise DataError(f"{manifest.reference}: no image data for {first(absent)}")
    classes: dict[int, list[str]] = {}
    for image_id, label in zip(train.ids, train.labels.tolist(), strict=True):
        classes.setdefault(label, []).append(image_id)
    with new_folder(folder) as building:
        for label, ids in classes.items():
            classes[label] = _write(building / f"train-{label}.u8", ids, pixels)
        ordered = _write(building / TEST_FILE, list(test.ids), pixels)
        index = {
            "store": folder.name,
            "train": {str(c): ids for c, ids in sorted(classes.items())},
            "test": ordered,
            "files": {path.name: digest_file(path) for path in sorted(building.iterdir())},
        }
        (building / INDEX_FILE).write_bytes(seal(index))


def _write(path: Path, ids: list[str], pixels: dict[str, NDArray[np.uint8]]) -> list[str]:
    """Write images in the order of their pixels' SHA-256; return their ids in that order."""
    ordered = sorted(ids, key=lambda i: (hashlib.sha256(pixels[i].tobytes()).digest(), i))
    with path.open("wb") as file:
        for image_id in ordered:
            file.write(pixels[image_id].tobytes())
    return ordered


def _decode_all(
    manifest: Manifest, domain: str, progress: Progress, ids: Collection[str] | None = None
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """The pixels of a domain's embedded images by id: of all, or of some."""
    wanted = (one for one in embedded_images(manifest, domain) if ids is None or one[0] in ids)
    for finished, (image_id, data) in enumerate(wanted, start=1):
        yield image_id, _decode(image_id, data, manifest.image_size)
        if ids is not None and (finished % 256 == 0 or finished == len(ids)):
            progress(finished, len(ids))


def _decode(image_id: str, data: bytes, size: int) -> NDArray[np.uint8]:
    """Decode an image as RGB, uint8 (3, S, S)."""
    try:
        with opened(data) as image:
            if image.size == (size, size):  # known from the header, before decompression
                rgb, truncated, _ = decode(data)
                if truncated:
                    raise DataError("it is truncated")
                return np.ascontiguousarray(np.asarray(rgb).transpose(2, 0, 1))
            width, height = image.size
    except DataError as error:
        raise DataError(f"image {image_id!r} cannot be decoded: {error}") from None
    raise DataError(f"image {image_id!r} is {width} x {height} pixels, not {size} x {size}")


def check_images(manifest: Manifest) -> int:
    """Decode every embedded image of a manifest; return their number.

    Raises:
        DataError: an image is missing, damaged or of the wrong size, or its SHA-256 does not match.
    """
    parts = (_decode_all(manifest, d.name, lambda finished, total: None) for d in manifest.domains)
    ids = {image_id for images in parts for image_id, _ in images}
    if absent := set(manifest.table["image_id"].to_pylist()) - ids:
        raise DataError(f"{manifest.reference}: no image data for {first(sorted(absent))}")
    return len(ids)
