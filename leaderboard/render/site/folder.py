"""The folder of a site: which folders may be replaced, and how pages are named in it."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from benchmark.errors import DataError, UsageError
from benchmark.files import check_output, new_folder, read_sealed, seal

LIST_FILE = "site.json"  # the names of the files that we wrote
MAX_LIST_BYTES = 8 << 20
SLUG_LENGTH = 40
DIGEST_DIGITS = 8


def page_name(folder: str, name: str) -> str:
    """The path of the page of a method or task in the site.

    Args:
        folder: ``methods`` or ``tasks``.
        name: any text. The readable part of the path is cut; the digest tells names apart.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower())[:SLUG_LENGTH].strip("-")
    digest = hashlib.sha256(name.encode(errors="replace")).hexdigest()[:DIGEST_DIGITS]
    readable = f"{slug}-" if slug else ""
    return f"{folder}/{readable}{digest}.html"


def check_site_folder(folder: Path) -> None:
    """Check that a site can be written to a folder: it is absent, empty, or a site of ours.

    Raises:
        UsageError: it is something else, or has files that are not part of the site.
    """
    check_output(folder, folder=True)
    files = {
        Path(root, name).relative_to(folder).as_posix()
        for root, _, names in os.walk(folder)
        for name in names
    }
    if not files:
        return
    try:
        listed = read_sealed(folder / LIST_FILE, MAX_LIST_BYTES, DataError).get("files")
    except DataError:
        listed = None
    ours = {name for name in listed if isinstance(name, str)} if isinstance(listed, list) else set()
    if others := sorted(files - ours - {LIST_FILE}):
        raise UsageError(
            f"{folder} has files that are not part of a site written by htbench, such as "
            f"{others[0]!r:.100}; choose a new folder with --out, or delete them"
        )


def write_folder(folder: Path, pages: Mapping[str, bytes]) -> None:
    """Write a site beside its folder and rename it, so that nobody reads a half-written site.

    Args:
        folder: see :func:`check_site_folder`.
        pages: the content of the files by path.

    Raises:
        UsageError: the folder has files of others.
        OSError: a file cannot be written.
    """
    check_site_folder(folder)
    with new_folder(folder.absolute()) as building:
        for name, data in {**pages, LIST_FILE: seal({"files": sorted(pages)})}.items():
            path = building / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
