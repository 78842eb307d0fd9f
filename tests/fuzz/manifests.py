"""Manifests and suites."""

from __future__ import annotations

import io
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmark.folders import packaged_manifests
from benchmark.manifest.catalogue import load_manifest
from benchmark.manifest.croissant import croissant_text
from benchmark.manifest.read import read_manifest
from benchmark.manifest.suite import load_suite
from tests.fuzz.target import Read, Target

ICONS = packaged_manifests() / "icons" / "2.0"


def _small_images(**options: Any) -> bytes:
    """Icons of three classes: all splits of all domains."""
    table = pq.read_table(
        ICONS / "images.parquet", filters=[("class", "in", ["bell", "bug", "star"])]
    )
    rows: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in table.to_pylist():
        rows.setdefault((row["domain"], row["class"], row["split"]), []).append(row)
    some = [row for cell in rows.values() for row in cell[:2]]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(some, schema=table.schema), sink, **options)
    return sink.getvalue()


def _small_document() -> dict[str, Any]:
    document = tomllib.loads((ICONS / "manifest.toml").read_text("utf-8"))
    del document["source"]["checkpoints"]
    document["classes"] = ["bell", "bug", "star"]
    document["tasks"] = [{**task, "seen": ["bell", "bug"]} for task in document["tasks"][:2]]
    return document


def _small_manifest() -> bytes:
    from benchmark.manifest.toml import to_toml

    return to_toml(_small_document()).encode()


def _use_manifest(folder: Path) -> object:
    manifest = read_manifest(folder)
    for task in manifest.tasks:
        manifest.samples(task.target, "test")
        manifest.seen_mask(task)
    return manifest.digest, croissant_text(manifest)


def _manifest_toml(folder: Path) -> Read:
    (folder / "images.parquet").write_bytes(_small_images())

    def read(data: bytes) -> object:
        (folder / "manifest.toml").write_bytes(data)
        return _use_manifest(folder)

    return read


def _manifest_images(folder: Path) -> Read:
    from benchmark.images.store.embedded import embedded_images

    (folder / "manifest.toml").write_bytes(_small_manifest())

    def read(data: bytes) -> object:
        (folder / "images.parquet").write_bytes(data)
        _use_manifest(folder)
        manifest = read_manifest(folder)
        return [list(embedded_images(manifest, domain.name)) for domain in manifest.domains]

    return read


def _suite(folder: Path) -> Read:
    def read(data: bytes) -> object:
        (folder / "suite.toml").write_bytes(data)
        suite = load_suite(str(folder / "suite.toml"))
        load_manifest(suite.manifest).with_recipe(suite.recipe)
        return suite

    return read


def _suite_seeds() -> list[bytes]:
    return [path.read_bytes() for path in sorted((packaged_manifests() / "suites").glob("icons*"))]


TARGETS: Mapping[str, Target] = {
    "manifest-toml": Target(_manifest_toml, lambda: [_small_manifest()]),
    "manifest-images": Target(
        _manifest_images,
        lambda: [_small_images(), _small_images(compression="gzip", use_dictionary=False)],
    ),
    "suite-toml": Target(_suite, _suite_seeds),
}
