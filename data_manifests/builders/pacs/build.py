"""Builder of pacs@1.0: manifest and images from the list of the data set's files."""

from __future__ import annotations

import csv
import io
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import permutations
from pathlib import Path

from benchmark.manifest.draws import draw_classes, training_paths
from benchmark.manifest.manifest import IMAGES_FILE, MANIFEST_FILE
from data_manifests.builders import VERSION
from data_manifests.builders.parts import (
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
DRAWING = re.compile(r"(sketch/[^/]+/n\d+_\d+)-\d+\.png")  # of a photo, which is the first group

RECIPE = Path(__file__).with_name("recipe.toml")  # the table [recipe], which the search writes
FILES = "pacs_files.csv.gz"  # path and SHA-256 of every image, among other columns
FILES_SHA256 = "e5c59f0d6d300748ecad798b86d9328669662cc1efc07faa605ea8998f19cc32"


def group_of(path: str) -> str:
    """The group of an image: images of one group are on the same side of every split.

    Most sketches are drawings of a photo by several people: ``n02439033_12413-4.png`` is the fourth
    drawing of photo ``n02439033_12413``. They share the group ``sketch/<class>/<photo>``. Every
    other image is a group by itself, named by its path.
    """
    drawing = DRAWING.fullmatch(path)
    return drawing[1] if drawing else path


def split(paths: Iterable[str]) -> list[Image]:
    """Split the images of each class and domain 70:30, and keep each group on one side.

    Of n images, those of the first groups (see :func:`training_paths`) are training images, until
    these are at least floor(0.7 n).
    """
    cells: defaultdict[str, list[str]] = defaultdict(list)
    for path in paths:
        cells[path.rpartition("/")[0]].append(path)
    images = []
    for members in cells.values():
        train = training_paths(members, TRAIN_SHARE, group_of)
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
        MANIFEST_FILE: manifest_text(
            NAME, classes, make_tasks(classes), RECIPE.read_text("utf-8")
        ).encode(),
        IMAGES_FILE: images_bytes(images, sha256, group_of),
    }
