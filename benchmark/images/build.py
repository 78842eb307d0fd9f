"""Building the store of a data set whose images are files: in parallel, part by part, resumable.

A part is the training images of one class, or the test images. It is decoded in chunks, each of
which appears by rename, and put together when all of its chunks are there: whoever is killed goes
on at the chunk in hand. No torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from benchmark.errors import DataError, first
from benchmark.files import read_json, write_file
from benchmark.images.packed import encode, write_pack

CHUNK = 256  # images decoded at a time
POOL_FROM = 1024  # fewer images are decoded in this process: starting others takes longer
SAMPLED = 24  # images decoded beforehand, for the estimate
CHUNKS_FOLDER = ".chunks"
MAX_INDEX_BYTES = 256 << 20

Progress = Callable[[int, int], None]
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Parts:
    """What is to be built.

    Attributes:
        folder: of the store.
        images: the root of the paths.
        size: side of a stored image in pixels.
        kind: ``raw`` or ``jpeg``.
        members: name of a part to the (id, path) of its images.
        name: of what is built, for people; ``reference``: of its manifest.
    """

    folder: Path
    images: Path
    size: int
    kind: str
    members: Mapping[str, Sequence[tuple[str, str]]]
    name: str
    reference: str

    @property
    def suffix(self) -> str:
        """Of a part's file."""
        return ".u8" if self.kind == "raw" else ".pack"

    @property
    def count(self) -> int:
        """Images in all."""
        return sum(map(len, self.members.values()))


def build_parts(parts: Parts, progress: Progress, tell: Tell) -> None:
    """Decode the images of parts, and write the file and the index of each.

    Raises:
        DataError: images are not there or cannot be decoded, or the disk is too small.
    """
    _check_present(parts)
    chunks = parts.folder / CHUNKS_FOLDER
    chunks.mkdir(parents=True, exist_ok=True)
    _announce(parts, tell)
    jobs = list(_jobs(parts, chunks))
    open_jobs = [job for job in jobs if not job.done]
    done = parts.count - sum(len(job.entries) for job in open_jobs)
    for finished in _carry_out(open_jobs):
        done += finished
        progress(done, parts.count)
    for name in parts.members:
        _assemble(parts, name, [job for job in jobs if job.part == name])


def _check_present(parts: Parts) -> None:
    every = [path for entries in parts.members.values() for _, path in entries]
    lacking = [path for path in every if not (parts.images / path).is_file()]
    if lacking:
        raise DataError(
            f"{len(lacking)} of {len(every)} images that are needed of {parts.reference} are not "
            f"in {parts.images}: {first(lacking)}; htbench data download {parts.reference}, or "
            f"htbench data import {parts.reference} PATH if you have them"
        )


