"""Expand a recipe such as ``iwildcam@1.1`` into a manifest with the user's metadata file.

A recipe is ``recipe.toml`` plus the classes and locations of its data set. Its expansion is a
manifest like any other, and result rows carry the digest of the expansion.

The rule: the source is the images of the split ``train``. Every location of the split ``test`` is
a candidate for a task. Its days are the D dates that have images; a sequence belongs to the day of
its first image, so that no burst straddles the cut. The adaptation set is the sequences of the
first floor(D/2) days, the test set is the rest. Seen classes are those of the adaptation set,
missing classes those of the test set that the adaptation set does not have; both are classes of the
source's training images. Test images of other classes are in neither group. A location becomes a
task if all of these sets are large enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.commands import command
from benchmark.errors import ManifestError, UsageError, first
from benchmark.files import check_output, new_folder
from benchmark.manifest.catalogue import own_folder
from benchmark.manifest.manifest import IMAGES_FILE, MANIFEST_FILE, Manifest
from benchmark.manifest.metadata import Metadata
from benchmark.manifest.read import read_manifest
from benchmark.manifest.recipe import ManifestRecipe
from benchmark.manifest.toml import to_toml
from benchmark.text import plural

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

SOURCE_DOMAIN = "train"
IMAGE_FOLDER = "train"  # the archive keeps the images of all splits in this folder


@dataclass(frozen=True)
class Location:
    """One candidate location under the rule.

    Attributes:
        location: its remapped number; ``days``: dates that have images.
        adaptation, test: images of the two sets.
        test_seen, test_missing, excluded: test images of seen, missing and all other classes.
        seen, missing: class names in the order of the manifest.
        left_out: reasons why it is not a task; empty if it is one.
    """

    location: int
    days: int
    adaptation: int
    test: int
    test_seen: int
    test_missing: int
    excluded: int
    seen: tuple[str, ...]
    missing: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of its domain and task."""
        return f"loc-{self.location}"


@dataclass(frozen=True, eq=False)
class Expansion:
    """A manifest that has not been written yet.

    Attributes:
        document: content of ``manifest.toml``; ``images``: content of ``images.parquet``.
        locations: every candidate, in order.
        suite: the grid of all its tasks.
    """

    document: dict[str, Any]
    images: pa.Table
    locations: tuple[Location, ...]
    suite: dict[str, Any]

    @property
    def home(self) -> Path:
        """The folder where :func:`benchmark.manifest.catalogue.load_manifest` looks for it."""
        return own_folder(f"{self.document['name']}@{self.document['version']}")


def expand_recipe(recipe: ManifestRecipe, metadata: Metadata) -> Expansion:
    """Apply the rule of a recipe to a metadata file.

    Raises:
        ManifestError: no location qualifies as a task, or the source has no images.
    """
    rule = recipe.rule
    is_source = metadata.split == rule.source_train
    if not is_source.any():
        raise ManifestError(f"the metadata file has no images in the split {rule.source_train!r}")
    known = np.bincount(metadata.y[is_source], minlength=len(recipe.classes)) > 0
    domain = np.full(len(metadata.y), "", dtype=object)
    split = np.where(metadata.split == rule.source_test, "test", "train").astype(object)
    domain[is_source | (metadata.split == rule.source_test)] = SOURCE_DOMAIN
    rows_of = _rows_of(metadata.location, metadata.split == rule.target)
    candidates = sorted(n for n, splits in recipe.splits.items() if rule.target in splits)
    locations = []
    for number in candidates:
        rows = rows_of.get(number, np.array([], dtype=np.intp))
        days, adaptation = _first_half(metadata, rows)
        location = _location(number, days, adaptation, metadata.y[rows], known, recipe)
        locations.append(location)
        if not location.left_out:
            domain[rows] = location.name
            split[rows] = np.where(adaptation, "train", "test")
    tasks = [location for location in locations if not location.left_out]
    if not tasks:
        reasons = "; ".join(
            f"{location.name}: {', '.join(location.left_out)}" for location in locations[:5]
        )
        raise ManifestError(
            f"none of the {plural(len(locations), 'location')} qualifies as a task; for "
            f"example: {reasons}"
        )
    return Expansion(
        _document(recipe, metadata, tasks),
        _images(recipe, metadata, domain, split),
        tuple(locations),
        _suite(recipe, tasks),
    )


def _rows_of(location: NDArray[np.int64], wanted: NDArray[np.bool_]) -> dict[int, NDArray[np.intp]]:
    """Row numbers of every location."""
    rows = np.flatnonzero(wanted)
    rows = rows[np.argsort(location[rows], kind="stable")]
    numbers, starts = np.unique(location[rows], return_index=True)
    return dict(zip(numbers.tolist(), np.split(rows, starts[1:]), strict=True))


