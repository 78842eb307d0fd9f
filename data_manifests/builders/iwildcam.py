"""Builder of the data files of iwildcam@1.1: classes and locations, from public facts."""

from __future__ import annotations

import csv
import io
import json
import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark.errors import DataError
from benchmark.folders import packaged_manifests
from data_manifests.builders import IWILDCAM_VERSION
from data_manifests.builders.parts import read_fact

NAME = "iwildcam"
RECIPE = "recipe.toml"
NO_CLASS = 99999  # y of categories without images in the data set
FACTS = {
    "facts.json": "2c0b70324928850cfa0c2b27375db987455c202163a92233026cebd6b7fca6bb",
    "labels.csv": "3aa81be6bfded6764247edd7f491b04a25b85c34321b748ff170809e6b97d3e1",
    "location_splits.csv": "d8a4fc35c8b0d9fe9611f426b7df182986193dc80c89be7b91421aaae6a4c00d",
}


def build(facts: Path) -> dict[str, bytes]:
    """Build ``classes.csv`` and ``locations.csv``, and check the recipe against the facts.

    Returns:
        Content by file name.

    Raises:
        DataError: a fact cannot be read or is not the published file, or the recipe contradicts
            the facts.
    """
    texts = {name: read_fact(facts, name, sha256) for name, sha256 in FACTS.items()}
    recipe = tomllib.loads(
        (packaged_manifests() / NAME / IWILDCAM_VERSION / RECIPE).read_text("utf-8")
    )
    check_recipe(recipe, json.loads(texts["facts.json"]))
    return {
        "classes.csv": classes_csv(texts["labels.csv"]).encode(),
        "locations.csv": locations_csv(texts["location_splits.csv"]).encode(),
    }


def classes_csv(labels: str) -> str:
    """Return ``classes.csv``, ordered by ``y``, which is also the order of the logits.

    Two classes share a species name; their category id is appended, as in ``mazama temama 380``.

    Raises:
        DataError: the values of ``y`` are not 0, 1, 2, ...
    """
    classes = [row for row in csv.DictReader(io.StringIO(labels)) if int(row["y"]) < NO_CLASS]
    classes.sort(key=lambda row: int(row["y"]))
    if [int(row["y"]) for row in classes] != list(range(len(classes))):
        raise DataError("the classes in labels.csv are not numbered 0, 1, 2, ...")
    counts = Counter(row["name"] for row in classes)
    rows = []
    for row in classes:
        unique = row["name"] if counts[row["name"]] == 1 else f"{row['name']} {row['category_id']}"
        rows.append([row["y"], row["category_id"], unique, row["english"]])
    return _csv(["y", "category_id", "class", "english"], rows)


def locations_csv(splits: str) -> str:
    """Return ``locations.csv``: the remapped locations with the WILDS splits of their images."""
    locations = sorted(
        csv.DictReader(io.StringIO(splits)), key=lambda row: int(row["location_remapped"])
    )
    return _csv(
        ["location", "splits"],
        [[row["location_remapped"], row["wilds_splits"].replace(";", " ")] for row in locations],
    )


def check_recipe(recipe: Mapping[str, Any], facts: Mapping[str, object]) -> None:
    """Check the hand-written recipe against the facts.

    Raises:
        DataError: they differ.
    """
    metadata, (official, copy) = recipe["metadata"], recipe["mirrors"]
    values = {
        "metadata_csv_md5": metadata["md5"],
        "n_images": metadata["rows"],
        "download_url": official["address"],
        "archive_bytes_mirror": copy["bytes"],
        "archive_sha256": copy["sha256"],
    }
    if differing := [name for name, value in values.items() if facts[name] != value]:
        raise DataError(
            f"{RECIPE} and facts.json differ in: {', '.join(differing)}; correct {RECIPE}"
        )


def _csv(header: list[str], rows: list[list[str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
