"""Verify a local copy of a data set: complete, decodable, unchanged, and without other files.

The first successful verification stores the digest of every image's pixels next to the copy; later
ones compare with it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark import pool
from benchmark.commands import command, ways_to_images
from benchmark.errors import DataError
from benchmark.files import write_file
from benchmark.images.decode import decode, read_file
from benchmark.images.place import images_folder
from benchmark.progress import Progress

if TYPE_CHECKING:
    import pyarrow as pa

    from benchmark.manifest.manifest import Manifest


CHUNK = 256  # images per job of a worker
DIGEST_KEY, DATE_KEY = b"manifest", b"verified"


@dataclass
class Verification:
    """The result of a verification; paths are the manifest's.

    Attributes:
        missing: images that are not in the copy.
        damaged: path to the reason why it cannot be decoded.
        other_bytes: images whose SHA-256 does not match the manifest.
        changed: images whose pixels differ from the first verification.
        unexpected: files in the copy that the manifest does not name.
        truncated: files that end early; some published data sets have them, so they are not a
            problem.
        notes: what is unusual about decoded images, see ``images/decode.py``, to their paths.
        counts: domain, split, number of images expected, number found good.
        classes: ``domain/split/class`` to (found good, expected), where these differ.
        since: date of the first successful verification, if any.
    """

    reference: str
    folder: str
    images: int
    missing: list[str] = field(default_factory=list)
    damaged: dict[str, str] = field(default_factory=dict)
    other_bytes: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    truncated: list[str] = field(default_factory=list)
    notes: dict[str, list[str]] = field(default_factory=dict)
    counts: list[tuple[str, str, int, int]] = field(default_factory=list)
    classes: dict[str, tuple[int, int]] = field(default_factory=dict)
    since: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the copy matches the manifest."""
        return not (
            self.missing or self.damaged or self.other_bytes or self.changed or self.unexpected
        )

    def sort(self) -> None:
        """Put the paths of each problem in order: they are found in any."""
        for paths in (self.other_bytes, self.changed, self.unexpected, self.truncated):
            paths.sort()
        self.damaged = dict(sorted(self.damaged.items()))
        self.notes = {note: sorted(paths) for note, paths in sorted(self.notes.items())}

    def as_dict(self) -> dict[str, Any]:
        """Convert to a dictionary for JSON."""
        return {"ok": self.ok, **asdict(self)}


@dataclass(frozen=True)
class _Image:
    """The facts about one image file; ``pixels`` and ``encoded`` are SHA-256 digests."""

    path: str
    problem: str | None
    size: int
    pixels: bytes
    encoded: str
    truncated: bool
    notes: tuple[str, ...]


def digests_file(manifest: Manifest) -> Path:
    """Return the path of the pixel digests of the first verification; it may not exist."""
    folder = images_folder(manifest)
    return folder.with_name(f"{folder.name}.lock.parquet")


def verify_images(manifest: Manifest, progress: Progress | None = None) -> Verification:
    """Compare the local copy of a manifest's images with the manifest, on all cores.

    Args:
        manifest: a manifest whose images are files.
        progress: called with the number of checked images and their total.

    Raises:
        DataError: there is no local copy.
    """
    root = images_folder(manifest)
    if not root.is_dir():
        raise DataError(
            f"there are no images of {manifest.reference} in {root}; run {ways_to_images(manifest)}"
        )
    table = manifest.table
    paths = table["path"].to_pylist()
    row_of = {path: row for row, path in enumerate(paths)}
    checksums = table["sha256"] if "sha256" in table.column_names else None
    verification = Verification(manifest.reference, str(root), len(paths))
    is_present = bytearray(len(paths))
    for path in _files(root):
        if (row := row_of.get(path)) is None:
            verification.unexpected.append(path)
        else:
            is_present[row] = True
    present = [path for path, here in zip(paths, is_present, strict=True) if here]
    verification.missing = [path for path, here in zip(paths, is_present, strict=True) if not here]
    earlier, verification.since = _read_digests(manifest)
    records = _Records(len(paths))
    for finished, image in enumerate(_check_all(root, present), start=1):
        row = row_of[image.path]
        checksum = None if checksums is None else checksums[row].as_py()
        _compare(image, checksum, earlier.get(image.path), verification)
        records.add(row, image)
        if progress is not None and (finished % CHUNK == 0 or finished == len(present)):
            progress(finished, len(present))
    verification.sort()
    _count(table, verification)
    if verification.ok and verification.since is None:
        _write_digests(manifest, records)
    return verification


class _Records:
    """Size and pixel digest of every image, by its row; an object for each would be large."""

    def __init__(self, count: int) -> None:
        self.sizes = np.zeros(count, dtype=np.int64)
        self.digests = np.zeros(count, dtype="V32")

    def add(self, row: int, image: _Image) -> None:
        """Record an image."""
        self.sizes[row], self.digests[row] = image.size, image.pixels


