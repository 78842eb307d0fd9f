"""Builder of pacs@1.0: manifest and images from the list of the data set's files."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import permutations
from pathlib import Path

from benchmark.manifest.draws import draw_classes, training_paths
from data_manifests.builders import VERSION
from data_manifests.builders.parts import (
    IMAGES,
    MANIFEST,
    Image,
    Task,
    images_bytes,
    manifest_text,
    read_fact,
)

NAME = "pacs"
DOMAINS = ("art_painting", "cartoon", "photo", "sketch")
TRAIN_SHARE = Fraction(7, 10)
N_SEEN = 4
DRAWS = (1, 2)

FILES = "pacs_files.csv.gz"  # path and SHA-256 of every image, among other columns
FILES_SHA256 = "e5c59f0d6d300748ecad798b86d9328669662cc1efc07faa605ea8998f19cc32"


def split(paths: Iterable[str]) -> list[Image]:
    """Split the images of each class and domain 70:30, see :func:`training_paths`."""
    cells: defaultdict[str, list[str]] = defaultdict(list)
    for path in paths:
        cells[path.rpartition("/")[0]].append(path)
    images = []
    for members in cells.values():
        train = training_paths(members, TRAIN_SHARE)
        images += [Image(path, "train" if path in train else "test") for path in members]
    return images


def make_tasks(classes: Sequence[str]) -> list[Task]:
    """Return the first draw of the seen classes for all twelve ordered pairs, then the second."""
    tasks = []
    for draw in DRAWS:
        suffix = "" if draw == 1 else f".draw{draw}"
        for source, target in permutations(DOMAINS, 2):
            seen = draw_classes(f"{NAME}/{VERSION}/seen/{source}/draw{draw}", classes, N_SEEN)
            tasks.append(Task(f"{source}-{target}{suffix}", source, target, seen))
    return tasks


def build(facts: Path) -> dict[str, bytes]:
    """Build all files of the version from a folder of facts.

    Returns:
        Content by path relative to the version's folder.

    Raises:
        DataError: the list cannot be read, or is another one.
    """
    rows = csv.DictReader(io.StringIO(read_fact(facts, FILES, FILES_SHA256)))
    return build_files({row["path"]: row["sha256"] for row in rows})


def build_files(sha256: Mapping[str, str]) -> dict[str, bytes]:
    """Build all files of the version from the SHA-256 (hex) of each image by its path."""
    images = split(sha256)
    classes = sorted({image.class_name for image in images})
    return {
        MANIFEST: manifest_text(NAME, classes, make_tasks(classes)).encode(),
        IMAGES: images_bytes(images, sha256),
    }
