"""Manifests, tasks and suites as plain records, for lists and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.errors import ManifestError
from benchmark.folders import packaged_manifests
from benchmark.images.store.store import check_images
from benchmark.manifest.catalogue import (
    load_manifest,
    pinned_digests,
    published_manifests,
    shown_reference,
)
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.roles import split_totals
from benchmark.manifest.suite import Suite, known_suites, load_suite, own_suites
from benchmark.sources.spec import SourceSpec, find_source

if TYPE_CHECKING:
    import pandas as pd


def manifest_summary(manifest: Manifest) -> dict[str, Any]:
    """What a manifest contains: names, counts by domain and by task, and its settings."""
    document = manifest.document
    return {
        "manifest": _shown(manifest),
        "digest": manifest.digest,
        "title": document["title"],
        "terms": document["terms"],
        "classes": list(manifest.classes),
        "domains": [
            {
                "domain": domain.name,
                **{s: int(manifest.class_counts(domain.name, s).sum()) for s in ("train", "test")},
            }
            for domain in manifest.domains
        ],
        "tasks": _task_counts(manifest),
        "source_models": [asdict(pin) for pin in manifest.checkpoints],
        **{key: document[key] for key in ("model", "transforms", "source", "recipe")},
    }


def task_counts(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of a table of tasks: id, seen classes, and images of the target.

    Args:
        summary: what :func:`manifest_summary` returned.
    """
    columns = ["task", "seen_classes", "train_seen", "train_missing", "test_seen", "test_missing"]
    if any(task["test_excluded"] for task in summary["tasks"]):
        columns.append("test_excluded")
    return [{column: task[column] for column in columns} for task in summary["tasks"]]


def _task_counts(manifest: Manifest) -> list[dict[str, Any]]:
    tasks = []
    for task in manifest.tasks:
        seen, missing = manifest.seen_mask(task), manifest.missing_mask(task)
        counts = {}
        for split in ("train", "test"):
            of_class = manifest.class_counts(task.target, split)
            counts[f"{split}_seen"] = int(of_class[seen].sum())
            counts[f"{split}_missing"] = int(of_class[missing].sum())
        counts["test_excluded"] = int(of_class[~seen & ~missing].sum())
        tasks.append(
            {
                "task": task.id,
                "seen_classes": int(seen.sum()),
                **counts,
                "sources": list(task.sources),
                "target": task.target,
                "seen": list(task.seen),
                "missing": [manifest.classes[i] for i in missing.nonzero()[0]],
            }
        )
    return tasks


def splits_summary(manifest: Manifest, counts: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """The images of some tasks, in total and by class.

    Args:
        manifest: the manifest of the tasks.
        counts: what :func:`benchmark.manifest.roles.class_counts` returned, by task id.
    """
    return {
        "manifest": _shown(manifest),
        "digest": manifest.digest,
        "tasks": [
            {
                "task": name,
                "sources": list(manifest.task(name).sources),
                "target": manifest.task(name).target,
                "totals": split_totals(frame),
                "classes": frame.to_dict("records"),
            }
            for name, frame in counts.items()
        ],
    }


def group_count(manifest: Manifest) -> int | None:
    """How many groups the images belong to, such as cameras; None without that column."""
    if "group" not in manifest.table.column_names:
        return None
    return len(np.unique(manifest.table["group"].to_pylist()))


def verify_manifest(manifest: Manifest) -> dict[str, Any]:
    """Decode packaged images, and compare the digest and files of source models with the pins.

    Returns:
        ``manifest``, ``digest``, ``images`` (decoded; 0 if none are packaged) and ``pinned``.

    Raises:
        DataError: an image cannot be decoded, or a fixed source model is missing or damaged.
        ManifestError: a published manifest does not have its pinned digest.
    """
    images = check_images(manifest) if manifest.document["images"] == "embedded" else 0
    for checkpoint in manifest.checkpoints:
        find_source(SourceSpec.of(manifest, checkpoint.sources, "cpu", checkpoint.seed))
    pin = pinned_digests().get(manifest.reference)
    if manifest.root.is_relative_to(packaged_manifests()) and pin != manifest.digest:
        raise ManifestError(
            f"{manifest.reference} has digest {manifest.digest}, but data_manifests/digests.toml "
            f"pins {pin or 'none'}: a published version never changes; publish a new version"
        )
    return {
        "manifest": _shown(manifest),
        "digest": manifest.digest,
        "images": images,
        "pinned": pin == manifest.digest,
    }


def dataset_summaries() -> list[dict[str, Any]]:
    """Every published data set version."""
    return [
        {
            "manifest": _shown(manifest),
            "images": manifest.table.num_rows,
            "classes": len(manifest.classes),
            "domains": [domain.name for domain in manifest.domains],
            "tasks": len(manifest.tasks),
            "title": manifest.document["title"],
        }
        for manifest in map(load_manifest, published_manifests())
    ]


def task_summaries(suite: Suite | None) -> list[dict[str, Any]]:
    """The tasks of a suite, or of every published data set."""
    references: Sequence[str] = [suite.manifest] if suite else published_manifests()
    return [
        {
            "task": task.id,
            "manifest": shown,
            "sources": list(task.sources),
            "target": task.target,
            "seen": len(task.seen),
            "missing": int(manifest.missing_mask(task).sum()),
        }
        for manifest in map(load_manifest, references)
        for shown in [_shown(manifest)]
        for task in manifest.tasks
        if suite is None or task.id in suite.tasks
    ]


def suite_summaries() -> list[dict[str, Any]]:
    """Every suite that ships, and those of manifests that the user expanded or added."""
    suites = [load_suite(name) for name in (*known_suites(), *own_suites())]
    shown = {m: _shown(load_manifest(m)) for m in {suite.manifest for suite in suites}}
    return [
        {
            **vars(suite),
            "manifest": shown[suite.manifest],
            "tasks": list(suite.tasks),
            "methods": list(suite.methods),
            "seeds": list(suite.seeds),
        }
        for suite in suites
    ]


def _shown(manifest: Manifest) -> str:
    return shown_reference(manifest.reference, manifest.digest)