def _announce(parts: Parts, tell: Tell) -> None:
    """Say how large the store will be and how long it will take; refuse what does not fit."""
    every = [path for entries in parts.members.values() for _, path in entries]
    sample = every[:: max(1, len(every) // SAMPLED)][:SAMPLED]
    begun = time.perf_counter()
    bytes_each = [
        len(encode(pixels)) if parts.kind == "jpeg" else pixels.nbytes
        for pixels, _ in (read_image(parts.images / path, parts.size) for path in sample)
    ]
    seconds = (time.perf_counter() - begun) / max(1, len(sample)) * len(every)
    workers = _workers() if len(every) >= POOL_FROM else 1
    size = int(np.mean(bytes_each) * len(every)) if bytes_each else 0
    free = shutil.disk_usage(parts.folder).free
    if 2 * size > free:  # chunks and what they are put together to
        raise DataError(
            f"the image store of {parts.name} takes {size / 2**30:.1f} GiB and as much again while "
            f"it is built; {parts.folder} has {free / 2**30:.1f} GiB free: make room, or set "
            "HTBENCH_DATA to a folder on a larger disk"
        )
    if seconds > 2 * workers:
        tell(
            f"building the image store of {parts.name}: {len(every)} images, "
            f"{size / 2**30:.2f} GiB ({parts.kind}), about {seconds / workers:.0f} s with "
            f"{workers} processes"
        )


# --- chunks ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Job:
    """A chunk to decode: some images of a part, and the file that they go to."""

    part: str
    entries: tuple[tuple[str, str], ...]
    images: Path
    size: int
    kind: str
    out: Path

    @property
    def index(self) -> Path:
        return self.out.with_suffix(".json")

    @property
    def done(self) -> bool:
        return self.index.is_file()


def _jobs(parts: Parts, chunks: Path) -> Iterator[_Job]:
    for name, entries in parts.members.items():
        for number, start in enumerate(range(0, len(entries), CHUNK)):
            some = tuple(entries[start : start + CHUNK])
            out = chunks / f"{name}.{number}.bin"
            yield _Job(name, some, parts.images, parts.size, parts.kind, out)


def _carry_out(jobs: Sequence[_Job]) -> Iterator[int]:
    """Decode chunks; yields the number of images of each when it is done."""
    if sum(len(job.entries) for job in jobs) < POOL_FROM:
        for job in jobs:
            yield _decode_chunk(job)
        return
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(_workers(), mp_context=context, initializer=leave_ctrl_c) as pool:
        try:
            for future in as_completed([pool.submit(_decode_chunk, job) for job in jobs]):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _workers() -> int:
    return len(os.sched_getaffinity(0))


def leave_ctrl_c() -> None:
    """Ctrl-C goes to all processes of a terminal; the first of them ends the others in order."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _decode_chunk(job: _Job) -> int:
    """Decode a chunk into its file, and note ids, digests of the pixels, lengths and damage."""
    notes = []
    temporary = job.out.with_suffix(f".{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            for image_id, path in job.entries:
                pixels, truncated = read_image(job.images / path, job.size)
                data = encode(pixels) if job.kind == "jpeg" else pixels.tobytes()
                file.write(data)
                digest = hashlib.sha256(pixels.tobytes()).hexdigest()
                notes.append([image_id, digest, len(data), truncated])
        temporary.replace(job.out)
    finally:
        temporary.unlink(missing_ok=True)
    write_file(job.index, json.dumps(notes).encode())  # last: with it the chunk is done
    return len(notes)


def read_image(path: Path, size: int) -> tuple[Any, bool]:
    """Decode an image file and resize it, its aspect not kept, bilinear and antialiased.

    Args:
        path: a JPEG or PNG file.
        size: side of the result in pixels.

    Returns:
        uint8 (3, S, S), and whether the file ends too early, see :func:`decode_file`.

    Raises:
        DataError: it cannot be decoded.
    """
    from PIL import Image

    image, truncated = decode_file(path)
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1)), truncated


def decode_file(path: Path) -> tuple[Any, bool]:
    """Decode a JPEG or PNG file.

    Returns:
        A PIL image in RGB, and whether the file ends too early. The rest of such an image is grey
        or black, as PIL fills it: DomainNet has some.

    Raises:
        DataError: it cannot be decoded otherwise.
    """
    from PIL import Image, ImageFile

    try:
        try:
            return _decoded(path), False
        except OSError as error:
            if "truncated" not in str(error).lower():
                raise
            ImageFile.LOAD_TRUNCATED_IMAGES = True
            try:
                return _decoded(path), True
            finally:
                ImageFile.LOAD_TRUNCATED_IMAGES = False
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path} cannot be decoded: {error}; `htbench data verify` finds every such file"
        ) from None


def _decoded(path: Path) -> Any:
    from PIL import Image

    with Image.open(path, formats=("PNG", "JPEG")) as image:
        return image.convert("RGB")


# --- parts ----------------------------------------------------------------------------------------


def _assemble(parts: Parts, name: str, jobs: Sequence[_Job]) -> None:
    """Put the chunks of a part together in the order of their pixels' digests."""
    places = []  # digest, id, chunk, offset, length
    truncated = []
    for number, job in enumerate(jobs):
        offset = 0
        for image_id, digest, length, damaged in read_json(job.index, MAX_INDEX_BYTES, DataError):
            places.append((digest, image_id, number, offset, length))
            offset += length
            if damaged:
                truncated.append(image_id)
    places.sort()
    temporary = parts.folder / f".{name}.tmp"
    with contextlib.ExitStack() as stack:
        chunks = [stack.enter_context(job.out.open("rb")) for job in jobs]
        out = stack.enter_context(temporary.open("wb"))
        images = (_piece(chunks[chunk], offset, length) for _, _, chunk, offset, length in places)
        if parts.kind == "jpeg":
            write_pack(out, [length for *_, length in places], images)
        else:
            out.writelines(images)
    size = temporary.stat().st_size
    temporary.replace(parts.folder / f"{name}{parts.suffix}")
    index = {"ids": [place[1] for place in places], "bytes": size, "truncated": sorted(truncated)}
    write_file(parts.folder / f"{name}.json", json.dumps(index).encode())
    for job in jobs:
        job.index.unlink()
        job.out.unlink()


def _piece(file: IO[bytes], offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)
