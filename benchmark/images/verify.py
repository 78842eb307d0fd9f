"""Proof that a local copy is the manifest's: all there, all decodable, nothing else, unchanged.

The first whole verification leaves the digest of every image's pixels beside the copy. A later one
compares with it.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.errors import DataError
from benchmark.images.build import POOL_FROM, decode_file, leave_ctrl_c
from benchmark.images.local import images_folder

if TYPE_CHECKING:
    from benchmark.manifest import Manifest

CHUNK = 256
DIGEST_KEY, DATE_KEY = b"manifest", b"verified"

Progress = Callable[[int, int], None]


@dataclass
class Verification:
    """What a verification found; paths are the manifest's.

    Attributes:
        missing: not there; ``damaged``: path to why it cannot be decoded; ``other_bytes``: not the
            SHA-256 of the manifest; ``changed``: other pixels than at the first verification;
            ``unexpected``: files in the copy that the manifest does not name.
        truncated: files that end too early. They are a data set's own, so they are no difference.
        counts: domain, split, images expected and found good.
        classes: domain, split and class to (found good, expected), where these differ.
        since: date of the first verification, where there was one.
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
    counts: list[tuple[str, str, int, int]] = field(default_factory=list)
    classes: dict[str, tuple[int, int]] = field(default_factory=dict)
    since: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the copy is the manifest's."""
        return not (
            self.missing or self.damaged or self.other_bytes or self.changed or self.unexpected
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"ok": self.ok, **asdict(self)}


@dataclass(frozen=True)
class _Image:
    """What a worker found of one image."""

    path: str
    problem: str | None
    size: int
    pixels: str
    encoded: str
    truncated: bool


def lock_file(manifest: Manifest) -> Path:
    """Where the digests of the first verification are, or would be."""
    folder = images_folder(manifest)
    return folder.with_name(f"{folder.name}.lock.parquet")


def verify(manifest: Manifest, progress: Progress | None = None) -> Verification:
    """Compare the local copy of a manifest's images with the manifest, on all cores.

    Args:
        manifest: a manifest whose images are files.
        progress: called with images done and their total.

    Raises:
        DataError: there is no copy at all.
    """
    root = images_folder(manifest)
    if not root.is_dir():
        raise DataError(
            f"there are no images of {manifest.reference} in {root}; htbench data download "
            f"{manifest.reference}, or htbench data import {manifest.reference} PATH"
        )
    paths = manifest.table["path"].to_pylist()
    there = set(_files(root))
    found = Verification(manifest.reference, str(root), len(paths))
    found.missing = [path for path in paths if path not in there]
    found.unexpected = sorted(there - set(paths))
    images = {}
    present = [path for path in paths if path in there]
    for image in _decode_all(root, present):
        images[image.path] = image
        if progress is not None and (len(images) % CHUNK == 0 or len(images) == len(present)):
            progress(len(images), len(present))
    _judge(manifest, images, found)
    _count(manifest, found)
    if found.ok and found.since is None:
        _write_lock(manifest, images)
    return found


def _files(root: Path) -> Iterator[str]:
    for place, _, names in os.walk(root):
        for name in names:
            if (Path(place) / name).exists():  # a link that leads nowhere is not there
                yield (Path(place) / name).relative_to(root).as_posix()


def _decode_all(root: Path, paths: Sequence[str]) -> Iterator[_Image]:
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    if len(paths) < POOL_FROM:
        for chunk in chunks:
            yield from _decode_some(root, chunk)
        return
    context = multiprocessing.get_context("spawn")
    workers = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(workers, mp_context=context, initializer=leave_ctrl_c) as pool:
        try:
            for future in as_completed([pool.submit(_decode_some, root, c) for c in chunks]):
                yield from future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _decode_some(root: Path, paths: Sequence[str]) -> list[_Image]:
    return [_look_at(root, path) for path in paths]


def _look_at(root: Path, path: str) -> _Image:
    file = root / path
    try:
        data = file.read_bytes()
        image, truncated = decode_file(file)
    except (DataError, OSError) as error:
        words = str(error).partition(" cannot be decoded: ")[2].partition("; `htbench")[0]
        return _Image(path, words or str(error), 0, "", "", False)
    pixels = hashlib.sha256(f"{image.width} {image.height} ".encode() + image.tobytes())
    encoded = hashlib.sha256(data).hexdigest()
    return _Image(path, None, len(data), pixels.hexdigest(), encoded, truncated)


def _judge(manifest: Manifest, images: dict[str, _Image], found: Verification) -> None:
    sums = {}
    if "sha256" in manifest.table.column_names:
        columns = (manifest.table[name].to_pylist() for name in ("path", "sha256"))
        sums = dict(zip(*columns, strict=True))
    before, found.since = _read_lock(manifest)
    for path in sorted(images):
        image = images[path]
        if image.problem is not None:
            found.damaged[path] = image.problem
        elif sums.get(path) not in (None, image.encoded):
            found.other_bytes.append(path)
        elif before.get(path) not in (None, image.pixels):
            found.changed.append(path)
        if image.truncated:
            found.truncated.append(path)


def _count(manifest: Manifest, found: Verification) -> None:
    bad = {*found.missing, *found.damaged, *found.other_bytes, *found.changed}
    names = ("domain", "split", "class", "path")
    rows = list(zip(*(manifest.table[name].to_pylist() for name in names), strict=True))
    expected = Counter((domain, split) for domain, split, _, _ in rows)
    good = Counter((domain, split) for domain, split, _, path in rows if path not in bad)
    found.counts = [(*key, expected[key], good[key]) for key in sorted(expected)]
    of_class = Counter(row[:3] for row in rows)
    lost = Counter(row[:3] for row in rows if row[3] in bad)
    found.classes = {
        "/".join(key): (of_class[key] - count, of_class[key]) for key, count in sorted(lost.items())
    }


def _read_lock(manifest: Manifest) -> tuple[dict[str, str], str | None]:
    """Path to pixel digest, and the date, of the first verification of this very manifest."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(lock_file(manifest))
        notes = table.schema.metadata or {}
        if notes.get(DIGEST_KEY) != manifest.digest.encode():
            return {}, None
        columns = (table[name].to_pylist() for name in ("path", "pixels_sha256"))
        return dict(zip(*columns, strict=True)), notes[DATE_KEY].decode()
    except FileNotFoundError:
        return {}, None
    except (pa.ArrowException, OSError, KeyError, ValueError):
        raise DataError(
            f"{lock_file(manifest)} cannot be read; delete it if the images are as they should be, "
            "and verify again"
        ) from None


def verified_on(manifest: Manifest) -> str | None:
    """The date of the first whole verification, or None."""
    return _read_lock(manifest)[1]


def _write_lock(manifest: Manifest, images: dict[str, _Image]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from benchmark.files import write_file

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
    write_file(lock_file(manifest), sink.getvalue().to_pybytes())
