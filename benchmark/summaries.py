"""Manifests, tasks and suites as plain records, for lists and JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from benchmark.errors import ManifestError
from benchmark.folders import packaged_manifests
from benchmark.images.store.store import check_images
from benchmark.manifest.catalogue import (
    load_manifest,
    load_published,
    pinned_digests,
    shown_reference,
)
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.roles import split_totals
from benchmark.manifest.suite import Suite, load_suites
from benchmark.sources.spec import SourceSpec, find_source

if TYPE_CHECKING:
    import pandas as pd

Report = Callable[[str], None]


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
    import pyarrow.compute as pc

    if "group" not in manifest.table.column_names:
        return None
    return int(pc.count_distinct(manifest.table["group"], mode="only_valid").as_py())


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


def dataset_summaries(report: Report) -> list[dict[str, Any]]:
    """Every data set version; see :func:`benchmark.manifest.catalogue.load_published`."""
    return [
        {
            "manifest": _shown(manifest),
            "images": manifest.table.num_rows,
            "classes": len(manifest.classes),
            "domains": [domain.name for domain in manifest.domains],
            "tasks": len(manifest.tasks),
            "title": manifest.document["title"],
        }
        for manifest in load_published(report)
    ]


def task_summaries(suite: Suite | None, report: Report) -> list[dict[str, Any]]:
    """The tasks of a suite, or of every data set version as in :func:`dataset_summaries`."""
    manifests = [load_manifest(suite.manifest)] if suite else load_published(report)
    return [
        {
            "task": task.id,
            "manifest": shown,
            "sources": list(task.sources),
            "target": task.target,
            "seen": len(task.seen),
            "missing": int(manifest.missing_mask(task).sum()),
        }
        for manifest in manifests
        for shown in [_shown(manifest)]
        for task in manifest.tasks
        if suite is None or task.id in suite.tasks
    ]


def suite_summaries(report: Report) -> list[dict[str, Any]]:
    """Every suite whose manifest can be read; see :func:`benchmark.manifest.suite.load_suites`."""
    suites = load_suites(report)
    shown: dict[str, str] = {}
    for reference in dict.fromkeys(suite.manifest for suite in suites):
        try:
            shown[reference] = _shown(load_manifest(reference))
        except ManifestError as error:
            names = [suite.argument for suite in suites if suite.manifest == reference]
            verb = "is" if len(names) == 1 else "are"
            report(f"{' and '.join(names)} {verb} left out: {error}")
    return [
        {
            **vars(suite),
            "manifest": shown[suite.manifest],
            "tasks": list(suite.tasks),
            "methods": list(suite.methods),
            "seeds": list(suite.seeds),
        }
        for suite in suites
        if suite.manifest in shown
    ]


def _shown(manifest: Manifest) -> str:
    return shown_reference(manifest.reference, manifest.digest)