def _first_half(metadata: Metadata, rows: NDArray[np.intp]) -> tuple[int, NDArray[np.bool_]]:
    """The number of days of a location, and a mask of its images in the first half of them."""
    if not rows.size:
        return 0, np.zeros(0, dtype=np.bool_)
    days = np.unique(metadata.date[rows])
    _, sequence = np.unique(metadata.seq_id[rows].astype(str), return_inverse=True)
    start = np.full(sequence.max() + 1, metadata.time[rows].max())
    np.minimum.at(start, sequence, metadata.time[rows])
    cut = days[len(days) // 2]  # the first day of the test set
    return len(days), start.astype("datetime64[D]")[sequence] < cut


def _location(
    number: int,
    days: int,
    adaptation: NDArray[np.bool_],
    y: NDArray[np.int64],
    known: NDArray[np.bool_],
    recipe: ManifestRecipe,
) -> Location:
    rule, count = recipe.rule, len(recipe.classes)
    test = np.bincount(y[~adaptation], minlength=count)
    in_adaptation = np.bincount(y[adaptation], minlength=count) > 0
    seen = in_adaptation & known
    missing = (test > 0) & known & ~in_adaptation
    needs = (
        (int(adaptation.sum()), rule.min_adaptation_images, "adaptation image"),
        (int(test.sum()), rule.min_test_images, "test image"),
        (int(test[seen].sum()), rule.min_seen_test_images, "seen test image"),
        (int(test[missing].sum()), rule.min_missing_test_images, "missing test image"),
    )
    if days < 2:
        left_out: tuple[str, ...] = ("one day" if days else "no images",)
    else:
        left_out = tuple(
            f"{plural(n, what)} ({least} required)" for n, least, what in needs if n < least
        )
    return Location(
        location=number,
        days=days,
        adaptation=int(adaptation.sum()),
        test=int(test.sum()),
        test_seen=int(test[seen].sum()),
        test_missing=int(test[missing].sum()),
        excluded=int(test[~seen & ~missing].sum()),
        seen=tuple(recipe.classes[i] for i in np.flatnonzero(seen)),
        missing=tuple(recipe.classes[i] for i in np.flatnonzero(missing)),
        left_out=left_out,
    )


def _document(
    recipe: ManifestRecipe, metadata: Metadata, tasks: Sequence[Location]
) -> dict[str, Any]:
    document = {k: v for k, v in recipe.document.items() if k not in ("kind", "metadata", "suite")}
    if not metadata.published:
        document["version"] += f"+{metadata.digest[:8]}"
    names = [SOURCE_DOMAIN, *(task.name for task in tasks)]
    return document | {
        "expansion": {
            "recipe": recipe.reference,
            "recipe_digest": recipe.digest,
            "metadata_digest": metadata.digest,
            "metadata_is_published": metadata.published,
        },
        "classes": list(recipe.classes),
        "domains": [{"name": name, "folders": [IMAGE_FOLDER]} for name in names],
        "tasks": [
            {
                "id": task.name,
                "sources": [SOURCE_DOMAIN],
                "target": task.name,
                "seen": list(task.seen),
                "missing": list(task.missing),
            }
            for task in tasks
        ],
    }


def _images(
    recipe: ManifestRecipe,
    metadata: Metadata,
    domain: NDArray[np.object_],
    split: NDArray[np.object_],
) -> pa.Table:
    import pyarrow as pa

    rows = np.flatnonzero(domain != "")
    classes = np.array(recipe.classes, dtype=object)
    columns = {
        "image_id": metadata.image_id[rows],
        "domain": domain[rows],
        "class": classes[metadata.y[rows]],
        "split": split[rows],
        "path": f"{IMAGE_FOLDER}/" + metadata.filename[rows],
        "group": metadata.seq_id[rows],
        "datetime": metadata.datetime[rows],
    }
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def _suite(recipe: ManifestRecipe, tasks: Sequence[Location]) -> dict[str, Any]:
    return {
        "title": recipe.document["title"],
        "manifest": ".",  # the folder of the suite's file
        "tasks": [task.name for task in tasks],
        **recipe.document["suite"],
    }


def write_expansion(expansion: Expansion, folder: Path | None = None) -> Manifest:
    """Write an expansion as a manifest that passes every check, or write nothing.

    Args:
        expansion: what to write: ``manifest.toml``, ``images.parquet`` and a suite of all tasks,
            ``<name>.toml``.
        folder: the destination; default :attr:`Expansion.home`. It appears whole and replaces an
            earlier expansion.

    Raises:
        UsageError: the folder contains something else.
        ManifestError: the expansion breaks a rule of manifests.
    """
    import pyarrow.parquet as pq

    folder = expansion.home if folder is None else folder
    suite = f"{expansion.document['name']}.toml"
    _check_free(folder, {MANIFEST_FILE, IMAGES_FILE, suite})
    try:
        with new_folder(folder) as building:
            text = (
                "# Written by `htbench manifest expand "
                f"{expansion.document['expansion']['recipe']}`; the digest covers the values only, "
                "not this comment.\n\n"
            )
            (building / MANIFEST_FILE).write_text(text + to_toml(expansion.document), "utf-8")
            pq.write_table(expansion.images, building / IMAGES_FILE, compression="zstd")
            text = (
                f"# All tasks of this manifest. To run them: {command('run', '--suite', suite)}\n"
            )
            (building / suite).write_text(text + to_toml(expansion.suite), "utf-8")
            read_manifest(building)
    except OSError as error:
        raise UsageError(
            f"cannot write {folder}: {error.strerror or error}; choose another folder with --out"
        ) from None
    return read_manifest(folder)


def _check_free(folder: Path, ours: set[str]) -> None:
    """Allow an earlier expansion to be replaced, and nothing else."""
    check_output(folder, folder=True)
    if not folder.exists():
        return
    if others := sorted({path.name for path in folder.iterdir()} - ours):
        raise UsageError(
            f"--out {folder} already contains {first(others)}; give a new or empty folder"
        )