def _files(root: Path) -> Iterator[str]:
    """Paths below a folder of everything but folders and broken links."""
    prefixes = [""]
    while prefixes:
        prefix = prefixes.pop()
        with contextlib.suppress(OSError), os.scandir(f"{root}/{prefix}") as entries:
            for entry in entries:
                path = prefix + entry.name
                if entry.is_dir(follow_symlinks=False):
                    prefixes.append(f"{path}/")
                    continue
                with contextlib.suppress(OSError):  # a broken link
                    if not stat.S_ISDIR(entry.stat().st_mode):
                        yield path


def _check_all(root: Path, paths: Sequence[str]) -> Iterator[_Image]:
    chunks = [(root, paths[start : start + CHUNK]) for start in range(0, len(paths), CHUNK)]
    for images in pool.each(_check_chunk, chunks, len(paths)):
        yield from images


def _check_chunk(chunk: tuple[Path, Sequence[str]]) -> list[_Image]:
    root, paths = chunk
    return [_check_image(root, path) for path in paths]


def _check_image(root: Path, path: str) -> _Image:
    try:
        data = read_file(f"{root}/{path}")
        image, truncated, notes = decode(data, Path(path).suffix)
    except DataError as error:
        return _Image(path, str(error), 0, b"", "", False, ())
    pixels = hashlib.sha256(f"{image.width} {image.height} ".encode() + image.tobytes())
    encoded = hashlib.sha256(data).hexdigest()
    return _Image(path, None, len(data), pixels.digest(), encoded, truncated, notes)


def _compare(
    image: _Image, checksum: str | None, earlier: bytes | None, verification: Verification
) -> None:
    """Compare an image with the manifest's checksum and with the first verification."""
    if image.problem is not None:
        verification.damaged[image.path] = image.problem
    elif checksum not in (None, image.encoded):
        verification.other_bytes.append(image.path)
    elif earlier not in (None, image.pixels):
        verification.changed.append(image.path)
    if image.truncated:
        verification.truncated.append(image.path)
    for note in image.notes:
        verification.notes.setdefault(note, []).append(image.path)


def _count(table: pa.Table, verification: Verification) -> None:
    """Count expected and good images by domain and split, and by class where they differ."""
    import pyarrow as pa
    import pyarrow.compute as pc

    bad = [
        *verification.missing,
        *verification.damaged,
        *verification.other_bytes,
        *verification.changed,
    ]
    is_bad = pc.is_in(table["path"], pa.array(bad, pa.string()))
    of_class, lost = _of_classes(table), _of_classes(table.filter(is_bad))
    expected: Counter[tuple[str, str]] = Counter()
    good: Counter[tuple[str, str]] = Counter()
    for key, count in of_class.items():
        expected[key[:2]] += count
        good[key[:2]] += count - lost[key]
    verification.counts = [(*key, expected[key], good[key]) for key in sorted(expected)]
    verification.classes = {
        "/".join(key): (of_class[key] - count, of_class[key]) for key, count in sorted(lost.items())
    }


def _of_classes(table: pa.Table) -> Counter[tuple[str, str, str]]:
    """The number of images of each domain, split and class."""
    names = ["domain", "split", "class"]
    counts = table.group_by(names).aggregate([([], "count_all")])
    keys = zip(*(counts[name].to_pylist() for name in names), strict=True)
    return Counter(dict(zip(keys, counts["count_all"].to_pylist(), strict=True)))


def _read_digests(manifest: Manifest) -> tuple[dict[str, bytes], str | None]:
    """Path to pixel digest, and the date, of the first verification of this exact manifest."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(digests_file(manifest))
        notes = table.schema.metadata or {}
        if notes.get(DIGEST_KEY) != manifest.digest.encode():
            return {}, None
        digests = (bytes.fromhex(each.as_py()) for each in table["pixels_sha256"])
        return dict(zip(table["path"].to_pylist(), digests, strict=True)), notes[DATE_KEY].decode()
    except FileNotFoundError:
        return {}, None
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
        raise DataError(
            f"{digests_file(manifest)}, the record of earlier verifications, cannot be read; if "
            "you trust the images, delete it and run "
            f"`{command('data', 'verify', manifest.argument)}` again"
        ) from None


def verified_on(manifest: Manifest) -> str | None:
    """Return the date of the first successful verification, or None."""
    return _read_digests(manifest)[1]


def _write_digests(manifest: Manifest, records: _Records) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(
        {
            "path": manifest.table["path"],
            "bytes": records.sizes,
            "pixels_sha256": pa.array(each.tobytes().hex() for each in records.digests),
        }
    ).sort_by("path")
    date = datetime.now(UTC).date().isoformat().encode()
    notes = {DIGEST_KEY: manifest.digest.encode(), DATE_KEY: date}
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(notes), sink)
    write_file(digests_file(manifest), sink.getvalue().to_pybytes())
