"""The text of `manifest.toml`: facts about the data set, recipes, tasks and seen classes."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmark.errors import DataError
from benchmark.manifest.draws import draw_classes
from benchmark.manifest.toml import to_toml
from data_manifests.builders.icons import VERSION
from data_manifests.builders.icons.drawing import IMAGE_SIZE
from data_manifests.builders.icons.selection import DOMAINS

NAME = "icons"
CHECKPOINTS = "checkpoints"  # folder of the source models
N_SEEN = 32
N_DRAWS = 3
PAIRS = (
    ("outline-solid", ["outline"], "solid"),
    ("solid-outline", ["solid"], "outline"),
    ("outline-color", ["outline"], "color"),
    ("solid-color", ["solid"], "color"),
    ("outline+solid-color", ["outline", "solid"], "color"),
)
# The tasks with other numbers of seen classes. Draws are nested: 8 of 16 of 32 of 48.
PARTIAL_PAIRS = ("outline-solid", "solid-outline")
PARTIAL_SEEN = (8, 16, 48)
PARTIAL_DRAWS = (1, 2)
TRAINING_TABLES = ("model", "transforms", "source", "recipe", "recipes")

TITLE = "Icons in three drawing styles"
DESCRIPTION = """
Small icons of 65 everyday objects, drawn as outlines, as solid shapes or in colours by the
authors of 158 open icon sets. Families of icon sets are in train or in test as a whole, and no test
image is a near copy of a training image of its class and domain."""
HOMEPAGE = "https://icon-sets.iconify.design/"
TERMS = """
Every icon keeps the licence of its icon set: MIT, Apache-2.0, CC-BY-4.0, ISC, BSD-3-Clause or
Unlicense. ATTRIBUTION.csv beside this file names each set with its author and licence; pass it on
with the images. The icons were rendered on white, reduced to 32 x 32 pixels, and those of the
domains outline and solid turned to grey."""
CITATION = """
@misc{holistic-transfer-bench-icons,
  title  = {Icons: 65 objects in three drawing styles, version 2.0},
  author = {{The Holistic Transfer Bench developers}},
  year   = {2026},
}"""

ABOUT_FILE = """\
# The manifest of icons@2.0. Its rows (which image is in which domain, class and split, and the
# images themselves) are in images.parquet beside it.
#
# Written by data_manifests/builders/icons: edit that, or its training.toml, and not this file. A
# published version never changes; a correction is a new version.
#
# Every task has a draw of seen classes of its own. Sort the class names by the hexadecimal SHA-256
# of the UTF-8 string "icons/2.0/seen/<pair>/<draw>/<class>", take the first 32 (or as many as the
# id says), and list them in class order. <pair> is the id up to a dot, <draw> is 1 unless the id
# names another. They are written down by name in every task, so nothing recomputes them when used.
"""
ABOUT_IMAGES = """\
# Nothing is downloaded: images.parquet holds the PNG files, in the column `image`.
"""
ABOUT_CLASSES = """\
# The order of the classes is the order of a model's outputs.
"""
ABOUT_DOMAINS = """\
# A domain is a drawing style; `folders` are the names that copies on disk use for it.
"""
ABOUT_RECIPES = """\
# The model, the transforms, and how the source model and then the adapted model are trained.
"""
ABOUT_TASKS = """\
# Adapt from the source domains to the target with training images of the seen classes only. The
# first five tasks are the default; then two more draws of each, and other numbers of seen classes.
"""


def tasks(classes: Sequence[str]) -> list[dict[str, object]]:
    """Return the entries in ``[[tasks]]``, with seen classes by the rule in ABOUT_FILE."""

    def task(pair: str, suffix: str, draw: int, n_seen: int) -> dict[str, object]:
        _, sources, target = next(entry for entry in PAIRS if entry[0] == pair)
        seen = draw_classes(f"{NAME}/{VERSION}/seen/{pair}/{draw}", classes, n_seen)
        return {"id": pair + suffix, "sources": sources, "target": target, "seen": seen}

    pairs = [pair for pair, _, _ in PAIRS]
    draws = range(2, N_DRAWS + 1)
    return [
        *(task(pair, "", 1, N_SEEN) for pair in pairs),
        *(task(pair, f".draw{draw}", draw, N_SEEN) for draw in draws for pair in pairs),
        *(
            task(pair, f".seen{n}.draw{draw}", draw, n)
            for pair in PARTIAL_PAIRS
            for n in PARTIAL_SEEN
            for draw in PARTIAL_DRAWS
        ),
    ]


def read_training(path: Path) -> dict[str, Mapping[str, object]]:
    """Read training.toml, which the recipe search writes.

    Returns:
        The tables TRAINING_TABLES, in that order.

    Raises:
        DataError: the file cannot be read, or does not contain exactly these tables.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"cannot read '{path}': {error}") from error
    tables = {key: value for key, value in content.items() if isinstance(value, dict)}
    if set(content) != set(TRAINING_TABLES) or set(tables) != set(content):
        raise DataError(
            f"'{path}' must contain exactly the tables {', '.join(TRAINING_TABLES)}, "
            f"but contains {', '.join(content) or 'nothing'}"
        )
    return {name: tables[name] for name in TRAINING_TABLES}


def manifest_text(
    classes: Sequence[str],
    training: Mapping[str, Mapping[str, object]],
) -> str:
    """Return the full text of `manifest.toml`."""
    domains = [{"name": domain, "folders": [domain]} for domain in DOMAINS]
    blocks = [
        ABOUT_FILE,
        to_toml(_identity()) + ABOUT_IMAGES + to_toml({"images": "embedded"}),
        ABOUT_CLASSES + to_toml({"classes": list(classes)}),
        ABOUT_DOMAINS + to_toml({"domains": domains}),
        ABOUT_RECIPES + to_toml(training),
        ABOUT_TASKS + to_toml({"tasks": tasks(classes)}),
    ]
    return "\n".join(blocks)


def _identity() -> dict[str, object]:
    return {
        "format": 1,
        "name": NAME,
        "version": VERSION,
        "title": TITLE,
        "description": DESCRIPTION.strip(),
        "homepage": HOMEPAGE,
        "terms": TERMS.strip(),
        "citation": CITATION.strip(),
        "image_size": IMAGE_SIZE,
    }
