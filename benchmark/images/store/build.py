"""Build the store of a data set whose images are files: in parallel, part by part, resumable.

A part is the training images of one class, or all test images. It is decoded in chunks, which are
joined once all of them are there. A build that was interrupted keeps its finished chunks.
Loads no torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from benchmark import pool
from benchmark.errors import DataError, first
from benchmark.files import atomic_path, digest_file, matches_digest, read_sealed, seal, write_file
from benchmark.images.decode import decode_file
from benchmark.images.place import image_size
from benchmark.images.store.jpeg import encode, write_pack
from benchmark.progress import Logger, Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK = 256  # images decoded at a time
SAMPLED = 24  # images decoded in advance, to estimate size and duration
OPEN_CHUNKS = 256  # files at a time: processes may often open 1,024
CHUNKS_FOLDER = ".chunks"
MAX_INDEX_BYTES = 256 << 20  # of the index of a part or of a whole store


class Member(NamedTuple):
    """An image of a part.

    Attributes:
        image_id: its id.
        path: of its file, relative to the folder of the images.
        sha256: of the file (hex), if the manifest says it.
    """

    image_id: str
    path: str
    sha256: str | None = None


@dataclass(frozen=True)
class BuildPlan:
    """The parts of a store to build.

    Attributes:
        folder: the folder of the store.
        images: the folder that the image paths are relative to.
        size: side of a stored image in pixels.
        kind: ``raw``, ``interleaved`` or ``jpeg``.
        members: part name to its images.
        name: what is built, for messages.
        reference: the manifest's ``name@version``, for messages.
        ways_to_images: the commands that get missing images, for messages.
        verify: the command that checks all images, for messages.
    """

    folder: Path
    images: Path
    size: int
    kind: str
    members: Mapping[str, Sequence[Member]]
    name: str
    reference: str
    ways_to_images: str
    verify: str

    @property
    def suffix(self) -> str:
        """Suffix of the parts' files."""
        return suffix_of(self.kind)

    @property
    def all_members(self) -> list[Member]:
        """The images of all parts."""
        return [member for members in self.members.values() for member in members]


def suffix_of(kind: str) -> str:
    """Suffix of the image files of a store of that kind."""
    return ".pack" if kind == "jpeg" else ".u8"


def part_name(folder: Path, name: str) -> str:
    """The name of a part of a store in its index: an index from another place is not used."""
    return f"{folder.name}/{name}"


def build_parts(plan: BuildPlan, progress: Progress, log: Logger) -> None:
    """Decode the images of a plan and write an image file and an index for each part.

    Args:
        plan: what to build.
        progress: called with the number of decoded images and their total.
        log: called with the expected size and duration, if the build takes a while.

    Raises:
        DataError: images are missing, are not those of the manifest or cannot be decoded, or the
            disk is too small.
    """
    _check_present(plan)
    chunks_folder = plan.folder / CHUNKS_FOLDER
    chunks_folder.mkdir(parents=True, exist_ok=True)
    _estimate(plan, log)
    chunks = list(_chunks(plan, chunks_folder))
    remaining = [chunk for chunk in chunks if not chunk.is_complete]
    to_decode = sum(len(chunk.entries) for chunk in remaining)
    total = len(plan.all_members)
    finished = total - to_decode
    for count in pool.each(_decode_chunk, remaining, to_decode):
        finished += count
        progress(finished, total)
    for name in plan.members:
        _join(plan, name, [chunk for chunk in chunks if chunk.part == name])


def _check_present(plan: BuildPlan) -> None:
    members = plan.all_members
    absent = [m.path for m in members if not image_size(plan.images / m.path)]
    if absent:
        raise DataError(
            f"{len(absent)} of {len(members)} required images of {plan.reference} are "
            f"missing from {plan.images} ({first(absent)}); run {plan.ways_to_images}"
        )


