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
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark import pool
from benchmark.commands import command, ways_to_images
from benchmark.errors import DataError
from benchmark.files import atomic_path
from benchmark.images.copy.rows import PathRows
from benchmark.images.decode import decode, read_file
from benchmark.images.place import images_folder, paths_of
from benchmark.manifest.manifest import slices
from benchmark.progress import Progress

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from numpy.typing import NDArray

    from benchmark.manifest.manifest import Manifest


CHUNK = 256  # images per job of a worker
RECORD_ROWS = 1 << 16  # of the record of the first verification, read or written at once
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

    row: int
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
    checksums = table["sha256"] if "sha256" in table.column_names else None
    verification = Verification(manifest.reference, str(root), table.num_rows)
    rows, is_present = PathRows(table["path"]), np.zeros(table.num_rows, np.bool_)
    for path in _files(root, _folders(manifest)):
        if (row := rows.find(path)) is None:
            verification.unexpected.append(path)
        else:
            is_present[row] = True
    present = np.flatnonzero(is_present)
    verification.missing = paths_of(manifest, np.flatnonzero(~is_present))
    earlier, verification.since = _read_record(manifest, rows)
    record, is_good = _Record(table.num_rows), is_present.copy()
    for finished, image in enumerate(_check_all(manifest, root, present), start=1):
        checksum = None if checksums is None else checksums[image.row].as_py()
        is_good[image.row] = _compare(image, checksum, earlier.digest(image.row), verification)
        if image.problem is None:
            record.add(image.row, image.size, image.pixels)
        if progress is not None and (finished % CHUNK == 0 or finished == len(present)):
            progress(finished, len(present))
    verification.sort()
    _count(table, is_good, verification)
    if verification.ok and verification.since is None:
        _write_record(manifest, record)
    return verification


class _Record:
    """Size and pixel digest of images by their rows; an object for each would be large."""

    def __init__(self, count: int) -> None:
        self.sizes = np.zeros(count, dtype=np.int64)
        self._digests = np.zeros((count, hashlib.sha256().digest_size), dtype=np.uint8)
        self._is_known = np.zeros(count, dtype=np.bool_)

    def add(self, row: int, size: int, digest: bytes) -> None:
        """Record an image.

        Raises:
            ValueError: the digest is not one of SHA-256.
        """
        if len(digest) != self._digests.shape[1]:
            raise ValueError(f"a digest of {len(digest)} bytes")
        self.sizes[row], self._is_known[row] = size, True
        self._digests[row] = np.frombuffer(digest, np.uint8)

    def digest(self, row: int) -> bytes | None:
        """The digest of an image, if there is one."""
        return self._digests[row].tobytes() if self._is_known[row] else None

    def hex_digests(self, rows: NDArray[np.int64]) -> list[str]:
        """The digests of some images as hexadecimal digits."""
        return [digest.tobytes().hex() for digest in self._digests[rows]]


def _folders(manifest: Manifest) -> set[str]:
    """The folders of a manifest's images, and those above them."""
    folders: set[str] = set()
    for path in chain.from_iterable(slices(manifest.table["path"])):
        folder = path.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    return folders


def _files(root: Path, folders: set[str]) -> Iterator[str]:
    """Paths below a folder of everything but broken links and the folders that are searched.

    Linked folders that have a place in ``folders`` are searched, because runs read the images in
    them; others are not, so none leads in a circle.
    """
    prefixes = [""]
    while prefixes:
        prefix = prefixes.pop()
        with contextlib.suppress(OSError), os.scandir(f"{root}/{prefix}") as entries:
            for entry in entries:
                path = prefix + entry.name
                with contextlib.suppress(OSError):  # a broken link
                    is_folder = stat.S_ISDIR(entry.stat().st_mode)
                    if is_folder and (path in folders or not entry.is_symlink()):
                        prefixes.append(f"{path}/")
                    else:
                        yield path


def _check_all(manifest: Manifest, root: Path, rows: NDArray[np.int64]) -> Iterator[_Image]:
    parts = (rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK))
    chunks = ((root, part.tolist(), paths_of(manifest, part)) for part in parts)
    for images in pool.each(_check_chunk, chunks, len(rows)):
        yield from images


