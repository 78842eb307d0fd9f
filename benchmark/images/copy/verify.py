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

from benchmark import pool
from benchmark.commands import command, ways_to_images
from benchmark.errors import DataError
from benchmark.files import write_file
from benchmark.images.decode import decode, read_file
from benchmark.images.place import images_folder
from benchmark.progress import Progress

if TYPE_CHECKING:
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

    def as_dict(self) -> dict[str, Any]:
        """Convert to a dictionary for JSON."""
        return {"ok": self.ok, **asdict(self)}


@dataclass(frozen=True)
class _Image:
    """The facts about one image file; ``pixels`` and ``encoded`` are SHA-256 digests."""

    path: str
    problem: str | None
    size: int
    pixels: str
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
    paths = manifest.table["path"].to_pylist()
    files = set(_files(root))
    verification = Verification(manifest.reference, str(root), len(paths))
    verification.missing = [path for path in paths if path not in files]
    verification.unexpected = sorted(files - set(paths))
    images = {}
    present = [path for path in paths if path in files]
    for image in _check_all(root, present):
        images[image.path] = image
        if progress is not None and (len(images) % CHUNK == 0 or len(images) == len(present)):
            progress(len(images), len(present))
    _compare(manifest, images, verification)
    _count(manifest, verification)
    if verification.ok and verification.since is None:
        _write_digests(manifest, images)
    return verification


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
        return _Image(path, str(error), 0, "", "", False, ())
    pixels = hashlib.sha256(f"{image.width} {image.height} ".encode() + image.tobytes())
    encoded = hashlib.sha256(data).hexdigest()
    return _Image(path, None, len(data), pixels.hexdigest(), encoded, truncated, notes)


def _compare(manifest: Manifest, images: dict[str, _Image], verification: Verification) -> None:
    """Compare images with the manifest's checksums and with the first verification."""
    checksums = {}
    if "sha256" in manifest.table.column_names:
        columns = (manifest.table[name].to_pylist() for name in ("path", "sha256"))
        checksums = dict(zip(*columns, strict=True))
    digests, verification.since = _read_digests(manifest)
    for path in sorted(images):
        image = images[path]
        if image.problem is not None:
            verification.damaged[path] = image.problem
        elif checksums.get(path) not in (None, image.encoded):
            verification.other_bytes.append(path)
        elif digests.get(path) not in (None, image.pixels):
            verification.changed.append(path)
        if image.truncated:
            verification.truncated.append(path)
        for note in image.notes:
            verification.notes.setdefault(note, []).append(path)


def _count(manifest: Manifest, verification: Verification) -> None:
    """Count expected and good images by domain and split, and by class where they differ."""
    bad = {
        *verification.missing,
        *verification.damaged,
        *verification.other_bytes,
        *verification.changed,
    }
    names = ("domain", "split", "class", "path")
    rows = list(zip(*(manifest.table[name].to_pylist() for name in names), strict=True))
    expected = Counter((domain, split) for domain, split, _, _ in rows)
    good = Counter((domain, split) for domain, split, _, path in rows if path not in bad)
    verification.counts = [(*key, expected[key], good[key]) for key in sorted(expected)]
    of_class = Counter(row[:3] for row in rows)
    lost = Counter(row[:3] for row in rows if row[3] in bad)
    verification.classes = {
        "/".join(key): (of_class[key] - count, of_class[key]) for key, count in sorted(lost.items())
    }


def _read_digests(manifest: Manifest) -> tuple[dict[str, str], str | None]:
    """Path to pixel digest, and the date, of the first verification of this exact manifest."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(digests_file(manifest))
        notes = table.schema.metadata or {}
        if notes.get(DIGEST_KEY) != manifest.digest.encode():
            return {}, None
        columns = (table[name].to_pylist() for name in ("path", "pixels_sha256"))
        return dict(zip(*columns, strict=True)), notes[DATE_KEY].decode()
    except FileNotFoundError:
        return {}, None
    except (pa.ArrowException, OSError, KeyError, ValueError):
        raise DataError(
            f"{digests_file(manifest)}, the record of earlier verifications, cannot be read; if "
            "you trust the images, delete it and run "
            f"`{command('data', 'verify', manifest.argument)}` again"
        ) from None


def verified_on(manifest: Manifest) -> str | None:
    """Return the date of the first successful verification, or None."""
    return _read_digests(manifest)[1]


def _write_digests(manifest: Manifest, images: dict[str, _Image]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    ordered = [images[path] for path in sorted(images)]
    table = pa.table(
        {
            "path": [image.path for image in ordered],
            "bytes": [image.size for image in ordered],
            "pixels_sha256": [image.pixels for image in ordered],
        }
    )
    date = datetime.now(UTC).date().isoformat().encode()
    notes = {DIGEST_KEY: manifest.digest.encode(), DATE_KEY: date}
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(notes), sink)
    write_file(digests_file(manifest), sink.getvalue().to_pybytes())