def _estimate(plan: BuildPlan, log: Logger) -> None:
    """Announce how large the store will be and how long it takes; check the free disk space."""
    members = plan.all_members
    sample = members[:: max(1, len(members) // SAMPLED)][:SAMPLED]
    start = time.perf_counter()
    sizes = [
        len(stored(pixels, plan.kind)) for pixels, _ in (_read(member, plan) for member in sample)
    ]
    seconds = (time.perf_counter() - start) / max(1, len(sample)) * len(members)
    workers = pool.worker_count(len(members))
    size = int(np.mean(sizes) * len(members)) if sizes else 0
    free = shutil.disk_usage(plan.folder).free
    if 2 * size > free:  # the chunks, and the parts joined from them
        raise DataError(
            f"building the image store of {plan.name} needs {2 * size / 2**30:.1f} GiB of disk "
            f"space, of which it keeps {size / 2**30:.1f} GiB, but only {free / 2**30:.1f} GiB "
            f"are free in {plan.folder}: free some space, or set HTBENCH_DATA to a folder on a "
            "larger disk"
        )
    if seconds > 2 * workers:
        log(
            f"building the image store of {plan.name}: {len(members)} images, "
            f"{size / 2**30:.2f} GiB ({plan.kind}), about {seconds / workers:.0f} s with "
            f"{workers} processes"
        )


@dataclass(frozen=True)
class _Chunk:
    """Some images of a part, and the file for their pixels."""

    part: str
    entries: tuple[Member, ...]
    images: Path
    size: int
    kind: str
    verify: str
    out: Path

    @property
    def index(self) -> Path:
        return self.out.with_suffix(".json")

    @property
    def is_complete(self) -> bool:
        try:
            index = read_sealed(self.index, MAX_INDEX_BYTES, DataError)
        except DataError:
            return False
        match index:
            case {"rows": [*rows], "digest": digest} if all(map(_is_row, rows)):
                own = [member.image_id for member in self.entries]
                return [row[0] for row in rows] == own and matches_digest(self.out, digest)
        return False


def _is_row(value: object) -> bool:
    """Whether a value is a row of a chunk's index."""
    match value:
        case [str(), str(), int(), bool()]:
            return True
    return False


def _chunks(plan: BuildPlan, folder: Path) -> Iterator[_Chunk]:
    for name, entries in plan.members.items():
        for number, start in enumerate(range(0, len(entries), CHUNK)):
            some = tuple(entries[start : start + CHUNK])
            out = folder / f"{name}.{number}.bin"
            yield _Chunk(name, some, plan.images, plan.size, plan.kind, plan.verify, out)


def _decode_chunk(chunk: _Chunk) -> int:
    """Decode a chunk into its file; index the ids, pixel digests, lengths and truncations."""
    rows = []
    with atomic_path(chunk.out) as temporary, temporary.open("wb") as file:
        for member in chunk.entries:
            pixels, truncated = _read(member, chunk)
            data = stored(pixels, chunk.kind)
            file.write(data)
            digest = hashlib.sha256(pixels.tobytes()).hexdigest()
            rows.append([member.image_id, digest, len(data), truncated])
    index = {"rows": rows, "digest": digest_file(chunk.out)}
    write_file(chunk.index, seal(index))  # last: it marks the chunk as complete
    return len(rows)


def _read(member: Member, plan: BuildPlan | _Chunk) -> tuple[Any, bool]:
    try:
        return read_image(plan.images / member.path, plan.size, member.sha256)
    except DataError as error:
        raise DataError(f"{error}; `{plan.verify}` lists all such files") from None


def read_image(path: Path, size: int, sha256: str | None = None) -> tuple[Any, bool]:
    """Decode an image file and resize it to a square, bilinear with antialiasing.

    Args:
        path: a JPEG or PNG file.
        size: side of the result in pixels.
        sha256: what the SHA-256 of the file (hex) must be; None for any.

    Returns:
        uint8 (3, S, S), interleaved in memory, and whether the file is truncated, see
        :func:`decode_file`.

    Raises:
        DataError: the file cannot be decoded, or is another one.
    """
    from PIL import Image

    image, truncated, _ = decode_file(path, sha256)
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image).transpose(2, 0, 1), truncated


def stored(pixels: NDArray[np.uint8], kind: str) -> bytes:
    """An image, uint8 (3, S, S), as the bytes that a store of that kind holds."""
    if kind == "jpeg":
        return encode(pixels)
    return (pixels.transpose(1, 2, 0) if kind == "interleaved" else pixels).tobytes()


def _join(plan: BuildPlan, name: str, chunks: Sequence[_Chunk]) -> None:
    """Join the chunks of a part, its images in the order of their pixel digests."""
    places = []  # digest, id, chunk, offset, length
    truncated_ids = []
    for number, chunk in enumerate(chunks):
        offset = 0
        rows = read_sealed(chunk.index, MAX_INDEX_BYTES, DataError)["rows"]
        for image_id, digest, length, truncated in rows:
            places.append((digest, image_id, number, offset, length))
            offset += length
            if truncated:
                truncated_ids.append(image_id)
    places.sort()
    path = plan.folder / f"{name}{plan.suffix}"
    with contextlib.ExitStack() as stack:
        temporary = stack.enter_context(atomic_path(path))
        files = [stack.enter_context(chunk.out.open("rb")) for chunk in chunks[:OPEN_CHUNKS]]
        out = stack.enter_context(temporary.open("wb"))

        def image(number: int, offset: int, length: int) -> bytes:
            if number < len(files):
                return _slice(files[number], offset, length)
            with chunks[number].out.open("rb") as file:
                return _slice(file, offset, length)

        images = (image(*place) for _, _, *place in places)
        if plan.kind == "jpeg":
            write_pack(out, [length for *_, length in places], images)
        else:
            out.writelines(images)
    index = {
        "part": part_name(plan.folder, name),
        "ids": [place[1] for place in places],
        "digest": digest_file(path),
        "truncated": sorted(truncated_ids),
    }
    write_file(plan.folder / f"{name}.json", seal(index))
    for chunk in chunks:
        chunk.index.unlink()
        chunk.out.unlink()


def _slice(file: IO[bytes], offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)
