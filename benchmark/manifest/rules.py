"""The rules of ``manifest.toml``; a message names the file and the first offenders."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from benchmark.errors import first
from benchmark.manifest.manifest import HEADLINES, Manifest, Task
from benchmark.manifest.network import check_model
from benchmark.manifest.reader import (
    MAX_NAME,
    NAME,
    VERSION,
    Reader,
    check_canonical,
    repeated,
)
from benchmark.manifest.training import check_recipes, check_sources
from benchmark.manifest.transforms import check_transforms

FORMAT = 1
DRIVE = "drive.google.com"  # a mirror on this host is downloaded by the id of its file
# Where the pixels are: in images.parquet itself, or in files that the user has.
IMAGE_SOURCES = ("embedded", "folder")
STORES = ("raw", "jpeg")  # how the image store keeps pixels, where a manifest says so
_TASK_ID = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.+-]{{0,{MAX_NAME - 1}}}")
_AVERAGES = ("mean", "pooled")  # what boards show beside tasks


def check_document(document: Mapping[str, Any], where: str) -> None:
    """Check ``manifest.toml``, apart from what depends on the images.

    Raises:
        ManifestError: a rule is broken; the message begins with ``where``.
    """
    check_canonical(document, where)
    reader = Reader(document, where)
    if document.get("format") != FORMAT:
        raise reader.fail(
            f"format is {document.get('format')!r}; this version of the benchmark reads format "
            f"{FORMAT}"
        )
    reader.text("name", NAME)
    reader.text("version", VERSION)
    for key in ("title", "terms", "citation"):
        reader.text(key)
    if not 1 <= reader.get("image_size", int, "a number of pixels") <= 4096:
        raise reader.fail("image_size must be between 1 and 4096 pixels")
    if document.get("images") not in IMAGE_SOURCES:
        raise reader.fail(
            f"images is {document.get('images')!r}; known: {', '.join(IMAGE_SOURCES)}"
        )
    if (store := document.get("store", "raw")) not in STORES:
        raise reader.fail(f"store is {store!r}; known: {', '.join(STORES)}")
    if (headline := document.get("headline", HEADLINES[0])) not in HEADLINES:
        raise reader.fail(f"headline is {headline!r}; known: {', '.join(HEADLINES)}")
    reader.names("classes")
    for key in ("description", "homepage"):
        reader.optional(key, str, "a string")
    for key in ("model", "transforms", "source", "recipe"):
        reader.get(key, dict, "a table")
    for key in ("rule", "expansion"):
        reader.optional(key, dict, "a table")
    check_model(reader)
    check_transforms(document["transforms"], reader.fail)
    _check_named(reader, "domains", "name", NAME)
    for domain in document["domains"]:
        Reader(domain, f"{where}: domain {domain['name']}").names("folders")
    _check_tables(reader, "lists")
    _check_mirrors(reader)
    check_recipes(reader)
    _check_named(reader, "tasks", "id", _TASK_ID)
    if taken := [e["id"] for e in reader.document["tasks"] if e["id"] in _AVERAGES]:
        raise reader.fail(f"a task cannot be called {taken[0]}, as boards call an average of tasks")
    check_sources(reader)


def _check_mirrors(reader: Reader) -> None:
    """Where the images can be downloaded: an address, optionally its size and SHA-256."""
    for index, entry in enumerate(_check_tables(reader, "mirrors")):
        mirror = Reader(entry, f"{reader.where}: mirrors[{index}]")
        address = mirror.text("address")
        for key in ("title", "revision", "drive_id", "drive_resource_key"):
            mirror.optional(key, str, "a string")
        try:
            host = urlsplit(address).hostname
        except ValueError as error:
            raise mirror.fail(f"address is {address!r}, which is not a URL: {error}") from None
        if host == DRIVE and "drive_id" not in entry:
            raise mirror.fail(f"an address on {DRIVE} needs drive_id, the id of the file in it")
        if "bytes" in entry and mirror.get("bytes", int, "a number of bytes") < 1:
            raise mirror.fail("bytes must be at least 1")
        if "sha256" in entry:
            mirror.sha256("sha256")


def _check_tables(reader: Reader, key: str) -> list[dict[str, Any]]:
    """The entries of an array of tables, which may be absent."""
    entries = reader.document.get(key, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise reader.fail(f"{key} must be an array of tables [[{key}]]")
    return entries


def _check_named(reader: Reader, key: str, name: str, pattern: re.Pattern[str]) -> None:
    """A non-empty array of tables, each with a valid and unique name."""
    entries = reader.get(key, list, f"an array of tables [[{key}]]")
    if not entries or not all(isinstance(entry, dict) for entry in entries):
        raise reader.fail(f"{key} must be a non-empty array of tables [[{key}]]")
    names = [
        Reader(e, f"{reader.where}: {key}[{i}]").text(name, pattern) for i, e in enumerate(entries)
    ]
    if twice := repeated(names):
        raise reader.fail(f"{key} contains {first(twice)} more than once")


def check_tasks(manifest: Manifest, where: str) -> None:
    """Check every task: its domains and classes, and that no group is empty.

    Raises:
        ManifestError: a rule is broken; the message begins with ``where``.
    """
    known_domains = {domain.name for domain in manifest.domains}
    readers = [Reader(e, f"{where}: task {e['id']}") for e in manifest.document["tasks"]]
    for reader in readers:
        sources, seen = reader.names("sources"), reader.names("seen")
        target = reader.text("target")
        if unknown := [d for d in (*sources, target) if d not in known_domains]:
            raise reader.fail(f"unknown domain {first(unknown)}; known: {sorted(known_domains)}")
        if target in sources:
            raise reader.fail(f"the target {target!r} is also a source; choose another target")
        missing = reader.names("missing") if "missing" in reader.document else []
        for group, names in (("seen", seen), ("missing", missing)):
            if unknown := [c for c in names if c not in set(manifest.classes)]:
                raise reader.fail(
                    f"unknown class {first(unknown)} in {group}; check the list of classes"
                )
        if both := [c for c in missing if c in set(seen)]:
            raise reader.fail(f"class {first(both)} is listed as both seen and missing")
    for reader in readers:  # when all are checked: the manifest builds its tasks together
        _check_groups(manifest, manifest.task(reader.document["id"]), reader)


def _check_groups(manifest: Manifest, task: Task, reader: Reader) -> None:
    mask = manifest.seen_mask(task)
    train = manifest.class_counts(task.target, "train")
    test = manifest.class_counts(task.target, "test")
    if (empty := np.flatnonzero(mask & (train == 0))).size:
        names = [manifest.classes[i] for i in empty]
        raise reader.fail(
            f"every seen class needs training images in {task.target}, but these have none: "
            f"{first(names)}"
        )
    if mask.all():
        raise reader.fail("every class is seen; a partial-target task needs missing classes")
    for group, members in (("seen", mask), ("missing", manifest.missing_mask(task))):
        if test[members].sum() == 0:
            raise reader.fail(f"{task.target} has no test images of {group} classes")
    if manifest.class_counts(task.sources, "train").sum() == 0:
        raise reader.fail(f"the source {'+'.join(task.sources)} has no training images")