def _check_chunk(chunk: tuple[Path, list[int], list[str]]) -> list[_Image]:
    root, rows, paths = chunk
    return [_check_image(root, row, path) for row, path in zip(rows, paths, strict=True)]


def _check_image(root: Path, row: int, path: str) -> _Image:
    try:
        data = read_file(f"{root}/{path}")
        image, truncated, notes = decode(data, Path(path).suffix)
    except DataError as error:
        return _Image(row, path, str(error), 0, b"", "", False, ())
    pixels = hashlib.sha256(f"{image.width} {image.height} ".encode() + image.tobytes())
    encoded = hashlib.sha256(data).hexdigest()
    return _Image(row, path, None, len(data), pixels.digest(), encoded, truncated, notes)


def _compare(
    image: _Image, checksum: str | None, earlier: bytes | None, verification: Verification
) -> bool:
    """Compare an image with the manifest's checksum and the first verification: is it good?"""
    is_good = False
    if image.problem is not None:
        verification.damaged[image.path] = image.problem
    elif checksum not in (None, image.encoded):
        verification.other_bytes.append(image.path)
    elif earlier not in (None, image.pixels):
        verification.changed.append(image.path)
    else:
        is_good = True
    if image.truncated:
        verification.truncated.append(image.path)
    for note in image.notes:
        verification.notes.setdefault(note, []).append(image.path)
    return is_good


def _count(table: pa.Table, is_good: NDArray[np.bool_], verification: Verification) -> None:
    """Count expected and good images by domain and split, and by class where they differ."""
    of_class, lost = _of_classes(table), _of_classes(table.take(np.flatnonzero(~is_good)))
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


def _read_record(manifest: Manifest, rows: PathRows) -> tuple[_Record, str | None]:
    """What the first verification of this exact manifest recorded, and its date; else nothing."""
    record = _Record(manifest.table.num_rows)
    with _record_of(manifest) as (file, date):
        if file is not None and date is not None:
            for batch in file.iter_batches(RECORD_ROWS, columns=["path", "pixels_sha256"]):
                digests = batch["pixels_sha256"].to_pylist()
                for path, digest in zip(batch["path"].to_pylist(), digests, strict=True):
                    if (row := rows.find(path)) is not None:
                        record.add(row, 0, bytes.fromhex(digest))
        return record, date


def verified_on(manifest: Manifest) -> str | None:
    """Return the date of the first successful verification, or None."""
    with _record_of(manifest) as (_, date):
        return date


@contextlib.contextmanager
def _record_of(manifest: Manifest) -> Iterator[tuple[pq.ParquetFile | None, str | None]]:
    """Open the record of the first verification; its date is None if it is of another manifest.

    Raises:
        DataError: it cannot be read, here or in the block.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = digests_file(manifest)
    try:
        if not path.exists():
            yield None, None
            return
        with pq.ParquetFile(path) as file:
            notes = file.schema_arrow.metadata or {}
            is_own = notes.get(DIGEST_KEY) == manifest.digest.encode()
            yield file, notes[DATE_KEY].decode() if is_own else None
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
        raise DataError(
            f"{path}, the record of earlier verifications, cannot be read; if "
            "you trust the images, delete it and run "
            f"`{command('data', 'verify', manifest.argument)}` again"
        ) from None


def _write_record(manifest: Manifest, record: _Record) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    paths = manifest.table["path"]
    order = pc.sort_indices(paths).to_numpy()
    date = datetime.now(UTC).date().isoformat().encode()
    names = [("path", pa.string()), ("bytes", pa.int64()), ("pixels_sha256", pa.string())]
    schema = pa.schema(names, {DIGEST_KEY: manifest.digest.encode(), DATE_KEY: date})
    with (
        atomic_path(digests_file(manifest)) as temporary,
        temporary.open("wb") as file,
        pq.ParquetWriter(file, schema) as writer,
    ):
        for start in range(0, len(order), RECORD_ROWS):
            rows = order[start : start + RECORD_ROWS]
            columns = [paths.take(rows), record.sizes[rows], record.hex_digests(rows)]
            writer.write_table(pa.table(columns, schema=schema))
