"""A source model's features of a domain's training images: computed once, shared by all runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from benchmark.errors import DataError, RunError
from benchmark.files import digest_file, matches_digest, new_folder, read_sealed, seal
from benchmark.folders import data_folder
from benchmark.images.store.encoded import EncodedImages
from benchmark.images.store.store import DomainStore, store_kind
from benchmark.isolation.answers import HandOut
from benchmark.isolation.client import held
from benchmark.isolation.conversation import no_progress, run_job
from benchmark.jobs import (
    FeatureRows,
    FeaturesJob,
    ImageFormat,
    network_of,
    new_scratch,
    setup_of,
)
from benchmark.keys import FeatureFacts, computation
from benchmark.sources.spec import SourceCheckpoint

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from benchmark.isolation.client import ForkServer
    from benchmark.manifest.manifest import Manifest

FEATURES_FILE = "features.f32"
FEATURES_RECORD = "features.json"
MAX_RECORD_BYTES = 1 << 20


@dataclass(frozen=True)
class Features:
    """A source model's features of a domain's training images, on disk.

    Attributes:
        path: float32 rows of ``width`` numbers, class by class, in the order of the image store.
        ranges: class index (as text) to first row and number of rows.
    """

    path: Path
    width: int
    ranges: Mapping[str, tuple[int, int]]

    def rows_of(self, classes: Sequence[int]) -> FeatureRows:
        """What a child needs to read the rows of some classes, and no others."""
        ranges = [self.ranges[str(c)] for c in classes if str(c) in self.ranges]
        return FeatureRows(str(self.path), self.width, tuple((i, n) for i, n in ranges))


def extract_features(
    server: ForkServer,
    source: SourceCheckpoint,
    manifest: Manifest,
    device: str,
    store: DomainStore,
    folder: Path,
) -> Features:
    """The features of a domain's training images, computed in a child unless they are on disk.

    While one driver computes them, others wait.

    Args:
        server: forks the child.
        source: the source model.
        manifest: names the network and the classes.
        device: ``cpu`` or ``cuda``.
        store: of the domain.
        folder: an empty folder for the child's output and arrays.

    Raises:
        RunError: a child failed to compute them.
    """
    target = features_folder(source, store, device)
    if (features := find_features(target)) is not None:
        return features
    target.parent.mkdir(parents=True, exist_ok=True)
    with held(FileLock(target.with_name(f"{target.name}.lock")), server):
        features = find_features(target)  # another driver may have been faster
        return features or _extract(server, source, manifest, device, store, folder, target)


def _extract(
    server: ForkServer,
    source: SourceCheckpoint,
    manifest: Manifest,
    device: str,
    store: DomainStore,
    folder: Path,
    target: Path,
) -> Features:
    classes = list(range(len(manifest.classes)))
    job = FeaturesJob(
        scratch=new_scratch(folder),
        setup=setup_of(manifest, device),
        network=network_of(manifest),
        images=ImageFormat(manifest.image_size, store_kind(manifest)),
        source=str(source.path),
    )
    files = store.train_files(classes)
    parts = [(path, count) for path, _, count in files]
    with EncodedImages(parts, job.images.size, job.images.store) as images:
        hand_out = HandOut.in_order(images, _head_width(source))
        outcome = run_job(server, job, hand_out, folder, no_progress)
    if outcome.error is not None:
        raise RunError(f"computing the features of {store.root} failed: {outcome.error_text}")
    assert outcome.array is not None
    return save_features(target, files, outcome.array)


def features_folder(source: SourceCheckpoint, store: DomainStore, device: str) -> Path:
    """Where the features of a domain under a source model are, or would be."""
    model = source.record["made_from"]["model"]
    facts = FeatureFacts(
        source=source.digest,
        model=model,
        store=store.root.name,
        classes=sorted(store.index["train"]),
        computation=computation(device, model),
    )
    return data_folder() / "features" / facts.key[:32]


def find_features(folder: Path) -> Features | None:
    """The features in a folder, or None if they are missing or damaged: they are computed again."""
    try:
        record = read_sealed(folder / FEATURES_RECORD, MAX_RECORD_BYTES, DataError)
    except DataError:
        return None
    path = folder / FEATURES_FILE
    match record:
        case {
            "key": folder.name,
            "digest": digest,
            "width": int(width),
            "ranges": dict(ranges),
        } if all(map(_is_range, ranges.values())) and matches_digest(path, digest):
            return Features(path, width, ranges)
    return None


def _is_range(value: object) -> bool:
    """Whether a value is the first row and the number of rows of a class."""
    match value:
        case [int(), int()]:
            return True
    return False


def save_features(
    folder: Path, files: Sequence[tuple[Path, int, int]], rows: NDArray[np.float32]
) -> Features:
    """Write features, whole or not at all.

    Args:
        folder: see :func:`features_folder`.
        files: path, class index and number of images, in the order of the rows.
        rows: float32 (N, d).
    """
    ranges, start = {}, 0
    for _, label, count in files:
        ranges[str(label)] = (start, count)
        start += count
    with new_folder(folder) as building:
        (building / FEATURES_FILE).write_bytes(rows.tobytes())
        record = {
            "key": folder.name,
            "width": rows.shape[1],
            "ranges": ranges,
            "digest": digest_file(building / FEATURES_FILE),
        }
        (building / FEATURES_RECORD).write_bytes(seal(record))
    return Features(folder / FEATURES_FILE, rows.shape[1], ranges)


def _head_width(source: SourceCheckpoint) -> int:
    """The width of the features that a checkpoint's head takes, from the file's header."""
    from safetensors import safe_open

    with safe_open(source.path, framework="numpy") as file:
        return int(file.get_slice("head.weight").get_shape()[1])
