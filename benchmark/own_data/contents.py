"""Read every image once: decode it, take its SHA-256, and leave out what a manifest cannot use."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from benchmark import pool
from benchmark.errors import DataError
from benchmark.images.copy.remarks import Kind
from benchmark.images.decode import decode, read_file
from benchmark.own_data.listing import Entry, LeftOut, Listing
from benchmark.progress import Progress
from benchmark.text import plural

CHUNK = 64  # images per job of a worker


class _Content(NamedTuple):
    """What is in a file: why it is left out, if it is; its SHA-256; what is unusual about it."""

    problem: str | None
    sha256: str
    notes: tuple[str, ...]


def read_images(listing: Listing, progress: Progress) -> list[Entry]:
    """The images of a listing that a manifest can use, with their SHA-256.

    Left out are files that cannot be decoded or end early, and copies: of identical files in one
    class and domain all but the first stay out (a test image stays if there is one), and of
    identical files in several classes or domains all of them, because one label is wrong.

    Args:
        listing: its ``left_out`` and ``notes`` are extended.
        progress: called with the number of images read and their total.
    """
    entries = listing.entries
    contents: dict[int, _Content] = {}
    starts = range(0, len(entries), CHUNK)
    jobs = [(n, [(e.file, e.path) for e in entries[n : n + CHUNK]]) for n in starts]
    for start, part in pool.each(_read_files, jobs, len(entries)):
        contents.update(enumerate(part, start))
        progress(len(contents), len(entries))
    usable = []
    for number, entry in enumerate(entries):
        content = contents[number]
        if content.problem is not None:
            reason = Kind("image", f"that cannot be used ({content.problem})")
            listing.left_out.add(reason, entry.path)
            continue
        usable.append(replace(entry, sha256=content.sha256))
    kept = _without_copies(usable, listing.left_out)
    paths = {entry.path for entry in kept}
    notes = Counter(
        note
        for number, entry in enumerate(entries)
        if entry.path in paths
        for note in contents[number].notes
    )
    listing.notes += [f"{plural(count, 'image')}: {note}" for note, count in sorted(notes.items())]
    return kept


def _read_files(job: tuple[int, Sequence[tuple[str, str]]]) -> tuple[int, list[_Content]]:
    start, files = job
    return start, [_read_file(file, path) for file, path in files]


def _read_file(file: str, path: str) -> _Content:
    try:
        data = read_file(file)
        _, truncated, notes = decode(data, Path(path).suffix)  # a link may lead to another suffix
    except DataError as error:
        return _Content(str(error), "", ())
    problem = "the file ends early" if truncated else None
    return _Content(problem, hashlib.sha256(data).hexdigest(), notes)


def _without_copies(entries: Sequence[Entry], left_out: LeftOut) -> list[Entry]:
    same: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        same[entry.sha256].append(entry)
    kept = []
    for copies in same.values():
        cells = {(entry.domain, entry.class_name) for entry in copies}
        if len(cells) > 1:
            what = "classes" if len({c for _, c in cells}) > 1 else "domains"
            for entry in copies:
                left_out.add(Kind("identical image", f"in several {what}"), entry.path)
            continue
        first, *others = sorted(copies, key=lambda e: (e.split != "test", e.path))
        kept.append(first)
        for entry in others:
            left_out.add(Kind("copy", "of an image in the same class and domain"), entry.path)
    return sorted(kept, key=lambda entry: entry.path)
